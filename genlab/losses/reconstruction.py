"""How far a reconstruction is from its target: summed over all values of an example, one number per example.

Targets in [0, 1] give the figures that papers print. Images in [-1, 1] are twice as far apart: their squared error is four
times as large, their absolute error twice as large, as for the same images in [0, 1].
"""

import chex
import jax
import jax.numpy as jnp


def _total(values):
    """The sum over all axes but the first: [B, ...] -> [B]."""
    return jnp.sum(values, tuple(range(1, values.ndim)))


def squared_error(output, target):
    """Squared distance, minus the log-likelihood of a Gaussian of variance 1/2 up to a constant.

    L = || y - x ||^2 (Hinton and Salakhutdinov 2006 report its mean over test images).
    output, target: [B, ...], of one shape and unit. Returns [B], that unit squared.
    """
    chex.assert_equal_shape([output, target])
    return _total(jnp.square(output - target))


def absolute_error(output, target):
    """Sum of absolute differences, which asks for medians where the squared error asks for means.

    L = || y - x ||_1. output, target: [B, ...], of one shape and unit. Returns [B], in that unit.
    """
    chex.assert_equal_shape([output, target])
    return _total(jnp.abs(output - target))


def cross_entropy(logits, target):
    """Binary cross-entropy between the target and the sigmoid of the logits; its minimum is the target's entropy.

    L = - sum_i x_i log s(l_i) + (1 - x_i) log(1 - s(l_i)) (Vincent et al. 2010, section 2.2, equation 3), written as
    softplus(l) - x l, which neither overflows nor loses its gradient.
    logits: [B, ...]; target: [B, ...], [0, 1]. Returns [B], nats.
    """
    chex.assert_equal_shape([logits, target])
    return _total(jax.nn.softplus(logits) - target * logits)
