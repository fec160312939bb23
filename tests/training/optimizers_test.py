"""Tests the optax chains of a config against the formulas of the papers in numpy, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from genlab.config import ramp
from genlab.errors import ConfigError
from genlab.training.optimizers import adam, build, sgd

GRADIENTS = np.random.default_rng(0).standard_normal((6, 2, 3))


def run(config, start=0.0, gradients=GRADIENTS):
    """Returns the parameters after each update, [steps, ...]."""
    optimizer, params, path = build(config), {'w': jnp.full(gradients.shape[1:], start, jnp.float32)}, []
    moments = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for gradient in gradients:
        updates, moments = update({'w': jnp.asarray(gradient, jnp.float32)}, moments, params)
        params = jax.tree.map(jnp.add, params, updates)
        path.append(np.asarray(params['w']))
    return np.stack(path)


def by_hand(rule, rates, start=0.0, gradients=GRADIENTS, decay=0.0):
    """Computes w <- w - rate (rule(gradient) + decay w)."""
    w, path = np.full(gradients.shape[1:], start), []
    for gradient, rate in zip(gradients, rates):
        w = w - rate * (rule(gradient) + decay * w)
        path.append(w)
    return np.stack(path)


def adam_rule(b1=0.9, b2=0.999, epsilon=1e-8):
    """Returns the rule of Kingma and Ba 2015, algorithm 1."""
    state = {'m': 0.0, 'v': 0.0, 't': 0}

    def rule(gradient):
        state['t'] += 1
        state['m'] = b1 * state['m'] + (1 - b1) * gradient
        state['v'] = b2 * state['v'] + (1 - b2) * gradient**2
        return state['m'] / (1 - b1 ** state['t']) / (np.sqrt(state['v'] / (1 - b2 ** state['t'])) + epsilon)

    return rule


def plain(gradient):
    return gradient


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize('betas', [{}, {'b1': 0.5, 'b2': 0.9, 'epsilon': 1e-2}])
def test_adam(betas):
    close(run(adam(0.1, **betas)), by_hand(adam_rule(**betas), [0.1] * 6))


def test_sgd_with_and_without_momentum():
    close(run(sgd(0.1)), by_hand(plain, [0.1] * 6))
    velocity = [0.0]

    def heavy(gradient):
        velocity[0] = gradient + 0.9 * velocity[0]
        return velocity[0]

    close(run(sgd(0.1, momentum=0.9)), by_hand(heavy, [0.1] * 6))


@pytest.mark.parametrize(
    'config, rule', [(adam(0.1, weight_decay=0.2), adam_rule()), (sgd(0.1, weight_decay=0.2), plain)]
)
def test_weight_decay_is_decoupled_from_the_rule(config, rule):
    close(run(config, start=2.0), by_hand(rule, [0.1] * 6, start=2.0, decay=0.2))


def test_clipping_is_by_the_norm_of_all_gradients_and_only_above_it():
    def clip(gradient):
        return gradient * min(1, 1.5 / np.sqrt((gradient**2).sum()))

    norms = np.sqrt((GRADIENTS**2).sum((1, 2)))
    assert norms.min() < 1.5 < norms.max()
    close(run(sgd(1.0, clip=1.5)), by_hand(clip, [1.0] * 6))


def test_the_rate_warms_up_linearly_from_its_first_fraction():
    close(run(sgd(0.8, warmup=4)), by_hand(plain, [0.2, 0.4, 0.6, 0.8, 0.8, 0.8]))


def test_the_rate_may_be_a_ramp_with_a_warm_up():
    rates = np.array([1.0, 1.0, 0.75, 0.5, 0.25, 0.0])
    close(run(sgd(ramp(1.0, 0.0, 4, begin=1))), by_hand(plain, rates))
    close(run(sgd(ramp(1.0, 0.0, 4, begin=1), warmup=2)), by_hand(plain, rates * [0.5, 1, 1, 1, 1, 1]))


def test_a_config_may_change_every_option_later():
    config = adam(1)
    config.lock()
    config.update(learning_rate=ramp(0.1, 0.1, 1), clip=1.5)
    config.learning_rate = 1e-3
    with pytest.raises(AttributeError):
        config.weight_dekay = 0.1
    assert isinstance(config, ConfigDict) and config.learning_rate == 1e-3


def test_an_unknown_rule_raises_with_the_known_ones():
    config = sgd(0.1)
    config.name = 'adamm'
    with pytest.raises(ConfigError, match=r'config.optimizer=.adamm.: choose one of adam, sgd \(did you mean adam'):
        build(config)


@pytest.mark.parametrize(
    'changes',
    [
        {'learning_rate': 'high'},
        {'learning_rate': None},
        {'learning_rate': float('nan')},
        {'learning_rate': ramp(-1.0, 1.0)},
        {'learning_rate': ramp(0.0, 1.0, -5)},
        {'clip': -1.0},
        {'epsilon': -1e-8},
        {'b1': 1.0},
        {'b2': 1.5},
        {'warmup': 2.5},
    ],
)
def test_options_that_cannot_be_meant_are_refused(changes):
    config = adam(1e-3)
    config.update(changes)
    with pytest.raises(ConfigError, match=rf'^config.optimizer.{[*changes][0]}.*: give a'):
        build(config)


def test_a_run_may_begin_to_clip():
    """The state of the optimizer has the same tree with and without clipping."""
    params = {'w': np.zeros(3, np.float32)}
    one, two = (jax.tree.structure(build(adam(1e-3, clip=clip)).init(params)) for clip in (0.0, 1.0))
    assert one == two
