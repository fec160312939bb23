"""Negative log-likelihoods of tokens given logits, in nats, summed over the places of an example."""

import chex
import jax
import jax.numpy as jnp


def token_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Computes minus the log-probability of tokens under independent softmaxes.

    L = - sum_i log softmax(l_i)[t_i] (van den Oord et al. 2016a, section 2.2). Of an autoregressive network it is the
    negative log-likelihood of the whole grid (equation 1).

    Args:
        logits: [B, ..., K].
        targets: tokens, int [B, ...], in 0 ... K - 1.

    Returns:
        Negative log-likelihoods [B], nats.
    """
    chex.assert_shape(logits, (*targets.shape, None))
    chex.assert_type(targets, int)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits.astype(jnp.float32)), targets[..., None], -1)
    return -jnp.sum(chosen, tuple(range(1, chosen.ndim)))
