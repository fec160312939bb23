"""A causal transformer over the tokens of a caption and of a grid of codes, in one sequence.

Ramesh et al. 2021 (DALL-E), section 2.2 and appendix B.1; Child et al. 2019 (Sparse Transformer), sections 4.2 and 4.3,
for the masks. The sequence is a prefix of conditions (`blocks.Prefix`) and the tokens of the grid in raster order. The
output at a token predicts the next one. Every token sees the whole prefix before it. `attention` names what it sees of
the grid, layer by layer in a cycle. With w columns, a token at place i sees a place j <= i if

    full         always,
    row          i - j <= w,
    column       i - j is a multiple of w,
    convolution  i - j = w dy + dx with 0 <= dy <= (k - 1) / 2 and |dx| <= (k - 1) / 2, k = `kernel`.

Rows wrap around at the ends, as in the papers. The masks save no time here: all scores are computed.

DALL-E has 64 layers of 62 heads of 64, width 3968; attention=dalle_attention(64); 256 caption tokens of 16,384 words
and 1024 tokens of 8192. That network has 12,292,836,992 parameters, with separate output layers. The paper says 12
billion.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genlab.networks.autoregressive.blocks import POSITIONS, SMALL, Layer, Past, Positions, Prefix, Stack, rotary_angles
from genlab.networks.layers.dense import Dense
from genlab.networks.layers.repetition import split_copies

MASKS = ('full', 'row', 'column', 'convolution')
Cache = dict[str, Any]


class Transformer(nn.Module):
    """Predicts tokens int32 [B, h, w] in 0 ... entries - 1 from those before: logits, float32 [B, h, w, entries].

    The arguments of the call are:

    x: tokens int32 [B, h, w].
    keys: dropout keys, one per example [B]; None for no dropout.
    label, caption, context: conditions, see `blocks.Prefix`.

    `joint` also returns the logits of the caption. `start` and `advance` predict one place after another.
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
    attention: tuple[str, ...] = ('full',)  # names in MASKS, one per layer, in a cycle
    kernel: int = 11  # side of the window of the convolution mask, odd
    positions: str = 'grid'  # positions of the grid: 'sequence', 'grid' (row + column) or 'rotary' (rows and columns)
    ratio: int = 4  # width of the hidden layer divided by the width of a token
    dropout: float = 0.0
    unrolled: bool = False  # compile every block, instead of one in a loop
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self):
        for name, known in [*((mask, MASKS) for mask in self.attention), (self.positions, POSITIONS)]:
            if name not in known:
                raise ValueError(f'{name!r} is none of {", ".join(known)}')
        learned = self.positions != 'rotary'
        self.prefix = Prefix(
            self.width, self.classes, self.words, self.length, self.context, self.context_entries, learned
        )
        self.embed = nn.Embed(self.entries, self.width, embedding_init=SMALL)
        self.places = Positions(self.shape, self.width, self.positions) if learned else None
        self.stack = Stack(self.heads, self.depth, self.ratio, self.dropout, self.unrolled, self.remat, self.dtype)
        self.logits = Dense(self.entries, kernel_init=SMALL)
        self.caption_logits = Dense(self.words, kernel_init=SMALL) if self.words else None

    def __call__(
        self, x: jax.Array, train: bool = False, keys: jax.Array | None = None, **condition: jax.Array | None
    ) -> jax.Array:
        """Returns the logits of the grid."""
        hidden = self.hidden(x, keys if train else None, condition)
        if self.is_initializing() and self.words:
            self.predict_caption(hidden)
        return self.predict_grid(hidden)

    def joint(
        self, x: jax.Array, train: bool = False, keys: jax.Array | None = None, **condition: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the logits of the caption, float32 [B, L, words], and those of the grid."""
        hidden = self.hidden(x, keys if train else None, condition)
        return self.predict_caption(hidden), self.predict_grid(hidden)

    def start(self, count: int, **condition: jax.Array | None) -> Cache:
        """Returns the cache of `count` examples before the first place.

        `layers` has room for the keys and values of a whole sequence of T tokens: keys [count, heads, D, T] and values
        [count, heads, T, D] of each layer. They cover the prefix except its last token. `last` [count, width]
        is the embedding of that one. `layers` also has the parameters, split once here and not for each place.
        """
        prefix = self.prefix(count, **condition).astype(self.dtype)
        before, total = prefix.shape[1] - 1, prefix.shape[1] + math.prod(self.shape) - 1
        keys = jnp.zeros((self.depth, count, self.heads, self.width // self.heads, total), self.dtype)
        values = keys.swapaxes(3, 4)
        if before:
            _, own = self.run(prefix[:, :-1], np.arange(before), outputs=True)
            keys = keys.at[..., :before].set(own.keys)
            values = values.at[..., :before, :].set(own.values)
        params = split_copies(self.stack.variables['params']['blocks'], self.depth)
        layers = [Layer(*layer) for layer in zip(params, map(Past, keys, values), strict=True)]
        return {'layers': layers, 'last': prefix[:, -1]}

    def advance(self, cache: Cache, previous: jax.Array, place: jax.Array | int) -> tuple[jax.Array, Cache]:
        """Predicts one place from the cache of those before.

        Args:
            cache: arrays from `start`, or from the call at the place before.
            previous: tokens int32 [B] of the place before; ignored at place 0.
            place: in raster order, int32 [].

        Returns:
            Logits, float32 [B, entries], and the new cache.
        """
        place = jnp.asarray(place, jnp.int32)
        token = self.embed(previous)
        if self.places is not None:
            token = token + self.places()[jnp.maximum(place - 1, 0)][None]
        x = jnp.where(place == 0, cache['last'], token.astype(self.dtype))[:, None]
        at = self.prefix.size - 1 + place
        x, layers = self.run(x, at[None], layers=cache['layers'])
        return self.logits(x[:, 0].astype(jnp.float32)), {**cache, 'layers': layers}

    def hidden(self, x: jax.Array, keys: jax.Array | None, condition: dict[str, jax.Array | None]) -> jax.Array:
        """Returns the last hidden layer at all tokens but the last one of the grid, [B, P + h * w - 1, width]."""
        if x.shape[1:] != tuple(self.shape):
            raise ValueError(f'tokens of shape {x.shape[1:]} for a network of {tuple(self.shape)}')
        tokens = self.embed(x.reshape(len(x), -1)[:, :-1])
        if self.places is not None:
            tokens = tokens + self.places()[None, :-1]
        x = jnp.concatenate([self.prefix(len(x), **condition), tokens], 1).astype(self.dtype)
        return self.run(x, np.arange(x.shape[1]), keys)[0]

    def run(
        self,
        x: jax.Array,
        at: Any,
        keys: jax.Array | None = None,
        outputs: bool = False,
        layers: list[Layer] | None = None,
    ) -> Any:
        """Applies the blocks to tokens x [B, N, width] at positions `at` [N] of the sequence."""
        prefix = self.prefix.size
        kinds = sorted({*self.attention})
        seen = at if layers is None else np.arange(prefix + math.prod(self.shape) - 1)
        masks = visible(at, seen, prefix, self.shape, tuple(kinds), self.kernel)
        angles = None
        if self.positions == 'rotary':
            angles = jnp.asarray(rotary_angles(tuple(self.shape), prefix, self.width // self.heads))[at]
        cycle = tuple(kinds.index(name) for name in self.attention)
        return self.stack(x, masks, angles, keys, cycle, outputs, layers, None if layers is None else at[0])

    def predict_grid(self, hidden: jax.Array) -> jax.Array:
        """Returns the logits of the grid from the hidden layer at all tokens."""
        logits = self.logits(hidden[:, self.prefix.size - 1 :].astype(jnp.float32))
        return logits.reshape(len(logits), *self.shape, self.entries)

    def predict_caption(self, hidden: jax.Array) -> jax.Array:
        """Returns the logits of the caption from the hidden layer at all tokens."""
        assert self.caption_logits is not None, 'a network without captions'
        start = self.prefix.start
        return self.caption_logits(hidden[:, start : start + self.length].astype(jnp.float32))


def visible(
    queries: Any, keys: Any, prefix: int, shape: tuple[int, int], kinds: tuple[str, ...], kernel: int = 11
) -> jax.Array:
    """Returns which tokens see which, for each kind of mask.

    Args:
        queries: positions in the sequence, int [N]. Position `prefix` + i is place i of the grid.
        keys: positions in the sequence, int [M].
        prefix: number of tokens before the grid.
        shape: rows and columns of the grid.
        kinds: names of MASKS.
        kernel: side of the window of the convolution mask, odd.

    Returns:
        bool [len(kinds), N, M]. A token sees itself.
    """
    distances = np.arange(math.prod(shape))
    table = jnp.asarray(np.stack([seen_distances(kind, distances, shape[1], kernel) for kind in kinds]))
    apart = jnp.asarray(queries)[:, None] - jnp.asarray(keys)[None]
    near = table[:, jnp.clip(apart, 0, len(distances) - 1)]
    return (apart >= 0)[None] & (near | (jnp.asarray(keys) < prefix)[None, None])


def seen_distances(kind: str, distances: np.ndarray, columns: int, kernel: int) -> np.ndarray:
    """Returns the distances i - j >= 0 in raster order that a mask lets through, bool like `distances`."""
    if kind == 'full':
        return np.ones(len(distances), bool)
    if kind == 'row':
        return distances <= columns
    if kind == 'column':
        return distances % columns == 0
    reach = kernel // 2
    down, right = np.meshgrid(np.arange(reach + 1), np.arange(-reach, reach + 1))
    return np.isin(distances, down * columns + right)


def dalle_attention(depth: int) -> tuple[str, ...]:
    """Returns the masks of DALL-E (appendix B.1): row, column, row, row, ..., and a convolution in the last layer."""
    return (*('column' if layer % 4 == 1 else 'row' for layer in range(depth - 1)), 'convolution')
