"""Distances between images in the feature maps of a network, one number per example."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

EPSILON = 1e-10  # added to squared norms: a pixel without any active feature has a gradient of zero


def feature_distance(output: Sequence[jax.Array], target: Sequence[jax.Array]) -> jax.Array:
    """Computes the squared distance of unit feature vectors, averaged over pixels and summed over layers.

    L = sum_l mean_hw | f_lhw / |f_lhw| - g_lhw / |g_lhw| |^2 (Zhang et al. 2018, equation 1, with all weights w_l = 1).

    Args:
        output: feature maps of the reconstruction, one array [B, H, W, C] per layer.
        target: feature maps of the target, of the same shapes.

    Returns:
        Distances [B]; per layer at most 4, or 2 where no feature is negative.
    """
    chex.assert_rank([*output, *target], 4)
    chex.assert_trees_all_equal_shapes([*output], [*target])
    distances = (jnp.square(_unit(f) - _unit(g)).sum(-1).mean((1, 2)) for f, g in zip(output, target))
    return jnp.asarray(sum(distances))


def _unit(maps: jax.Array) -> jax.Array:
    """Divides each feature vector of [B, H, W, C] by its norm."""
    return maps * jax.lax.rsqrt(jnp.square(maps).sum(-1, keepdims=True) + EPSILON)
