"""Tests the mixture of discretised logistics: sums over all levels, scipy, extreme scales and gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genlab.losses import mixtures

LEVELS = jnp.arange(256.0) / 127.5 - 1


def outputs(channels, components=3, seed=0, spread=1.0, log_scale=0.0):
    """Returns random outputs [parts * components], with log-scales around a number."""
    x = spread * np.random.default_rng(seed).normal(size=(mixtures.parts(channels), components))
    x[1 + channels : 1 + 2 * channels] += log_scale
    return jnp.asarray(x.reshape(-1), jnp.float32)


def probabilities(x, found):
    repeated = jnp.broadcast_to(found, (*x.shape[:-1], found.size))
    return np.exp(np.float64(jax.jit(mixtures.log_probability)(x, repeated)))


@pytest.mark.parametrize('log_scale', [-30.0, -4.0, 0.0, 8.0, 60.0])
@pytest.mark.parametrize('spread', [0.3, 3.0])
def test_the_levels_of_one_channel_sum_to_one(spread, log_scale):
    found = outputs(1, spread=spread, log_scale=log_scale)
    np.testing.assert_allclose(probabilities(LEVELS[:, None], found).sum(), 1, atol=1e-5)


@pytest.mark.parametrize('channels', [2, 3])
@pytest.mark.parametrize('log_scale', [-30.0, -2.0, 8.0])
def test_the_levels_of_a_channel_sum_to_the_probability_of_the_channels_before(channels, log_scale):
    """Leaving out the last channel leaves out its parameters, so each channel's conditional law sums to one."""
    found = outputs(channels, log_scale=log_scale)
    parts, last = found.reshape(-1, 3), channels - 1
    keep = [0, *range(1, channels), *range(1 + channels, 2 * channels)]
    keep += [1 + 2 * channels + i for i in range(last * (last - 1) // 2)]
    before = jnp.asarray(np.random.default_rng(1).choice(LEVELS, (5, 1, last)))
    x = jnp.concatenate([jnp.broadcast_to(before, (5, 256, last)), jnp.broadcast_to(LEVELS[:, None], (5, 256, 1))], -1)
    expected = probabilities(before[:, 0], parts[jnp.array(keep)].reshape(-1))
    np.testing.assert_allclose(probabilities(x, found).sum(1), expected, rtol=1e-5, atol=1e-30)


def test_it_agrees_with_scipy_in_float64():
    x = np.random.default_rng(0).choice(np.arange(256), (2, 3, 3, 3)) / 127.5 - 1
    x[0, 0, 0], x[0, 0, 1] = -1, 1
    found = np.random.default_rng(1).normal(size=(2, 3, 3, 20))
    logits, means, log_scales, coefficients = np.split(found.reshape(2, 3, 3, 10, 2).copy(), (1, 4, 7), -2)
    k = np.tanh(coefficients)
    means[..., 1, :] += k[..., 0, :] * x[..., 0, None]
    means[..., 2, :] += k[..., 1, :] * x[..., 0, None] + k[..., 2, :] * x[..., 1, None]
    law = stats.logistic(means, np.exp(log_scales))
    above = np.where(x > 0.999, np.inf, x + 1 / 255)[..., None]
    below = np.where(x < -0.999, -np.inf, x - 1 / 255)[..., None]
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    pixels = (weights[..., 0, :] * (law.cdf(above) - law.cdf(below)).prod(-2)).sum(-1)
    got = jax.jit(mixtures.mixture_of_logistics)(jnp.asarray(x, jnp.float32), jnp.asarray(found, jnp.float32))
    np.testing.assert_allclose(got, -np.log(pixels).sum((1, 2)), rtol=1e-4)


def test_gradients_are_finite_at_extreme_scales():
    x = LEVELS[:, None]
    for log_scale in (-30.0, 60.0):
        found = jnp.broadcast_to(outputs(1, log_scale=log_scale), (256, 9))
        value, gradient = jax.value_and_grad(lambda found: mixtures.log_probability(x, found).sum())(found)
        chex.assert_tree_all_finite((value, gradient))


def test_shapes_are_checked():
    with pytest.raises(ValueError, match='not a multiple of 10'):
        mixtures.mixture(jnp.zeros((2, 12)), 3)
    with pytest.raises(AssertionError):
        mixtures.mixture_of_logistics(jnp.zeros((2, 4, 4, 1)), jnp.zeros((2, 4, 3, 3)))
