"""Multi-head self-attention and cross-attention (Vaswani et al. 2017)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn


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
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=self.kernel_init)
        if context is None:
            query, key, value = self._heads(dense(3 * width, name='query_key_value')(x), 3)
        else:
            (query,) = self._heads(dense(width, name='query')(x), 1)
            key, value = self._heads(dense(2 * width, name='key_value')(context), 2)
        mask = None if mask is None else mask[:, None, None, :].astype(bool)
        mixed = jax.nn.dot_product_attention(query, key, value, mask=mask)
        return nn.Dense(width, dtype=self.dtype, kernel_init=self.output_init, name='output')(mixed.reshape(x.shape))

    def _heads(self, x: jax.Array, parts: int) -> list[jax.Array]:
        """Splits [B, N, parts * C] -> `parts` of [B, N, heads, C / heads]."""
        split = x.reshape(*x.shape[:2], parts, self.heads, -1)
        return [split[:, :, part] for part in range(parts)]
