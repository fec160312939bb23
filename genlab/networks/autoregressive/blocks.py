"""Parts of transformers over tokens: blocks with masks and a cache, positions, and a prefix of conditions.

Blocks are pre-normalised (Radford et al. 2019, section 2.3). A cache holds the keys and values of earlier tokens, so
that one more token costs one pass of that token.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genlab.networks.layers.attention import attend, split_heads
from genlab.networks.layers.dense import Dense
from genlab.networks.layers.dropout import Dropout
from genlab.networks.layers.normalization import LayerNorm
from genlab.networks.layers.repetition import apply_in_turn, repeat_with_rows

SMALL = nn.initializers.normal(0.02)
POSITIONS = ('sequence', 'grid', 'rotary')


class Past(NamedTuple):
    """Holds keys [B, heads, D, M] and values [B, heads, M, D] of M tokens, D = C / heads."""

    keys: jax.Array
    values: jax.Array

    def written(self, other: 'Past', place: jax.Array) -> 'Past':
        """Returns these keys and values with those of `other` written from token `place` on."""
        update = jax.lax.dynamic_update_slice_in_dim
        return Past(update(self.keys, other.keys, place, 3), update(self.values, other.values, place, 2))


class Layer(NamedTuple):
    """Holds what decoding keeps of a layer: its parameters, and room for the keys and values of a whole sequence."""

    params: Any
    past: Past


class Row(NamedTuple):
    """Holds what differs between the layers. The leaves have a leading axis [depth] outside of a block."""

    number: jax.Array | int  # number of the layer, int32
    kind: jax.Array | int  # kind of the layer's mask, int32
    past: tuple[Past, jax.Array] | None = None  # past of a sequence, and the token's place, int32 []


class Attention(nn.Module):
    """Applies self-attention over tokens x [B, N, C]: (output [B, N, C], keys and values).

    mask: which keys a query sees, bool [N, M]; None: all. angles: rotation of queries and keys, [N, C / heads / 2], or
    None. past: keys and values of a sequence of M tokens, and a place. Then x is the one token there (N = 1). It sees
    the sequence, itself included. The keys and values that are returned are those of x, or of the sequence with x.
    """

    heads: int
    output_deviation: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        angles: jax.Array | None,
        past: tuple[Past, jax.Array] | None = None,
    ) -> tuple[jax.Array, Past]:
        width = x.shape[-1]
        if width % self.heads:
            raise ValueError(f'{self.heads} heads do not divide a width of {width}: choose a divisor of the width')
        joined = Dense(3 * width, dtype=self.dtype, kernel_init=SMALL, name='query_key_value')(x)
        query, key, value = split_heads(joined, 3, self.heads)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        own = Past(jnp.moveaxis(key, 1, 3), jnp.moveaxis(value, 1, 2))
        if past is None:
            mixed = attend(query, key, value, None if mask is None else mask[None, None], causal=mask is not None)
        else:
            sequence, place = past
            own = sequence.written(own, place)
            mixed = attend_past(query[:, 0], own, mask)
        init = nn.initializers.normal(self.output_deviation)
        output = Dense(width, dtype=self.dtype, kernel_init=init, name='output')(mixed.reshape(x.shape))
        return output, own


def attend_past(query: jax.Array, past: Past, mask: jax.Array | None) -> jax.Array:
    """Attends from one token to a sequence, in float32.

    A matrix product of one row would first copy the keys and values. Sums of products read them in place.

    Args:
        query: query of the token, [B, heads, D].
        past: keys and values of M tokens.
        mask: which of these the token sees, bool [1, M]; None: all.

    Returns:
        Mixed values [B, heads, D].
    """
    scores = (query.astype(jnp.float32)[..., None] / math.sqrt(query.shape[-1]) * past.keys).sum(2)
    if mask is not None:
        scores = jnp.where(mask[None], scores, -jnp.inf)
    return (jax.nn.softmax(scores)[..., None] * past.values).sum(2).astype(past.values.dtype)


class Block(nn.Module):
    """Applies self-attention and a hidden layer, each as a residual branch: (x [B, N, C], keys and values).

    x: tokens [B, N, C]. row: the layer's own inputs. masks: bool [kinds, N, M], or None to see all. angles: see
    `Attention`. keys: dropout keys, one per example [B], or None.
    """

    heads: int
    ratio: int
    dropout: float
    depth: int  # depth of the network. The last layer of a branch starts smaller by 1 / sqrt(2 depth)
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        row: Row,
        masks: jax.Array | None = None,
        angles: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> tuple[jax.Array, Past]:
        # The layers share the path that selects the noise, so their number is folded into the keys.
        keys = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, row.number)
        width, deviation = x.shape[-1], 0.02 / math.sqrt(2 * self.depth)
        h = LayerNorm(dtype=self.dtype, name='attention_norm')(x)
        mask = None if masks is None else masks[row.kind]
        h, own = Attention(self.heads, deviation, self.dtype, name='attention')(h, mask, angles, row.past)
        x = x + Dropout(self.dropout, name='attention_dropout')(h, keys)
        h = LayerNorm(dtype=self.dtype, name='hidden_norm')(x)
        h = nn.gelu(Dense(self.ratio * width, dtype=self.dtype, kernel_init=SMALL, name='hidden')(h))
        init = nn.initializers.normal(deviation)
        h = Dense(width, dtype=self.dtype, kernel_init=init, name='hidden_output')(h)
        return x + Dropout(self.dropout, name='hidden_dropout')(h, keys), own


class Stack(nn.Module):
    """Applies `depth` blocks and a last normalisation; the parameters of the blocks are stacked in `blocks`.

    Args of the call: x, masks, angles and keys as for `Block`; kinds: the mask of each layer, in a cycle; outputs:
    whether to return the keys and values of the layers, with a leading axis [depth]. layers: what decoding keeps of
    each. Then x is one token, at `place`, and the layers with that token are returned.
    """

    heads: int
    depth: int
    ratio: int
    dropout: float
    unrolled: bool
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        masks: jax.Array | None = None,
        angles: jax.Array | None = None,
        keys: jax.Array | None = None,
        kinds: tuple[int, ...] = (0,),
        outputs: bool = False,
        layers: list[Layer] | None = None,
        place: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        x = Dropout(self.dropout, name='dropout')(x, keys)
        block = Block(self.heads, self.ratio, self.dropout, self.depth, self.dtype, name='blocks')
        cycle = [kinds[number % len(kinds)] for number in range(self.depth)]
        if layers is None:
            rows = Row(jnp.arange(self.depth, dtype=jnp.int32), jnp.asarray(cycle, jnp.int32))
            how = dict(outputs=outputs, unrolled=self.unrolled, remat=self.remat)
            x, own = repeat_with_rows(block, self.depth, x, rows, masks, angles, keys, **how)
        else:
            assert place is not None, 'layers without a place'
            params = [layer.params for layer in layers]
            steps = [Row(number, cycle[number], (layer.past, place)) for number, layer in enumerate(layers)]
            x, pasts = apply_in_turn(block, params, x, steps, masks, angles)
            own = list(map(Layer, params, pasts))
        return LayerNorm(dtype=self.dtype, name='norm')(x), own


class Prefix(nn.Module):
    """Embeds conditions as the first tokens of a sequence: float32 [count, P, width], P = C + 1 + L.

    These are C tokens of the context, a start token, and L tokens of the caption. The start token has a learned vector
    for each class and one for the null class, mixed by the class weights. Without classes there is one vector. Padding
    of the caption has an embedding per position (Ramesh et al. 2021, section 2.2).

    Args of the call:
        count: number of examples, N.
        label: class weights [N, classes]; what they lack to 1 is the weight of the null class. None: the null class.
        caption: tokens int32 [N, L], 0 for padding. None: the null caption, padding only.
        context: codes int32 [N, h, w], or features [N, h, w, D] where `context_entries` is 0; h x w = `context`.
    """

    width: int
    classes: int = 0
    words: int = 0  # size of the vocabulary of captions, padding included; 0: no captions
    length: int = 0  # L, tokens per caption
    context: tuple[int, int] = (0, 0)
    context_entries: int = 0  # entries of the codebook of the context; 0: features
    positions: bool = True  # whether to add learned positions to caption and context

    @nn.compact
    def __call__(
        self,
        count: int,
        label: jax.Array | None = None,
        caption: jax.Array | None = None,
        context: jax.Array | None = None,
    ) -> jax.Array:
        self.check(label, caption, context)
        table = self.param('start', SMALL, (self.classes + 1, self.width))
        weights = jnp.zeros((count, self.classes)) if label is None else label
        parts = [(jnp.concatenate([weights, 1 - weights.sum(-1, keepdims=True)], -1) @ table)[:, None]]
        if context is not None:
            if self.context_entries:
                context = nn.Embed(self.context_entries, self.width, embedding_init=SMALL, name='context')(context)
            else:
                context = Dense(self.width, kernel_init=SMALL, name='context')(context)
            parts.insert(0, self.placed(context.reshape(count, -1, self.width), 'context_positions'))
        if self.words:
            caption = jnp.zeros((count, self.length), jnp.int32) if caption is None else caption
            embedded = nn.Embed(self.words, self.width, embedding_init=SMALL, name='words')(caption)
            padding = self.param('padding', SMALL, (self.length, self.width))
            parts.append(self.placed(jnp.where((caption == 0)[..., None], padding[None], embedded), 'word_positions'))
        return jnp.concatenate(parts, 1)

    def placed(self, x: jax.Array, name: str) -> jax.Array:
        """Adds learned positions to tokens [N, M, width], if there are any."""
        return x + self.param(name, SMALL, x.shape[1:])[None] if self.positions else x

    @property
    def start(self) -> int:
        """Returns the index of the start token, C."""
        return math.prod(self.context)

    @property
    def size(self) -> int:
        """Returns the number of tokens, P."""
        return self.start + 1 + (self.length if self.words else 0)

    def check(self, label: jax.Array | None, caption: jax.Array | None, context: jax.Array | None) -> None:
        """Raises ValueError if the conditions are not those that the network is made for."""
        if label is not None and label.shape[-1] != self.classes:
            raise ValueError(f'{label.shape[-1]} class weights for a network of {self.classes} classes')
        if caption is not None and (not self.words or caption.shape[-1] != self.length):
            raise ValueError(f'a caption of {caption.shape[-1]} tokens for a network of {self.length}, see `length`')
        there = (0, 0) if context is None else context.shape[1:3]
        if tuple(there) != tuple(self.context):
            raise ValueError(f'a context of {there} tokens for a network of {self.context}, see `context`')


class Positions(nn.Module):
    """Returns learned positions of a grid [h * w, width]: a vector per place, or the sum of one per row and column."""

    shape: tuple[int, int]
    width: int
    kind: str  # 'sequence' or 'grid'

    @nn.compact
    def __call__(self) -> jax.Array:
        height, across = self.shape
        if self.kind == 'sequence':
            return self.param('positions', SMALL, (height * across, self.width))
        rows = self.param('rows', SMALL, (height, self.width))
        columns = self.param('columns', SMALL, (across, self.width))
        return (rows[:, None] + columns[None]).reshape(-1, self.width)


@functools.cache
def rotary_angles(shape: tuple[int, int], prefix: int, size: int, longest: float = 10_000.0) -> np.ndarray:
    """Returns the rotation angles of a prefix and a grid after it (Su et al. 2021, equation 15), on two axes.

    Half of the angles are in proportion to the row of a token, and half to its column. Token s of a prefix of P has row
    and column s - P. The scores of two tokens depend only on the differences of their rows and of their columns.

    Args:
        shape: rows and columns of the grid.
        prefix: number of tokens before the grid, P.
        size: size of a head, a multiple of 4.
        longest: scale of the lowest frequency, in tokens per radian.

    Returns:
        Angles, float32 [P + h * w, size / 2].
    """
    if size % 4:
        raise ValueError(f'rotary positions need heads of a multiple of 4, not {size}: change width or heads')
    before = np.repeat(np.arange(-prefix, 0)[:, None], 2, 1)
    grid = np.stack(np.divmod(np.arange(math.prod(shape)), shape[1]), 1)
    frequencies = longest ** -(np.arange(size // 4) / (size // 4))
    angles = np.concatenate([before, grid])[:, :, None] * frequencies
    return angles.reshape(len(angles), -1).astype(np.float32)


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
    """Rotates the plane of channels i and i + D / 2 of each head by angle i: [B, N, heads, D], angles [N, D / 2]."""
    first, second = jnp.split(x.astype(jnp.float32), 2, -1)
    cos, sin = (wave(angles)[None, :, None] for wave in (jnp.cos, jnp.sin))
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], -1).astype(x.dtype)
