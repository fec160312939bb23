"""Cross-entropy of masked tokens, and the bound of diffusion with an absorbing state. Nats, summed over places."""

import chex
import jax
import jax.numpy as jnp


def masked_token_cross_entropy(
    logits: jax.Array, tokens: jax.Array, mask: jax.Array, *, smoothing: float = 0.0
) -> jax.Array:
    """Computes the cross-entropy of the tokens at the places of a mask.

    L = - sum_i m_i sum_k q_ik log p_ik, q_ik = (1 - s) [k = x_i] + s / K (Chang et al. 2022, equation 2, without the
    expectation; Szegedy et al. 2016, section 7, for the smoothing s).

    Args:
        logits: [B, ..., K].
        tokens: int [B, ...] in 0 ... K - 1.
        mask: [B, ...], 1 or true at places that count.
        smoothing: s, in [0, 1).

    Returns:
        Cross-entropies [B], nats.
    """
    chex.assert_equal_shape([tokens, mask])
    chex.assert_equal_shape_prefix([logits, tokens], tokens.ndim)
    log_p = jax.nn.log_softmax(logits)
    right = jnp.take_along_axis(log_p, tokens[..., None], -1)[..., 0]
    # An entry of probability 0 would make the mean infinite, also where it has no weight.
    right = (1 - smoothing) * right + smoothing * log_p.mean(-1) if smoothing else right
    return -jnp.sum(jnp.where(mask.astype(bool), right, 0), tuple(range(1, tokens.ndim)))


def absorbing_bound(logits: jax.Array, tokens: jax.Array, mask: jax.Array, weight: jax.Array) -> jax.Array:
    """Computes the bound of diffusion with an absorbing state in continuous time, at one time per example.

    L(t) = w(t) * - sum_i [z_i is absorbed] log p(x_i | z_t), w = - alpha'(t) / (1 - alpha(t)). Its mean over uniform t
    in [0, 1] is at least - log p(x) (Sahoo et al. 2024, equation 10; Shi et al. 2024, equation 4).

    Args:
        logits: logits of the network at z_t, [B, ..., K].
        tokens: x, int [B, ...] in 0 ... K - 1.
        mask: where z_t is absorbed, [B, ...].
        weight: w(t) of each example, [B].

    Returns:
        L(t) [B], nats.
    """
    chex.assert_shape(weight, (len(tokens),))
    return weight * masked_token_cross_entropy(logits, tokens, mask)
