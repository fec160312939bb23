"""A small transformer that turns the words of a caption into a context to attend to.

Rombach et al. 2022, appendix E.2.2 (there with 32 layers): learned embeddings of tokens and of positions, trained together
with the denoiser from nothing.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.attention import Attention

SMALL = nn.initializers.normal(0.02)


class TextEncoder(nn.Module):
    """Tokens int32 [B, L], 0 where there is none, of a vocabulary of `words` -> context [B, L + 1, width], float32, and mask.

    Place 0 of the context is a learned vector for the start of a text. It is there whatever the text, and the same for all, so
    that a mask of it alone is no text; the words attend to it, and to each other. mask: bool [B, L + 1]."""

    words: int
    width: int = 128
    blocks: int = 2
    heads: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        del train  # every network is told; this one does the same in training
        batch, length = tokens.shape
        start = jnp.broadcast_to(self.param('start', SMALL, (self.width,)), (batch, 1, self.width))
        positions = self.param('positions', SMALL, (length, self.width))
        embedded = nn.Embed(self.words, self.width, embedding_init=SMALL, name='words')(tokens) + positions[None]
        mask = jnp.concatenate([jnp.ones((batch, 1), bool), tokens != 0], 1)
        x = jnp.concatenate([start, embedded], 1).astype(self.dtype)
        for layer in range(self.blocks):
            x = Block(self.heads, self.dtype, name=f'block_{layer}')(x, mask)
        x = nn.LayerNorm(dtype=self.dtype, name='normalization')(x).astype(jnp.float32)
        return jnp.concatenate([start, x[:, 1:]], 1), mask


class Block(nn.Module):
    """Attention of the tokens to those that are there, and a hidden layer, each normalised first and added."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        width = x.shape[-1]
        h = nn.LayerNorm(dtype=self.dtype, name='attention_normalization')(x)
        x = x + Attention(self.heads, self.dtype, name='attention')(h, mask=mask)
        h = nn.LayerNorm(dtype=self.dtype, name='hidden_normalization')(x)
        h = nn.gelu(nn.Dense(4 * width, dtype=self.dtype, name='hidden')(h))
        return x + nn.Dense(width, dtype=self.dtype, name='output')(h)
