"""A penalty on decoders that stretch or squeeze: without them, distances between codes are distances along the data."""

import chex
import jax
import jax.numpy as jnp


def isometry(decode, codes, directions):
    """How far the decoder is from keeping the length of a step, one random step per example.

    L = (|| J u || - 1)^2, J the decoder's Jacobian at the code and u a unit vector: zero for all u iff J has orthonormal
    columns (Atzmon, Gropp and Lipman 2020, "Isometric Autoencoders", section 2, whose codes are then pseudo-inverted too).
    decode: codes [B, K] -> [B, ...], each example by itself; directions: [B, K], unit vectors. Returns [B].
    """
    chex.assert_rank(codes, 2)
    chex.assert_equal_shape([codes, directions])
    _, moved = jax.jvp(decode, (codes,), (directions,))
    squared = jnp.sum(jnp.square(moved), tuple(range(1, moved.ndim)))
    return jnp.square(
        jnp.sqrt(squared + 1e-12) - 1
    )  # the constant keeps the gradient finite where the decoder is constant
