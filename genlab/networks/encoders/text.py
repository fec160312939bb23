"""A small transformer that encodes a caption as a context for cross-attention.

Rombach et al. 2022, appendix E.2.2, where it has 32 layers. Embeddings of tokens and positions are learned. The encoder
is trained from scratch together with the denoiser.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.attention import Attention
from genlab.networks.layers.dense import Dense
from genlab.networks.layers.normalization import LayerNorm

SMALL = nn.initializers.normal(0.02)


class TextEncoder(nn.Module):
    """Encodes tokens int32 [B, L], 0 for padding, as context [B, L + 1, width], float32, and mask, bool [B, L + 1].

    `words` is the size of the vocabulary. Position 0 is a learned start vector, equal for all texts. If the mask is
    true only at position 0, the context is the null condition. Words attend to the start vector and to each other.
    """

    words: int
    width: int = 128
    blocks: int = 2
    heads: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        del train  # part of the common signature; no effect here
        batch, length = tokens.shape
        start = jnp.broadcast_to(self.param('start', SMALL, (self.width,)), (batch, 1, self.width))
        positions = self.param('positions', SMALL, (length, self.width))
        embedded = nn.Embed(self.words, self.width, embedding_init=SMALL, name='words')(tokens) + positions[None]
        mask = jnp.concatenate([jnp.ones((batch, 1), bool), tokens != 0], 1)
        x = jnp.concatenate([start, embedded], 1).astype(self.dtype)
        for layer in range(self.blocks):
            x = Block(self.heads, self.dtype, name=f'block_{layer}')(x, mask)
        x = LayerNorm(dtype=self.dtype, name='normalization')(x).astype(jnp.float32)
        return jnp.concatenate([start, x[:, 1:]], 1), mask


def summary(context: jax.Array, mask: jax.Array) -> jax.Array:
    """Averages the context of a text over its start vector and its words: [B, L + 1, D], [B, L + 1] -> [B, D]."""
    share = mask / mask.sum(1, keepdims=True)
    return (context * share[..., None].astype(context.dtype)).sum(1)


class Block(nn.Module):
    """Applies masked self-attention and a hidden layer, both pre-normalised and residual."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        width = x.shape[-1]
        h = LayerNorm(dtype=self.dtype, name='attention_normalization')(x)
        x = x + Attention(self.heads, self.dtype, name='attention')(h, mask=mask)
        h = LayerNorm(dtype=self.dtype, name='hidden_normalization')(x)
        h = nn.gelu(Dense(4 * width, dtype=self.dtype, name='hidden')(h))
        return x + Dense(width, dtype=self.dtype, name='output')(h)
