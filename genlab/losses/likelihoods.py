"""Negative log-likelihoods of images and points given the outputs of a decoder, in nats, one number per example.

Every likelihood has the same signature, so that a config can select it by name:

    negative_log(x [B, ...], location [B, ...], log_scale) -> [B], nats, summed over the dimensions of an example
    mean(location) -> [B, ...], the expectation of x, images in [-1, 1]

`location` is the decoder's output, float32 like x. `log_scale` is the natural logarithm of a scale in the units of x.
It has the rank of x and broadcasts to it: one number per channel or per pixel, learned or fixed.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Likelihood(NamedTuple):
    """Holds a negative log-likelihood and the mean of x under it."""

    # (x [B, ...], location [B, ...], log_scale) -> [B]
    negative_log: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    mean: Callable[[jax.Array], jax.Array]  # (location [B, ...]) -> [B, ...]


def _sum(values: jax.Array) -> jax.Array:
    """Sums over all axes but the first: [B, ...] -> [B]."""
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def bernoulli(x: jax.Array, logits: jax.Array, log_scale: jax.Array | None = None) -> jax.Array:
    """Computes minus the log-probability of black and white pixels.

    L = sum_d softplus(l_d) - b_d l_d with b = (x + 1) / 2 (Kingma and Welling 2014, appendix C.1, equation 11).
    It is a likelihood only for x in {-1, 1}. For values in between it is a cross-entropy.

    Args:
        x: images [B, ...] in [-1, 1].
        logits: logits of x = 1, [B, ...].
        log_scale: ignored.

    Returns:
        Negative log-likelihoods [B], nats.
    """
    chex.assert_equal_shape([x, logits])
    return _sum(jax.nn.softplus(logits) - (x + 1) / 2 * logits)


def gaussian(x: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Computes minus the log-density of independent Gaussians.

    L = sum_d (x_d - m_d)^2 / (2 s_d^2) + log s_d + log(2 pi) / 2 (Kingma and Welling 2014, appendix C.2, equation 12).

    Args:
        x: images or points [B, ...].
        mean: mean m, [B, ...].
        log_scale: log s, which broadcasts to x.

    Returns:
        Negative log-densities [B], nats, for a density over the units of x. They can be negative.
    """
    chex.assert_equal_shape([x, mean])
    chex.assert_equal_rank([x, log_scale])
    deviation = (x - mean) * jnp.exp(-log_scale)
    return _sum(jnp.square(deviation) / 2 + log_scale + jnp.log(2 * jnp.pi) / 2)


def discretized_logistic(x: jax.Array, mean: jax.Array, log_scale: jax.Array, *, levels: int = 256) -> jax.Array:
    """Computes minus the log-probability of grey levels. A level's probability is a logistic density's mass in its bin.

    P(x) = s((x + h - m) / s_d) - s((x - h - m) / s_d), with s(.) the sigmoid and h half the distance of two levels. The
    lowest bin extends to -infinity and the highest to infinity, so the probabilities sum to one (Salimans et al. 2017,
    section 2.1, equation 2, with one component). The form log s(a) + log s(-b) + log(1 - exp(b - a)) is exact for
    arbitrarily small masses.

    Args:
        x: images [B, ...] with `levels` evenly spaced values from -1 to 1.
        mean: mean m, [B, ...].
        log_scale: log s_d, which broadcasts to x.
        levels: number of grey levels.

    Returns:
        Negative log-likelihoods [B], nats.
    """
    chex.assert_equal_shape([x, mean])
    chex.assert_equal_rank([x, log_scale])
    half = 1 / (levels - 1)
    sharpness = jnp.exp(-log_scale)
    above, below = (x + half - mean) * sharpness, (x - half - mean) * sharpness
    log_below, log_above = -jax.nn.softplus(-above), -jax.nn.softplus(below)
    log_between = log_below + log_above + _log_one_minus_exp(2 * half * sharpness)
    return -_sum(jnp.where(x < half - 1, log_below, jnp.where(x > 1 - half, log_above, log_between)))


def logit_laplace(x: jax.Array, location: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Computes minus the log-density of values in (0, 1) whose logits have Laplace distributions.

    L = sum_d log(2 b_d x_d (1 - x_d)) + |logit x_d - m_d| / b_d (Ramesh et al. 2021, appendix A.3, equation 2). Unlike
    a Gaussian or Laplace density, it gives no mass to values outside the range of pixels. Images that reach 0 or 1 must
    be mapped into the open interval first: see `to_open`.

    Args:
        x: values [B, ...] in (0, 1).
        location: median m of the logits, [B, ...].
        log_scale: log b, which broadcasts to x.

    Returns:
        Negative log-densities [B], nats, for a density over (0, 1). They can be negative.
    """
    chex.assert_equal_shape([x, location])
    chex.assert_equal_rank([x, log_scale])
    distance = jnp.abs(jnp.log(x) - jnp.log1p(-x) - location)
    return _sum(jnp.log(2.0) + log_scale + jnp.log(x) + jnp.log1p(-x) + distance * jnp.exp(-log_scale))


def to_open(images: jax.Array, *, epsilon: float = 0.1) -> jax.Array:
    """Maps images from [-1, 1] to [epsilon, 1 - epsilon] (Ramesh et al. 2021, appendix A.3). Keeps the shape."""
    return (1 - 2 * epsilon) * (images + 1) / 2 + epsilon


def from_open(values: jax.Array, *, epsilon: float = 0.1) -> jax.Array:
    """Inverts `to_open`, and clips the result to [-1, 1]. Keeps the shape."""
    return jnp.clip(2 * (values - epsilon) / (1 - 2 * epsilon) - 1, -1, 1)


def _log_one_minus_exp(x: jax.Array) -> jax.Array:
    """Computes log(1 - exp(-x)) for x > 0."""
    return jnp.log(-jnp.expm1(-x))


def _same(location: jax.Array) -> jax.Array:
    return location


def _expected_sign(logits: jax.Array) -> jax.Array:
    """Computes E[x] = 2 s(l) - 1 for x in {-1, 1}."""
    return jnp.tanh(logits / 2)


LIKELIHOODS = {
    'bernoulli': Likelihood(bernoulli, _expected_sign),
    'gaussian': Likelihood(gaussian, _same),
    'discretized_logistic': Likelihood(discretized_logistic, _same),
}
