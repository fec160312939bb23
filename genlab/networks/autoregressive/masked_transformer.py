"""A bidirectional transformer that predicts the masked tokens of a grid from the others.

Chang et al. 2022 (MaskGIT), section 3.1; Sahoo et al. 2024 and Shi et al. 2024 for diffusion with an absorbing state,
which need no time as an input. The sequence is a prefix of conditions (`blocks.Prefix`) and the tokens of the grid.

Here blocks are pre-normalised, and the output layer is not tied to the embedding. MaskGIT on ImageNet 256 has 24 blocks
of width 768, 8 heads, 16x16 tokens of 1024 entries and 1000 classes: 172,650,496 parameters here with positions per
place. The 227 million of the paper's table 1 include the autoencoder.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.autoregressive.blocks import POSITIONS, SMALL, Positions, Prefix, Stack, rotary_angles
from genlab.networks.layers.dense import Dense


class MaskedTransformer(nn.Module):
    """Predicts the tokens of a grid: int32 [B, h, w] in 0 ... entries -> logits, float32 [B, h, w, entries].

    The token `entries` marks a masked place. Every place sees all places. The arguments of the call are:

    x: tokens int32 [B, h, w].
    keys: dropout keys, one per example [B]; None for no dropout.
    label, caption, context: conditions, see `blocks.Prefix`.
    """

    shape: tuple[int, int]  # h, w
    entries: int
    width: int = 256
    depth: int = 8
    heads: int = 8
    classes: int = 0
    words: int = 0  # size of the vocabulary of captions, padding included; 0: no captions
    length: int = 0  # tokens per caption
    context: tuple[int, int] = (0, 0)  # grid of codes or features of another level; (0, 0): none
    context_entries: int = 0  # entries of the codebook of the context; 0: features
    positions: str = 'sequence'  # of the grid: 'sequence', 'grid' (row + column) or 'rotary' (rows and columns)
    ratio: int = 4  # width of the hidden layer divided by the width of a token
    dropout: float = 0.0
    unrolled: bool = False  # compile every block, instead of one in a loop
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, keys: jax.Array | None = None, **condition: jax.Array | None
    ) -> jax.Array:
        if self.positions not in POSITIONS:
            raise ValueError(f'{self.positions!r} is none of {", ".join(POSITIONS)}')
        if x.shape[1:] != tuple(self.shape):
            raise ValueError(f'tokens of shape {x.shape[1:]} for a network of {tuple(self.shape)}')
        learned, angles = self.positions != 'rotary', None
        prefix = Prefix(
            self.width,
            self.classes,
            self.words,
            self.length,
            self.context,
            self.context_entries,
            learned,
            name='prefix',
        )
        tokens = nn.Embed(self.entries + 1, self.width, embedding_init=SMALL, name='embed')(x.reshape(len(x), -1))
        if learned:
            tokens = tokens + Positions(self.shape, self.width, self.positions, name='places')()[None]
        else:
            angles = jnp.asarray(rotary_angles(tuple(self.shape), prefix.size, self.width // self.heads))
        h = jnp.concatenate([prefix(len(x), **condition), tokens], 1).astype(self.dtype)
        stack = Stack(
            self.heads, self.depth, self.ratio, self.dropout, self.unrolled, self.remat, self.dtype, name='stack'
        )
        h, _ = stack(h, None, angles, keys if train else None)
        h = h[:, prefix.size :].astype(jnp.float32)
        logits = Dense(self.entries, kernel_init=SMALL, name='logits')(h)
        return logits.reshape(*x.shape, self.entries)
