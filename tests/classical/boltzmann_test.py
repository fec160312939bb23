"""Tests Boltzmann machines against sums over all states in numpy, numerical gradients and exact laws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logsumexp

from genlab.classical import boltzmann
from genlab.classical.boltzmann import BINARY, GAUSSIAN, Full, Restricted
from genlab.evaluation.metrics.likelihood import log_mean
from genlab.training.players import example_keys

CHAINS = 4000


def all_states(units):
    return np.array([*itertools.product((0.0, 1.0), repeat=units)]).reshape(2**units, units)


def restricted_parameters(visible, hidden, scale=1.0, seed=0):
    draw = np.random.default_rng(seed).standard_normal
    return Restricted(scale * draw((visible, hidden)), scale * draw(visible), scale * draw(hidden))


def full_parameters(units, scale=1.0, seed=0):
    draw = np.random.default_rng(seed).standard_normal
    return Full(scale * draw(units * (units - 1) // 2), scale * draw(units))


def arrays(parameters):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), parameters)


def restricted_joint(parameters, visible_states, hidden_states):
    """Returns v W h + b v + a h of every pair of states, [V, H], in float64."""
    weights, visible, hidden = parameters
    linear = (visible_states @ visible)[:, None] + (hidden_states @ hidden)[None]
    return visible_states @ weights @ hidden_states.T + linear


def full_joint(parameters, states):
    """Returns sum_{i < j} W_ij s_i s_j + b s of every state, by loops over the pairs."""
    units, pairs = len(parameters.bias), iter(parameters.pairs)
    total = states @ parameters.bias
    for i in range(units):
        for j in range(i + 1, units):
            total = total + next(pairs) * states[:, i] * states[:, j]
    return total


def keys(count, seed=0):
    return example_keys(jax.random.key(seed), jnp.arange(count))


def visible_law(kind):
    """Returns (machine, parameters, p(v) of all states of four visible units, in float64)."""
    if kind == 'restricted':
        parameters = restricted_parameters(4, 3)
        logits = logsumexp(restricted_joint(parameters, all_states(4), all_states(3)), axis=1)
        machine = boltzmann.restricted(sizes=(4, 3))
    else:
        parameters = full_parameters(6)
        logits = logsumexp(full_joint(parameters, all_states(6)).reshape(16, 4), axis=1)
        machine = boltzmann.full(6, 2)
    return machine, parameters, np.exp(logits - logsumexp(logits))


KINDS = ('restricted', 'full')


@pytest.mark.parametrize('kind', KINDS)
def test_free_energies_and_partition_functions_are_sums_over_all_states(kind):
    machine, parameters, law = visible_law(kind)

    @jax.jit
    def computed(theta, v):
        _, found = boltzmann.probabilities(lambda v: -machine.free_energy(theta, v), 4)
        return machine.free_energy(theta, v) + machine.log_partition(theta), found

    minus_log, found = computed(arrays(parameters), jnp.asarray(all_states(4), jnp.float32))
    np.testing.assert_allclose(-minus_log, np.log(law), atol=1e-5)
    np.testing.assert_allclose(found, law, atol=1e-6)


def test_partition_functions_sum_over_blocks_and_over_the_smaller_layer(monkeypatch):
    parameters = restricted_parameters(3, 8, 0.5)
    expected = logsumexp(restricted_joint(parameters, all_states(3), all_states(8)))
    monkeypatch.setattr(boltzmann, 'BLOCK', 2)
    log_partition = boltzmann.restricted(sizes=(3, 8)).log_partition
    np.testing.assert_allclose(log_partition(arrays(parameters)), expected, rtol=1e-6)
    turned = Restricted(parameters.weights.T, parameters.hidden, parameters.visible)
    np.testing.assert_allclose(log_partition(arrays(turned)), expected, rtol=1e-6)
    assert boltzmann.restricted(sizes=(30, 40)).log_partition is None
    assert boltzmann.restricted(GAUSSIAN, sizes=(3, 30)).log_partition is None  # three units, but not binary
    with pytest.raises(ValueError, match='at most 20'):
        boltzmann.log_sum(lambda states: states.sum(1), 21)


def test_gaussian_units_are_integrated_out():
    """Integrates one Gaussian unit of either layer on a grid."""
    grid = np.linspace(-15, 15, 6001)[:, None]
    measure = -np.square(grid[:, 0]) / 2 + np.log(grid[1, 0] - grid[0, 0])
    parameters = restricted_parameters(3, 1)
    joint = restricted_joint(parameters, all_states(3), grid) + measure[None]
    machine = boltzmann.restricted(BINARY, GAUSSIAN, (3, 1))
    free_energy = machine.free_energy(arrays(parameters), jnp.asarray(all_states(3), jnp.float32))
    np.testing.assert_allclose(-free_energy, logsumexp(joint, axis=1), rtol=1e-5)
    np.testing.assert_allclose(machine.log_partition(arrays(parameters)), logsumexp(joint), rtol=1e-6)
    parameters = restricted_parameters(1, 3)
    machine = boltzmann.restricted(GAUSSIAN, BINARY, (1, 3))
    joint = restricted_joint(parameters, grid, all_states(3)) + measure[:, None]
    np.testing.assert_allclose(machine.log_partition(arrays(parameters)), logsumexp(joint), rtol=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_gradients_of_the_log_likelihood(kind):
    """Compares automatic gradients with central differences of sums in float64, and with F(v) - F(exact negatives)."""
    machine, parameters, law = visible_law(kind)
    states = all_states(4)
    data = states[[3, 5, 5, 14]]

    def mean_log_likelihood(parameters):
        if kind == 'restricted':
            logits = logsumexp(restricted_joint(parameters, states, all_states(3)), axis=1)
        else:
            logits = logsumexp(full_joint(parameters, all_states(6)).reshape(16, 4), axis=1)
        return (logits - logsumexp(logits))[[3, 5, 5, 14]].mean()

    def numerical(leaf, name):
        found = np.zeros_like(leaf)
        for index in np.ndindex(leaf.shape):
            step = np.zeros_like(leaf)
            step[index] = 1e-5
            up, down = (parameters._replace(**{name: leaf + sign * step}) for sign in (1, -1))
            found[index] = (mean_log_likelihood(up) - mean_log_likelihood(down)) / 2e-5
        return found

    def exact(theta):
        return -machine.free_energy(theta, data).mean() - machine.log_partition(theta)

    def contrast(theta):
        return machine.free_energy(theta, data).mean() - law @ machine.free_energy(theta, states)

    data, states, law = (jnp.asarray(array, jnp.float32) for array in (data, states, law))
    gradient, negative = jax.jit(lambda theta: (jax.grad(exact)(theta), jax.grad(contrast)(theta)))(arrays(parameters))
    states = np.asarray(states)
    for name, leaf in parameters._asdict().items():
        expected = numerical(leaf, name)
        np.testing.assert_allclose(getattr(gradient, name), expected, atol=2e-6)
        np.testing.assert_allclose(getattr(negative, name), -expected, atol=2e-6)


def frequencies(v):
    """Returns how many of the states [N, 4] are each of the 16."""
    return np.bincount((np.asarray(v) @ [8, 4, 2, 1]).astype(int), minlength=16)


def assert_drawn_from(law, v):
    """Compares counts with a law, within 5 standard deviations."""
    count = len(v)
    assert (np.abs(frequencies(v) - count * law) <= 5 * np.sqrt(count * law * (1 - law)) + 1e-3).all()


@pytest.mark.parametrize('kind', KINDS)
def test_gibbs_steps_keep_the_law_and_reach_it(kind):
    machine, parameters, law = visible_law(kind)
    drawn = all_states(4)[np.random.default_rng(0).choice(16, CHAINS, p=law)]
    theta = arrays(parameters)
    step = jax.jit(lambda v, steps: boltzmann.gibbs(machine, theta, v, keys(CHAINS), steps))
    after = step(jnp.asarray(drawn, jnp.float32), 1)
    assert_drawn_from(law, after)
    assert (np.asarray(after) != drawn).any(1).mean() > 0.3  # they moved
    assert_drawn_from(law, step(jnp.zeros((CHAINS, 4)), 40))


@pytest.mark.parametrize('kind', KINDS)
def test_kept_units_stay_and_the_others_are_conditional_on_them(kind):
    machine, parameters, law = visible_law(kind)
    kept = jnp.broadcast_to(jnp.array([True, False, False, True]), (CHAINS, 4))
    begin = jnp.broadcast_to(jnp.array([1.0, 0, 0, 0]), (CHAINS, 4))
    v = jax.jit(lambda v: boltzmann.gibbs(machine, arrays(parameters), v, keys(CHAINS), 40, kept))(begin)
    possible = (all_states(4)[:, [0, 3]] == [1, 0]).all(1)
    assert_drawn_from(np.where(possible, law, 0) / law[possible].sum(), v)


def test_gaussian_units_are_drawn_around_their_field():
    parameters = arrays(restricted_parameters(2, 1))
    machine = boltzmann.restricted(GAUSSIAN, BINARY, (2, 1))
    begin = jnp.broadcast_to(jnp.array([0.5, -1.0]), (CHAINS, 2))
    v = np.asarray(jax.jit(lambda v: machine.step(parameters, v, keys(CHAINS), 0))(begin), np.float64)
    on = expit(float(boltzmann.hidden_field(parameters, begin[:1])[0, 0]))
    shift = np.asarray(parameters.weights)[:, 0]
    np.testing.assert_allclose(v.mean(0), np.asarray(parameters.visible) + on * shift, atol=0.08)
    np.testing.assert_allclose(np.cov(v.T), np.eye(2) + on * (1 - on) * np.outer(shift, shift), atol=0.12)
    means = boltzmann.restricted(GAUSSIAN, BINARY, (2, 1), means=True).step(parameters, begin, keys(CHAINS), 0)
    assert len(np.unique(np.asarray(means), axis=0)) == 2  # one per state of the hidden unit


@pytest.mark.parametrize(
    'machine, parameters, visible',
    [
        (boltzmann.restricted(sizes=(8, 6)), restricted_parameters(8, 6, 0.7), 8),
        (boltzmann.restricted(GAUSSIAN, sizes=(5, 6)), restricted_parameters(5, 6, 0.5), 5),
        (boltzmann.full(9, 2), full_parameters(9, 0.7), 7),
    ],
    ids=['restricted', 'gaussian', 'full'],
)
def test_the_interval_of_annealed_importance_sampling_holds_the_exact_partition_function(machine, parameters, visible):
    theta = arrays(parameters)
    base = jnp.linspace(-1, 1, visible)

    @jax.jit
    def both(keys):
        weights = boltzmann.annealed_log_weights(machine, theta, base, keys, boltzmann.temperatures(60))
        return weights, machine.log_partition(theta), machine.log_independent(machine.independent(theta, base))

    weights, exact, start = map(np.asarray, both(keys(500)))
    estimate, low, high = log_mean(weights)
    assert low < exact < high and low < estimate < high
    assert high - low < 0.3 and abs(start - exact) > 0.5


def test_temperatures_are_those_of_the_paper():
    betas = boltzmann.temperatures(14_500)
    assert betas[0] == 0 and betas[-1] == 1 and (np.diff(betas) > 0).all()
    assert [int((betas < limit - 1e-6).sum()) for limit in (0.5, 0.9, 1.0)] == [500, 4500, 14_500]


def test_full_weights_are_symmetric_without_a_diagonal():
    weights = np.asarray(boltzmann.symmetric(jnp.arange(1.0, 7.0), 4))
    np.testing.assert_array_equal(weights, [[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 6], [3, 5, 6, 0]])


def test_the_interval_of_a_mean_of_weights_by_hand():
    estimate, low, high = log_mean(np.log([1.0, 2.0, 3.0]) + 1000)  # mean 2, standard error 1 / sqrt(3)
    expected = np.log([2, 2 - np.sqrt(3), 2 + np.sqrt(3)]) + 1000
    np.testing.assert_allclose([estimate, low, high], expected)
    assert log_mean(np.log([1e-9, 1.0]))[1] == -np.inf
