"""Losses that identify which of many candidates belongs to an example. One number per example."""

import chex
import jax
import jax.numpy as jnp


def identification(features: jax.Array, candidates: jax.Array, positions: jax.Array, scale: jax.Array) -> jax.Array:
    """Computes minus the log-probability of the right candidate under a softmax of scaled dot products (InfoNCE).

    L_i = -log(exp(t f_i . c_i) / sum_j exp(t f_i . c_j)) (van den Oord et al. 2018, equation 4; Radford et al. 2021).
    At chance level it is log M.

    Args:
        features: features f [B, D].
        candidates: features c [M, D] of the candidates, e.g. of all examples of a batch.
        positions: index of the right candidate of each example, int [B].
        scale: inverse temperature t, a scalar.

    Returns:
        Losses [B], nats.
    """
    chex.assert_rank([features, candidates, positions], [2, 2, 1])
    chex.assert_equal_shape_suffix([features, candidates], 1)
    chex.assert_equal_shape_prefix([features, positions], 1)
    logits = jax.nn.log_softmax(scale * (features @ candidates.T))
    return -jnp.take_along_axis(logits, positions[:, None], 1)[:, 0]
