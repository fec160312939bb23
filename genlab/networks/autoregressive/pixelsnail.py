"""PixelSNAIL over tokens: causal convolutions and causal attention, as in the priors of VQ-VAE-2.

Chen et al. 2018, "PixelSNAIL: An Improved Autoregressive Generative Model"; Razavi et al. 2019, section 3.2. Layers and
sizes follow a public implementation of VQ-VAE-2. With 256 channels, kernels of side 5, 4 blocks of 4 residual blocks
and 512 entries, the top prior (32x32, attention) has 84,873,280 parameters. The bottom prior (64x64, no attention, 3
residual blocks over the top codes) has 89,762,816. They include masked weights and gains.

In that implementation, only the last places of a row see the last value of the row above: the first convolution leaves
the first column zero. Here the first convolution moves values to the next place in raster order, at no cost. Every
place then sees all earlier ones through the attention. `raster=False` gives that implementation. Without attention, a
place misses values to its far right in the rows just above. Each convolution that sees k // 2 columns to the right also
goes up by a row.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from genlab.networks.layers.dropout import Dropout
from genlab.networks.layers.gated import ContextNetwork, GatedResidual, conditions, entry_weights
from genlab.networks.layers.masked import Cache, CausalConv, Index, Projection, Steps, Whole, path, raster


class CausalAttention(nn.Module):
    """Attends from each place to all earlier places: queries [..., C] and keys [..., D] -> [..., width].

    The first place has nothing to attend to and gets zeros.
    """

    width: int
    heads: int = 8
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def setup(self):
        if self.width % self.heads:
            raise ValueError(f'{self.heads} heads do not divide a width of {self.width}: choose a divisor of the width')
        project = functools.partial(Projection, self.width, weight_norm=True, dtype=self.dtype)
        self.query, self.key, self.value = project(), project(), project()
        self.dropped = Dropout(self.dropout)

    def __call__(self, query: jax.Array, key: jax.Array, keys: jax.Array | None) -> jax.Array:
        count, height, width, _ = query.shape
        places = height * width
        found = [self._heads(layer(x)) for layer, x in ((self.query, query), (self.key, key), (self.value, key))]
        query, key, value = (x.reshape(count, places, *x.shape[-2:]) for x in found)
        earlier = jnp.tri(places, k=-1, dtype=bool)
        mixed = self._mix(jnp.einsum('bqhd,bkhd->bhqk', query, key), earlier, value, keys)
        return mixed.reshape(count, height, width, self.width)

    def empty(self, count: int, places: int) -> tuple[jax.Array, jax.Array]:
        """Returns the empty cache of keys and values, [count, places, heads, width / heads] each."""
        shape = (count, places, self.heads, self.width // self.heads)
        return jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype)

    def at(
        self, cache: tuple[jax.Array, jax.Array], query: jax.Array, key: jax.Array, place: Index
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Attends from one place.

        Args:
            cache: keys and values so far.
            query: features for the query, [B, C].
            key: features for key and value, [B, D].
            place: int [].

        Returns:
            The result [B, width], and keys and values with those of this place.
        """
        new = (self._heads(layer(key))[:, None] for layer in (self.key, self.value))
        stored_keys, values = (lax.dynamic_update_slice(old, x, (0, place, 0, 0)) for old, x in zip(cache, new))
        query = self._heads(self.query(query))[:, None]
        scores = jnp.einsum('bqhd,bkhd->bhqk', query, stored_keys)
        earlier = (jnp.arange(values.shape[1]) < place)[None]
        return self._mix(scores, earlier, values, None).reshape(len(query), -1), (stored_keys, values)

    def _heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)

    def _mix(self, scores: jax.Array, earlier: jax.Array, values: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Averages values by the softmax of scores [B, heads, Q, K] over earlier places, bool [Q, K]."""
        scores = jnp.where(earlier[None, None], scores.astype(jnp.float32) / math.sqrt(self.width / self.heads), -1e30)
        weights = jnp.where(earlier.any(-1)[None, None, :, None], nn.softmax(scores), 0)
        return jnp.einsum('bhqk,bkhd->bqhd', self.dropped(weights, keys).astype(values.dtype), values)


class PixelBlock(nn.Module):
    """Applies residual blocks of causal convolutions to [..., width], then attention or a 1x1 convolution.

    The last two also see `position` [..., 2].
    """

    width: int
    inner: int
    kernel_size: int
    blocks: int
    attention: bool
    heads: int
    label: bool
    condition: bool
    dropout: float
    dtype: Any

    def setup(self):
        more: dict[str, Any] = {'dropout': self.dropout, 'dtype': self.dtype}
        size = (self.kernel_size,) * 2
        conv = functools.partial(CausalConv, kernel_size=size, masked=True, weight_norm=True, dtype=self.dtype)
        project = functools.partial(Projection, weight_norm=True, dtype=self.dtype)
        self.residual = [
            GatedResidual(self.width, self.inner, conv, label=self.label, condition=self.condition, **more)
            for _ in range(self.blocks)
        ]
        if self.attention:
            self.key = GatedResidual(2 * self.width + 2, self.width, project, **more)
            self.query = GatedResidual(self.width + 2, self.width, project, **more)
            self.attend = CausalAttention(self.width // 2, self.heads, **more)
            self.output: Any = GatedResidual(self.width, self.width, project, auxiliary=True, **more)
        else:
            self.output = project(self.width)

    def __call__(
        self,
        x: jax.Array,
        walk: Whole | Steps,
        position: jax.Array,
        keys: jax.Array | None,
        label: jax.Array | None,
        condition: jax.Array | None,
    ) -> jax.Array:
        h = x
        for block in self.residual:
            h = block(h, walk, keys, label=label, condition=condition)
        if not self.attention:
            return self.output(jnp.concatenate([h, position], -1))
        key = self.key(jnp.concatenate([x, h, position], -1), walk, keys)
        query = self.query(jnp.concatenate([h, position], -1), walk, keys)
        return self.output(h, walk, keys, auxiliary=self._attended(walk, query, key, keys))

    def _attended(self, walk: Whole | Steps, query: jax.Array, key: jax.Array, keys: jax.Array | None) -> jax.Array:
        if isinstance(walk, Whole):
            return self.attend(query, key, keys)
        assert walk.j is not None, 'attention is for places, not for rows'
        name = path(self.attend)
        result, cache = self.attend.at(walk.cache[name], query, key, walk.i * walk.width + walk.j)
        walk.cache[name] = cache
        return result


class PixelSNAIL(nn.Module):
    """Maps tokens to logits of the token at each place: [B, h, w] -> float32 [B, h, w, entries].

    Called with (x, train, keys, label, context). x holds tokens, int [B, h, w]; or weights of the entries, float
    [B, h, w, entries]; or, for 2 entries, pixels of -1 and 1, float [B, h, w, 1]. The logits at a place depend on x at
    earlier places in raster order, on the label and on the context. The label is class weights [B, classes] (missing:
    zeros). The context is codes int [B, h', w'] or features [B, h', w', D] of another grid, whose sides divide the
    sides of x.

    Fields:
        shape: height and width of x.
        entries: number of different tokens.
        width: channels.
        inner: channels within residual blocks; 0: `width`.
        kernel_size: side of the causal kernels, odd; 5 or more without attention. Two convolutions of side 3 skip the
            value two columns to the left.
        blocks: number of blocks.
        residual_blocks: residual blocks of causal convolutions per block.
        output_blocks: residual blocks of 1x1 convolutions before the logits.
        attention: whether each block attends to all earlier places.
        heads: heads of the attention; they divide `width` / 2.
        classes: number of classes; 0: no label.
        context: entries of the codes in the context, or its features D; 0: no context.
        context_blocks: residual blocks over the context.
        dropout: rate.
        raster: whether values move to the next place in raster order; else within their row or column, with the bias.
    """

    shape: tuple[int, int]
    entries: int
    width: int = 256
    inner: int = 0
    kernel_size: int = 5
    blocks: int = 4
    residual_blocks: int = 4
    output_blocks: int = 0
    attention: bool = True
    heads: int = 8
    classes: int = 0
    context: int = 0
    context_blocks: int = 3
    dropout: float = 0.1
    dtype: Any = jnp.float32
    raster: bool = True

    def setup(self):
        side, inner = self.kernel_size, self.inner or self.width
        weights: dict[str, Any] = {'shift': True, 'edge_bias': self.raster, 'weight_norm': True, 'dtype': self.dtype}
        conv = functools.partial(CausalConv, self.width, **weights)
        project = functools.partial(Projection, weight_norm=True, dtype=self.dtype)
        more: dict[str, Any] = {'dropout': self.dropout, 'dtype': self.dtype}
        self.above = conv(kernel_size=(side // 2, side), direction='down')
        self.left = conv(kernel_size=((side + 1) // 2, side // 2), direction='down_right', raster=self.raster)
        settings = (self.width, inner, side, self.residual_blocks, self.attention, self.heads)
        self.stack = [
            PixelBlock(*settings, label=self.classes > 0, condition=self.context > 0, **more)
            for _ in range(self.blocks)
        ]
        self.outputs = [GatedResidual(self.width, inner, project, **more) for _ in range(self.output_blocks)]
        self.logits = project(self.entries)
        if self.context:
            self.context_network = ContextNetwork(self.context, inner, self.context_blocks, **more)

    def __call__(
        self,
        x: jax.Array,
        train: bool,
        keys: jax.Array | None = None,
        label: jax.Array | None = None,
        context: jax.Array | None = None,
    ) -> jax.Array:
        keys = keys if train else None
        given = self._conditions(len(x), label, context, keys)
        return self._walk(entry_weights(x, self.entries, self.dtype), Whole(), given, keys)

    def start(self, count: int, label: jax.Array | None = None, context: jax.Array | None = None) -> Cache:
        """Returns the cache of `count` grids before their first place. See `__call__` for the conditions."""
        given = self._conditions(count, label, context, None)
        found = {path(b.attend): b.attend.empty(count, math.prod(self.shape)) for b in self.stack if self.attention}
        walk = Steps(found, 0, 0, self.shape[1], starting=True)
        self._walk(jnp.zeros((count, self.entries), self.dtype), walk, given, None)
        return {'layers': {**walk.cache, **found}, 'conditions': given}

    def advance(self, cache: Cache, previous: jax.Array, place: jax.Array) -> tuple[jax.Array, Cache]:
        """Computes the logits of one place.

        Args:
            cache: arrays from `start` or from the place before.
            previous: tokens of the place before, as x without the axes of places; ignored at place 0.
            place: int [], in raster order.

        Returns:
            Logits, float32 [B, entries], and the cache for the next place.
        """
        walk = Steps(cache['layers'], *raster(place, self.shape[1]), self.shape[1])
        x = jnp.where(place > 0, entry_weights(previous, self.entries, self.dtype), 0)
        logits = self._walk(x, walk, cache['conditions'], None)
        return logits, {**cache, 'layers': walk.cache}

    def _conditions(
        self, count: int, label: jax.Array | None, context: jax.Array | None, keys: jax.Array | None
    ) -> dict[str, jax.Array]:
        """Returns the label, and features of the context."""
        given = conditions(count, label, context, self.classes, self.context)
        if self.context:
            given['context'] = self.context_network(given['context'], keys)
        return given

    def _walk(
        self, x: jax.Array, walk: Whole | Steps, given: dict[str, jax.Array], keys: jax.Array | None
    ) -> jax.Array:
        """Returns the logits at the places of a walk from the weights of the entries."""
        condition = walk.grid(given['context'], self.shape) if self.context else None
        h = walk(self.above, x) + walk(self.left, x)
        position = walk.grid(jnp.asarray(self._positions(), h.dtype), self.shape)
        position = jnp.broadcast_to(position, (*h.shape[:-1], 2))
        for block in self.stack:
            h = block(h, walk, position, keys, given.get('label'), condition)
        for output in self.outputs:
            h = output(h, walk, keys)
        return self.logits(nn.elu(h)).astype(jnp.float32)

    def _positions(self) -> np.ndarray:
        """Returns the row and the column of each place, in -1/2 ... 1/2: [1, h, w, 2]."""
        rows, columns = (np.arange(side) / side - 0.5 for side in self.shape)
        return np.stack(np.meshgrid(rows, columns, indexing='ij'), -1)[None]
