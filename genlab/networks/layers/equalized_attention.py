"""Attention of GANs with an equalised learning rate: by distances to itself, by dot products to a text.

Kang et al. 2023, section 3.1 and appendix A.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.equalized import EqualizedDense, pixel_norm


def distance_logits(query: jax.Array, key: jax.Array) -> jax.Array:
    """Computes -|q_i - k_j|^2 / sqrt(8 D) per head: [B, N, heads, D], [B, M, heads, D] -> [B, heads, N, M].

    Unlike dot products, distances make attention Lipschitz (Kim et al. 2021, section 3.2). The squared distance of two
    vectors of N(0, 1) has the variance 8 D, so logits of different places have unit variance.
    """
    length = lambda x: jnp.square(x).sum(-1).transpose(0, 2, 1)  # [B, heads, N]
    product = jnp.einsum('bnhd,bmhd->bhnm', query, key)
    squared = length(query)[..., None] + length(key)[:, :, None] - 2 * product
    return -squared / math.sqrt(8 * query.shape[-1])


class DistanceAttention(nn.Module):
    """Applies self-attention by distances to x [B, N, C]: [B, N, C]. One layer makes both queries and keys."""

    heads: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dense = lambda name: EqualizedDense(x.shape[-1], use_bias=False, dtype=self.dtype, name=name)
        query, value = (_heads(dense(name)(x), self.heads) for name in ('query_key', 'value'))
        weights = nn.softmax(distance_logits(query, query).astype(jnp.float32)).astype(value.dtype)
        return dense('output')(jnp.einsum('bhnm,bmhd->bnhd', weights, value).reshape(x.shape))


class TextAttention(nn.Module):
    """Applies dot-product attention from x [B, N, C] to a text [B, L, D]: [B, N, C]. `mask` [B, L] is true at words."""

    heads: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array, mask: jax.Array) -> jax.Array:
        dense = lambda name: EqualizedDense(x.shape[-1], use_bias=False, dtype=self.dtype, name=name)
        query = _heads(dense('query')(x), self.heads)
        key, value = (_heads(dense(name)(context), self.heads) for name in ('key', 'value'))
        mixed = jax.nn.dot_product_attention(query, key, value, mask=mask[:, None, None, :].astype(bool))
        return dense('output')(mixed.reshape(x.shape))


class AttentionBlock(nn.Module):
    """Applies attention to feature maps [B, H, W, C], to the text if there is one, and a hidden layer, all residual.

    The branches see features that are normalised per place, and are multiplied by `gain`.
    """

    head_width: int = 64  # channels per head
    gain: float = 0.3
    expansion: int = 4  # expansion of the hidden layer
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
        shape, width = x.shape, x.shape[-1]
        heads = max(1, width // self.head_width)
        if width % heads:
            raise ValueError(f'{heads} heads do not divide {width} channels: change head_width={self.head_width}')
        x = x.reshape(shape[0], -1, width)
        x += self.gain * DistanceAttention(heads, self.dtype, name='attention')(pixel_norm(x))
        if context is not None and mask is not None:
            x += self.gain * TextAttention(heads, self.dtype, name='text')(pixel_norm(x), context, mask)
        h = nn.gelu(EqualizedDense(self.expansion * width, dtype=self.dtype, name='hidden')(pixel_norm(x)))
        return (x + self.gain * EqualizedDense(width, dtype=self.dtype, name='output')(h)).reshape(shape)


def _heads(x: jax.Array, heads: int) -> jax.Array:
    """Splits [B, N, C] -> [B, N, heads, C / heads]."""
    return x.reshape(*x.shape[:2], heads, -1)
