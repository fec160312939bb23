"""Tests the M steps of emissions against closed forms in numpy; their log-probabilities are tested in hmm_test.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.classical.emissions import Gaussian, Poisson, spread
from genlab.errors import ConfigError
from support.emissions import EMISSIONS, KINDS, example


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def maximised(emission, parameters, x, posterior):
    """Returns the parameters after the M step on two parts of the observations, whose sums add up."""

    def both(parameters, x, posterior):
        parts = [emission.sums(parameters, x[part::2], posterior[part::2]) for part in (0, 1)]
        return emission.maximise(parameters, jax.tree.map(jnp.add, *parts))

    return jax.jit(both)(parameters, x, posterior)


@pytest.mark.parametrize('name', EMISSIONS)
def test_the_m_step_is_the_closed_form_and_a_state_without_observations_stays(name):
    emission, old, x = example(name, (20, 2))
    posterior = np.random.default_rng(2).dirichlet(np.ones(3), 20)
    posterior[:, 2] = 0
    new, weight = maximised(emission, old, x, posterior), posterior.sum(0)
    if name == 'categorical':
        for state, place in np.ndindex(2, 2):
            counts = np.bincount(x[:, place].astype(int), posterior[:, state], 4)
            np.testing.assert_allclose(new['probability'][state, place], counts / weight[state])
    elif name == 'poisson':
        np.testing.assert_allclose(new['rate'][:2], (posterior.T @ x)[:2] / weight[:2, None])
    elif name in KINDS:
        np.testing.assert_allclose(new['mean'][:2], (posterior.T @ x)[:2] / weight[:2, None])
        full = np.stack([np.cov(x.T, aweights=posterior[:, state], ddof=0) for state in (0, 1)])
        diagonal = np.diagonal(full, axis1=1, axis2=2)
        tied = np.einsum('k,kde->de', weight[:2] / weight.sum(), full)
        expected = {'full': full, 'tied': tied, 'diagonal': diagonal, 'spherical': diagonal.mean(1)}[name]
        np.testing.assert_allclose(new['covariance'][: len(expected)], expected, atol=1e-12)
    else:  # one EM iteration of the mixture of each state
        before, after = (np.sum(posterior * emission.log_prob(parameters, x)) for parameters in (old, new))
        assert after > before + 0.1
        np.testing.assert_allclose(new['share'].sum(1), 1)
    for key, value in old.items():
        if (name, key) != ('tied', 'covariance'):
            np.testing.assert_array_equal(new[key][-1], value[-1])


def test_the_floor_bounds_variances_and_rates():
    line = np.linspace(0, 1, 9)[:, None] * np.array([[3.0, 4.0]])  # no variance across
    for covariance in ('full', 'diagonal'):
        emission = Gaussian(1, covariance=covariance, floor=0.1)
        x = line if covariance == 'full' else line * np.array([[1.0, 0.0]])
        old = {'mean': x[:1], 'covariance': np.ones((1, 2, 2) if covariance == 'full' else (1, 2))}
        found = np.asarray(maximised(emission, old, x, np.ones((9, 1)))['covariance'][0])
        found = np.linalg.eigvalsh(found) if covariance == 'full' else np.sort(found)
        np.testing.assert_allclose(found, [0.1, x.var(0).sum()])
    none = maximised(Poisson(1, floor=0.01), {'rate': np.ones((1, 1))}, np.zeros((4, 1)), np.ones((4, 1)))
    np.testing.assert_allclose(none['rate'], 0.01)
    with pytest.raises(ConfigError, match="covariance='diag': choose one of full, .*did you mean diagonal"):
        Gaussian(2, covariance='diag')


def test_initial_observations_lie_far_apart_and_padding_is_never_chosen():
    x = np.concatenate([np.zeros((30, 2)), np.ones((30, 2)), np.full((30, 2), 9.0)]) + np.linspace(0, 0.01, 90)[:, None]
    weight = np.arange(90) < 60
    chosen = jax.jit(spread, static_argnums=3)(jax.random.key(0), x, weight.astype(float), 2)
    assert {*np.round(np.asarray(chosen)[:, 0]).tolist()} == {0.0, 1.0}
