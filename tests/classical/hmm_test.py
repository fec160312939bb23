"""Tests hidden Markov models against sums over all paths, published likelihoods, and hmmlearn where it is installed."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from genlab.classical import hmm
from genlab.classical.emissions import Gaussian, Mixture, Poisson
from genlab.data.sources.sequences import EARTHQUAKES
from support import emissions as examples

LENGTHS = np.array([4, 2, 0, 1])
CHAIN = {
    'start': np.array([0.5, 0.2, 0.3]),
    'transition': np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]]),
}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def everything(chain, log_emission, lengths):
    """Returns three ways to smooth, (quick, exact, tree), and the Viterbi paths of sequences."""

    def one(log_emission, length):
        flat, tree = (hmm.Model(3, Poisson(3), parallel=parallel) for parallel in (False, True))
        ways = [
            hmm.forward_backward(model, chain, log_emission, length, exact=exact)
            for model, exact in ((flat, False), (flat, True), (tree, True))
        ]
        return ways, hmm.best_path(chain, log_emission, length)

    return jax.vmap(one)(log_emission, lengths)


compiled = jax.jit(everything)


def enumerated(chain, log_emission):
    """Returns {path: log p(path, x)} of one sequence, log_emission [T, K]."""
    start, transition = np.log(chain['start']), np.log(chain['transition'])
    return {
        path: start[path[0]]
        + sum(transition[move] for move in itertools.pairwise(path))
        + sum(row[state] for row, state in zip(log_emission, path))
        for path in itertools.product(range(3), repeat=len(log_emission))
    }


@pytest.mark.parametrize('name', examples.EMISSIONS)
def test_likelihood_posterior_pairs_and_viterbi_path_are_sums_over_all_paths(name):
    """The log-probabilities of the emissions are those of scipy. Padding changes nothing."""
    emission, parameters, x = examples.example(name, (4, 4, 2))
    flat = x.reshape(-1, 2)
    ours = jax.jit(emission.log_prob)(parameters, flat).reshape(4, 4, 3)
    theirs = np.array([[examples.log_prob(name, parameters, state, row) for state in range(3)] for row in flat])
    np.testing.assert_allclose(ours, theirs.reshape(4, 4, 3), rtol=1e-10)
    ways, (paths, scores) = compiled(CHAIN, ours, LENGTHS)
    for row, length in enumerate(LENGTHS):
        posterior, pairs, likelihood = np.zeros((4, 3)), np.zeros((3, 3)), 0.0
        if length:
            joint = enumerated(CHAIN, theirs.reshape(4, 4, 3)[row, :length])
            likelihood = np.logaddexp.reduce([*joint.values()])
            for path, value in joint.items():
                posterior[range(length), path] += np.exp(value - likelihood)
                for move in itertools.pairwise(path):
                    pairs[move] += np.exp(value - likelihood)
            best = max(joint, key=joint.get)
            assert (*np.asarray(paths[row, :length]),) == best
            np.testing.assert_allclose(scores[row], joint[best], rtol=1e-10)
        assert (paths[row, length:] == -1).all()
        for found, safe in ways:
            assert safe[row]
            np.testing.assert_allclose(found.log_likelihood[row], likelihood, rtol=1e-10)
            np.testing.assert_allclose(found.posterior[row], posterior, atol=1e-10)
            np.testing.assert_allclose(found.pairs[row], pairs, atol=1e-10)


def test_impossible_states_and_probabilities_that_underflow():
    """exp(-5000) is 0 in any precision. The quick recursion says that it loses something; the others lose nothing."""
    chain = {'start': np.array([1.0, 0, 0]), 'transition': np.array([[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1.0]])}
    log_emission = np.full((4, 4, 3), -1.0)
    log_emission[0] = [[-5000, 0, 0], [0, -5000, 0], [-9000, 0, 0], [0, 0, 0]]  # it has to wait two times
    log_emission[1, 1] = -np.inf  # an observation that no state emits
    (quick, *others), (paths, _) = compiled(chain, log_emission, np.array([4, 2, 1, 0]))
    assert quick[1].tolist() == [False, False, True, True]
    for found, _ in others:
        np.testing.assert_allclose(found.log_likelihood, [-5000 + 2 * np.log(0.5), -np.inf, -1, 0])
        np.testing.assert_allclose(found.posterior[0], [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], atol=1e-12)
        np.testing.assert_allclose(found.pairs[0], [[1, 1, 0], [0, 1, 0], [0, 0, 0]], atol=1e-12)
        assert not np.isnan(found.posterior).any()
    assert paths[0].tolist() == [0, 0, 1, 1]


def test_the_tree_equals_the_scan_in_single_precision():
    log_emission = -5 * np.random.default_rng(0).random((2, 20, 3)).astype(np.float32)
    chain = {name: value.astype(np.float32) for name, value in CHAIN.items()}
    (quick, *others), _ = compiled(chain, log_emission, np.array([20, 13]))
    assert quick[0].posterior.dtype == np.float32
    for found, _ in others:
        np.testing.assert_allclose(found.log_likelihood, quick[0].log_likelihood, rtol=1e-5)
        np.testing.assert_allclose(found.posterior, quick[0].posterior, atol=1e-5)
        np.testing.assert_allclose(found.pairs, quick[0].pairs, rtol=1e-5)


def test_earthquakes_reach_the_published_likelihood():
    """Zucchini and MacDonald 2009, chapter 3: stationary chains of two and three states with Poisson emissions.

    The chain of two has a third state that is never reached, so the quick recursion is not enough.
    """
    x, lengths = jnp.asarray(EARTHQUAKES, float)[None, :, None], jnp.array([107])
    model = hmm.Model(3, Poisson(3), stationary=True)
    fit = jax.jit(partial(hmm.fit, model, steps=150))
    drawn = hmm.initialise(model, jax.random.key(0), x, lengths)
    two = np.array([[0.6, 0.4, 0.0], [0.4, 0.6, 0.0], [0.5, 0.5, 0.0]])
    fewer = {'start': hmm.stationary(two), 'transition': two, 'emission': {'rate': np.array([[10.0], [30.0], [20.0]])}}
    for parameters, expected in ((drawn, 329.4603), (fewer, 342.3183)):
        fitted, curve = fit(parameters, x, lengths)
        assert np.diff(curve).min() > -1e-9
        np.testing.assert_allclose(-curve[-1], expected, atol=6e-5)
        np.testing.assert_allclose(fitted['start'] @ fitted['transition'], fitted['start'], atol=1e-12)
        np.testing.assert_allclose(fitted['transition'].sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(np.sort(fitted['emission']['rate'][:2, 0]), [15.472, 26.125], atol=1e-3)


def test_samples_have_the_moments_of_the_model():
    model = hmm.Model(2, Mixture(2, components=2, covariance='tied'))
    emission = {
        'share': jnp.array([[0.25, 0.75], [1.0, 0.0]]),
        'mean': jnp.array([[-4.0, 0.0], [4.0, 2.0], [0.0, 1.0], [9.0, 9.0]]),
        'covariance': jnp.array([[1.0, 0.5], [0.5, 1.0]]),
    }
    parameters = {
        'start': jnp.array([0.0, 1.0]),
        'transition': jnp.array([[0.9, 0.1], [0.3, 0.7]]),
        'emission': emission,
    }
    states, x = jax.jit(partial(hmm.sample, model, times=4000))(parameters, jax.random.key(0))
    assert states[0] == 1
    np.testing.assert_allclose(np.mean(states == 0), 0.75, atol=0.05)
    np.testing.assert_allclose(np.mean(states[1:][states[:-1] == 1] == 0), 0.3, atol=0.05)
    np.testing.assert_allclose(x[states == 0].mean(0), model.emission.mean(emission)[0], atol=0.2)
    np.testing.assert_allclose(np.cov(x[states == 1].T), emission['covariance'], atol=0.1)


def test_cross_validation_finds_the_number_of_states():
    """Sequences that swap between -2 and 2 are predicted far better by two states than by one Gaussian for all."""
    random = np.random.default_rng(0)
    x = 2.0 * (-1) ** np.arange(12)[None, :, None] + random.normal(size=(6, 12, 1))
    make = lambda states: hmm.Model(states, Gaussian(states, covariance='spherical'))
    found = hmm.cross_validate(make, jax.random.key(0), x, np.full(6, 12), (2,), folds=2, steps=8)
    assert [*found] == [2] and -2.0 < found[2] < -1.2
    assert found[2] > norm.logpdf(x, x.mean(), x.std()).mean() + 0.5
    with pytest.raises(ValueError, match='folds=7 of 6 sequences: choose 2 to 6'):
        hmm.cross_validate(make, jax.random.key(0), x, np.full(6, 12), (1,), folds=7)


KINDS = {'full': 'full', 'tied': 'tied', 'diagonal': 'diag', 'spherical': 'spherical'}  # as hmmlearn names them


@pytest.mark.parametrize('name', [*KINDS, 'categorical', 'poisson'])
def test_baum_welch_equals_that_of_hmmlearn(name):
    pytest.importorskip('hmmlearn')
    from hmmlearn import hmm as other

    random, lengths = np.random.default_rng(0), np.array([40, 25])
    x = random.integers(0, 4, (2, 40, 1)).astype(float)
    if name in KINDS:
        x = x * 3 + random.normal(size=(2, 40, 2))
    model = hmm.Model(3, examples.EMISSIONS[name])
    parameters = hmm.initialise(model, jax.random.key(0), x, lengths)
    own, emission = {'n_components': 3, 'n_iter': 8, 'init_params': '', 'tol': 0}, parameters['emission']
    if name in KINDS:
        priors = dict(covars_prior=0, covars_weight=0, means_weight=0)
        theirs = other.GaussianHMM(covariance_type=KINDS[name], **priors, **own)
        theirs.means_, theirs.covars_ = np.array(emission['mean']), np.array(emission['covariance'])
    elif name == 'poisson':
        theirs = other.PoissonHMM(**own)
        theirs.lambdas_ = np.array(emission['rate'])
    else:
        theirs = other.CategoricalHMM(**own)
        theirs.emissionprob_ = np.array(emission['probability'])[:, 0]
    theirs.startprob_, theirs.transmat_ = np.array(parameters['start']), np.array(parameters['transition'])
    rows = np.concatenate([row[:length] for row, length in zip(x, lengths)])
    theirs.fit(rows if name in KINDS else rows.astype(int), lengths)
    parameters, curve = jax.jit(partial(hmm.fit, model, steps=8))(parameters, jnp.asarray(x), jnp.asarray(lengths))
    np.testing.assert_allclose(curve, theirs.monitor_.history, rtol=1e-8)
    np.testing.assert_allclose(parameters['transition'], theirs.transmat_, atol=1e-6)
