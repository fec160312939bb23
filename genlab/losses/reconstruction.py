"""Distances between a reconstruction and its target, one number per example: sums over its values unless named a mean.

Papers report values for targets in [0, 1]. For the same images in [-1, 1], the squared error is four times as large and
the absolute error is twice as large.
"""

import chex
import jax
import jax.numpy as jnp


def _total(values: jax.Array) -> jax.Array:
    """Sums over all axes but the first: [B, ...] -> [B]."""
    return jnp.sum(values, tuple(range(1, values.ndim)))


def squared_error(output: jax.Array, target: jax.Array) -> jax.Array:
    """Computes the squared distance: minus the log-likelihood of a Gaussian of variance 1/2, up to a constant.

    L = || y - x ||^2 (Hinton and Salakhutdinov 2006 report its mean over test images).
    output, target: [B, ...], of equal shape and unit. Returns [B], that unit squared.
    """
    chex.assert_equal_shape([output, target])
    return _total(jnp.square(output - target))


def absolute_error(output: jax.Array, target: jax.Array) -> jax.Array:
    """Computes the sum of absolute differences. It is minimised by medians; the squared error, by means.

    L = || y - x ||_1. output, target: [B, ...], of equal shape and unit. Returns [B], in that unit.
    """
    chex.assert_equal_shape([output, target])
    return _total(jnp.abs(output - target))


def mean_absolute_error(output: jax.Array, target: jax.Array) -> jax.Array:
    """Computes the mean of absolute differences, whatever the size of an example (Isola et al. 2017, equation 3).

    output, target: [B, ...], of equal shape and unit. Returns [B], in that unit.
    """
    return absolute_error(output, target) / max(target[0].size, 1)


def cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Computes the binary cross-entropy of the sigmoid of the logits. Its minimum is the target's entropy.

    L = - sum_i x_i log s(l_i) + (1 - x_i) log(1 - s(l_i)) (Vincent et al. 2010, section 2.2, equation 3). The form
    softplus(l) - x l neither overflows nor loses its gradient.
    logits: [B, ...]; target: [B, ...], [0, 1]. Returns [B], nats.
    """
    chex.assert_equal_shape([logits, target])
    return _total(jax.nn.softplus(logits) - target * logits)
