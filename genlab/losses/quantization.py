"""Losses between codes and their codebook entries, and the number of entries in use.

Squared differences are averaged over positions and channels. The paper sums over channels, which is D times larger.
"""

import chex
import jax
import jax.numpy as jnp

from genlab.losses.denoising import mean_squared_error


def commitment(codes: jax.Array, entries: jax.Array) -> jax.Array:
    """Pulls codes towards their entries, so that the encoder stays close to the codebook. Its weight is beta (0.25).

    L = mean_d (z_d - sg[e_d])^2 (van den Oord et al. 2017, section 3.2, equation 3, third term without beta).
    codes: encoder outputs [B, ..., D]; entries: nearest codebook entries [B, ..., D]. Returns [B], their unit squared.
    """
    return mean_squared_error(codes, jax.lax.stop_gradient(entries))


def codebook(codes: jax.Array, entries: jax.Array) -> jax.Array:
    """Pulls entries towards the codes assigned to them, for codebooks without moving averages.

    L = mean_d (sg[z_d] - e_d)^2 (van den Oord et al. 2017, section 3.2, equation 3, second term).
    codes: encoder outputs [B, ..., D]; entries: nearest codebook entries [B, ..., D]. Returns [B], their unit squared.
    """
    return mean_squared_error(entries, jax.lax.stop_gradient(codes))


def perplexity(usage: jax.Array) -> jax.Array:
    """Computes the effective number of entries in use. It is a property of the batch, reported but not trained.

    P = exp(- sum_k p_k log p_k). usage: [K], fraction of the batch assigned to each entry. Returns a scalar, entries.

    >>> round(float(perplexity(jnp.array([0.5, 0.5, 0.0, 0.0]))), 4)  # two of four entries are in use
    2.0
    """
    chex.assert_rank(usage, 1)
    return jnp.exp(-jnp.sum(usage * jnp.log(jnp.where(usage > 0, usage, 1))))
