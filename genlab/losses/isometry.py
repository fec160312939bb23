"""A penalty on decoders that do not preserve lengths: distances between codes should be distances along the data."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp


def isometry(decode: Callable[[jax.Array], jax.Array], codes: jax.Array, directions: jax.Array) -> jax.Array:
    """Penalises the change in length of one random step per example under the decoder.

    L = (|| J u || - 1)^2, with J the decoder's Jacobian at the code and u a unit vector. L is zero for all u if and
    only if J has orthonormal columns (Atzmon, Gropp and Lipman 2020, "Isometric Autoencoders", section 2). The paper
    also trains the encoder as a pseudo-inverse of the decoder.

    Args:
        decode: the decoder, codes [B, K] -> [B, ...], independent between examples.
        codes: codes [B, K].
        directions: unit vectors u, [B, K].

    Returns:
        Penalties [B].
    """
    chex.assert_rank(codes, 2)
    chex.assert_equal_shape([codes, directions])
    _, moved = jax.jvp(decode, (codes,), (directions,))
    squared = jnp.sum(jnp.square(moved), tuple(range(1, moved.ndim)))
    # The constant keeps the gradient finite where the decoder is constant.
    return jnp.square(jnp.sqrt(squared + 1e-12) - 1)
