"""Likelihoods of images and points given what a decoder puts out: minus their logarithm, in nats, one number per example.

Every likelihood has the same signature, so that a config can name one:

    negative_log(x [B, ...], location [B, ...], log_scale) -> [B], nats, summed over the dimensions of an example
    mean(location) -> [B, ...], the expectation of x as it is shown, images in [-1, 1]

`location` is the decoder's output, float32 like x. `log_scale` has the rank of x and broadcasts to it: one number per channel
or per pixel, learned or fixed; natural logarithm of a length in the units of x.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Likelihood(NamedTuple):
    """One likelihood and what it expects."""

    negative_log: Callable  # (x [B, ...], location [B, ...], log_scale) -> [B]
    mean: Callable  # (location [B, ...]) -> [B, ...]


def _sum(values):
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def bernoulli(x, logits, log_scale=None):
    """Minus the log-probability of black and white pixels.

    L = sum_d softplus(l_d) - b_d l_d with b = (x + 1) / 2 (Kingma and Welling 2014, appendix C.1, equation 11).
    It is a likelihood only where x is -1 or 1. Between them it is a cross-entropy, not the probability of any data.
    x: [B, ...], [-1, 1]; logits: [B, ...], of x = 1; log_scale: ignored. Returns [B], nats.
    """
    chex.assert_equal_shape([x, logits])
    return _sum(jax.nn.softplus(logits) - (x + 1) / 2 * logits)


def gaussian(x, mean, log_scale):
    """Minus the log-density of independent Gaussians.

    L = sum_d (x_d - m_d)^2 / (2 s_d^2) + log s_d + log(2 pi) / 2 (Kingma and Welling 2014, appendix C.2, equation 12).
    x, mean: [B, ...]; log_scale: log s. Returns [B], nats, of a density over the units of x: it can be negative.
    """
    chex.assert_equal_shape([x, mean])
    chex.assert_equal_rank([x, log_scale])
    deviation = (x - mean) * jnp.exp(-log_scale)
    return _sum(jnp.square(deviation) / 2 + log_scale + jnp.log(2 * jnp.pi) / 2)


def discretized_logistic(x, mean, log_scale, *, levels=256):
    """Minus the log-probability of levels of grey, each the mass of a logistic density over the level's bin.

    P(x) = s((x + h - m) / s_d) - s((x - h - m) / s_d), s(.) the sigmoid, h half the distance of two levels; the lowest level
    has all that lies below and the highest all above, so the levels sum to one (Salimans et al. 2017, section 2.1, equation
    2, with one component). Written as log s(a) + log s(-b) + log(1 - exp(b - a)), exact however small the mass.
    x: [B, ...], one of `levels` values evenly from -1 to 1; mean: [B, ...]; log_scale: log s_d. Returns [B], nats.
    """
    chex.assert_equal_shape([x, mean])
    chex.assert_equal_rank([x, log_scale])
    half = 1 / (levels - 1)
    sharpness = jnp.exp(-log_scale)
    above, below = (x + half - mean) * sharpness, (x - half - mean) * sharpness
    log_below, log_above = -jax.nn.softplus(-above), -jax.nn.softplus(below)
    log_between = log_below + log_above + _log_one_minus_exp(2 * half * sharpness)
    return -_sum(jnp.where(x < half - 1, log_below, jnp.where(x > 1 - half, log_above, log_between)))


def _log_one_minus_exp(x):
    """log(1 - exp(-x)) for x > 0."""
    return jnp.log(-jnp.expm1(-x))


def _same(location):
    return location


def _expected_sign(logits):
    """E[x] = 2 s(l) - 1 of x in {-1, 1}."""
    return jnp.tanh(logits / 2)


LIKELIHOODS = {
    'bernoulli': Likelihood(bernoulli, _expected_sign),
    'gaussian': Likelihood(gaussian, _same),
    'discretized_logistic': Likelihood(discretized_logistic, _same),
}
