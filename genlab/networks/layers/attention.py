"""Multi-head self-attention and cross-attention (Vaswani et al. 2017)."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.dense import Dense

BLOCKS = 4  # number of blocks of queries, in causal attention: (1 + BLOCKS) / (2 BLOCKS) of the scores are computed


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None = None, causal: bool = False
) -> jax.Array:
    """Mixes values by the softmax of scaled dot products (Vaswani et al. 2017, equation 1), in float32.

    Args:
        query: [B, N, heads, D].
        key, value: [B, M, heads, D] each.
        mask: which keys a query sees, bool [B or 1, 1, N or 1, M]; None: all. A query without any averages all values.
        causal: whether query i sees no key after i; N = M. On a CPU the queries are then split into blocks, and the
            scores of a block with the keys after it are never computed. The result is the same.

    Returns:
        Mixed values [B, N, heads, D].
    """
    # Heads first: the matrix products need no other order, nor do their gradients.
    query, key, value = (jnp.moveaxis(x, 1, 2) for x in (query, key, value))
    if not causal:
        return jnp.moveaxis(_attend(query, key, value, mask), 2, 1)
    see = jnp.tri(query.shape[2], dtype=bool)[None, None]
    see = see if mask is None else see & mask
    mixed = jax.lax.platform_dependent(query, key, value, see, cpu=_attend_blocks, default=_attend)
    return jnp.moveaxis(mixed, 2, 1)


def _attend_blocks(query: jax.Array, key: jax.Array, value: jax.Array, see: jax.Array) -> jax.Array:
    """Does the same as `_attend` where `see` is causal, in blocks of queries."""
    count = query.shape[2]
    ends = sorted({count * block // BLOCKS for block in range(BLOCKS + 1)})
    parts = [
        _attend(query[:, :, start:stop], key[:, :, :stop], value[:, :, :stop], see[:, :, start:stop, :stop])
        for start, stop in itertools.pairwise(ends)
    ]
    return jnp.concatenate(parts, 2)


def _attend(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Mixes values of [B, heads, M, D] for queries [B, heads, N, D]: [B, heads, N, D].

    The division by the sum of a softmax follows the product with the values. It then costs N x D divisions in place of
    N x M, and its gradient as little.
    """
    query = query * (1 / math.sqrt(query.shape[-1]))
    scores = jnp.einsum('bhnd,bhmd->bhnm', query, key, preferred_element_type=jnp.float32)
    if mask is not None:
        scores = jnp.where(mask, scores, -1e30)
    shares = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    mixed = jnp.einsum('bhnm,bhmd->bhnd', shares.astype(value.dtype), value, preferred_element_type=jnp.float32)
    return (mixed / shares.sum(-1, keepdims=True)).astype(value.dtype)


def split_heads(x: jax.Array, parts: int, heads: int) -> list[jax.Array]:
    """Splits [B, N, parts * C] -> `parts` of [B, N, heads, C / heads]. The gradients are concatenated, not added."""
    split = jax.lax.split(x, [x.shape[-1] // parts] * parts, 2)
    return [part.reshape(*part.shape[:2], heads, -1) for part in split]


class Attention(nn.Module):
    """Applies attention from x [B, N, C] to itself, or to `context` [B, M, D]: [B, N, C].

    The dot products are scaled by 1 / sqrt(C / heads). `mask` [B, M] is true at valid context tokens.
    """

    heads: int
    dtype: Any = None
    kernel_init: Callable = nn.linear.default_kernel_init
    output_init: Callable = nn.initializers.zeros_init()  # zeros: a residual branch starts as the identity

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
        width = x.shape[-1]
        if width % self.heads:
            raise ValueError(f'{self.heads} heads do not divide a width of {width}: choose a divisor of the width')
        dense = functools.partial(Dense, dtype=self.dtype, kernel_init=self.kernel_init)
        if context is None:
            query, key, value = split_heads(dense(3 * width, name='query_key_value')(x), 3, self.heads)
        else:
            (query,) = split_heads(dense(width, name='query')(x), 1, self.heads)
            key, value = split_heads(dense(2 * width, name='key_value')(context), 2, self.heads)
        mask = None if mask is None else mask[:, None, None, :].astype(bool)
        mixed = attend(query, key, value, mask)
        return Dense(width, dtype=self.dtype, kernel_init=self.output_init, name='output')(mixed.reshape(x.shape))
