"""Losses between codes and their codebook entries, and the number of entries in use.

Squared differences are averaged over positions and channels; the paper sums over channels, which is D times as much.
"""

import chex
import jax
import jax.numpy as jnp

from genlab.losses.denoising import mean_squared_error


def commitment(codes, entries):
    """Draws codes to their entries, so that the encoder does not outrun the codebook; weigh it by beta (0.25).

    L = mean_d (z_d - sg[e_d])^2 (van den Oord et al. 2017, section 3.2, equation 3, third term without beta).
    codes: [B, ..., D], of the encoder; entries: of that shape, the nearest of the codebook. Returns [B], their unit squared.
    """
    return mean_squared_error(codes, jax.lax.stop_gradient(entries))


def codebook(codes, entries):
    """Draws entries to the codes assigned to them, for codebooks without moving averages.

    L = mean_d (sg[z_d] - e_d)^2 (van den Oord et al. 2017, section 3.2, equation 3, second term).
    codes: [B, ..., D], of the encoder; entries: of that shape, the nearest of the codebook. Returns [B], their unit squared.
    """
    return mean_squared_error(entries, jax.lax.stop_gradient(codes))


def perplexity(usage):
    """Effective number of entries in use: a property of the batch, reported and not trained.

    P = exp(- sum_k p_k log p_k). usage: [K], the fraction of the batch assigned to each entry. Returns a scalar, in entries.
    """
    chex.assert_rank(usage, 1)
    return jnp.exp(-jnp.sum(usage * jnp.log(jnp.where(usage > 0, usage, 1))))
