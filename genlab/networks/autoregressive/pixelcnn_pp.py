"""PixelCNN++ over images, with outputs for a mixture of discretised logistics.

Salimans et al. 2017, "PixelCNN++", section 2 and the released code. Two streams see the rows above a place, and those
and the values to the left. Both go down to a quarter of the side and up again, with shortcuts between blocks of equal
side. Each level has `blocks` gated residual blocks on the way down, and as many or one more on the way up.

With 5 blocks, 160 filters and 10 mixtures, the network of 32x32x3 images has 53,659,080 parameters. They include the
gains of weight normalisation.

The released code sets gains and biases from a first batch of data. Here a new layer keeps the usual initial scale. The
second convolution of each block has a tenth of it, as in the released code.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.gated import GatedResidual, concat_elu, conditions
from genlab.networks.layers.masked import (
    Cache,
    CausalConv,
    CausalUpsample,
    Projection,
    Steps,
    Whole,
    path,
    raster,
    when,
)


class Stream(nn.Module):
    """Applies one of the two streams to [..., width]: 'down' sees rows above, 'down_right' also values to the left.

    The stream above keeps the features of its blocks in the walk, and the stream to the left adds them to its own.
    """

    direction: str
    width: int
    blocks: int
    levels: int
    dropout: float
    label: bool
    dtype: Any

    def setup(self):
        size = (2, 3) if self.direction == 'down' else (2, 2)
        weights: dict[str, Any] = {'kernel_size': size, 'weight_norm': True, 'dtype': self.dtype}
        conv: Any = functools.partial(CausalConv, direction=self.direction, **weights)
        block = functools.partial(
            GatedResidual,
            self.width,
            self.width,
            conv,
            activation=concat_elu,
            label=self.label,
            dropout=self.dropout,
            dtype=self.dtype,
        )
        levels, last = range(self.levels), self.levels - 1
        self.encoder = [[block(auxiliary=self.left) for _ in range(self.blocks)] for _ in levels]
        self.decoder = [[block(auxiliary=True) for _ in range(self.blocks + (level < last))] for level in levels]
        self.halve = [conv(self.width, strides=2) for _ in range(last)]
        self.double = [CausalUpsample(self.width, **weights) for _ in range(last)]

    @property
    def left(self) -> bool:
        """Tells whether this is the stream to the left."""
        return self.direction == 'down_right'

    def __call__(
        self, x: jax.Array, walk: Whole | Steps, label: jax.Array | None, keys: jax.Array | None, level: int = 0
    ) -> jax.Array:
        """Applies the blocks of a level and, between them, the levels below.

        Args:
            x: features of this level, [..., width].
            walk: the walk over places of this level.
            label: class weights [B, classes], or None.
            keys: one key per example for dropout, or None.
            level: 0 is the full side.

        Returns:
            Features [..., width].
        """
        shortcuts = [x]
        for b, block in enumerate(self.encoder[level]):
            name = f'encoder_{level}_{b}'
            auxiliary = walk.from_above(name) if self.left else None
            shortcuts.append(block(shortcuts[-1], walk, keys, auxiliary=auxiliary, label=label))
            self._keep(walk, name, shortcuts[-1])
        if level + 1 < self.levels:
            x = self._below(shortcuts[-1], walk, label, keys, level)
        else:
            x = shortcuts.pop()
        for b, block in enumerate(self.decoder[level]):
            name, auxiliary = f'decoder_{level}_{b}', shortcuts.pop()
            if self.left:
                auxiliary = jnp.concatenate([walk.from_above(name), auxiliary], -1)
            x = block(x, walk, keys, auxiliary=auxiliary, label=label)
            self._keep(walk, name, x)
        return x

    def _keep(self, walk: Whole | Steps, name: str, x: jax.Array) -> None:
        if not self.left:
            walk.keep(name, x)

    def _below(
        self, x: jax.Array, walk: Whole | Steps, label: jax.Array | None, keys: jax.Array | None, level: int
    ) -> jax.Array:
        """Applies the levels below this one to [..., width]. Steps do so at even rows and columns only."""
        halve, double = self.halve[level], self.double[level]
        if isinstance(walk, Whole):
            return double(self(halve(x), walk, label, keys, level + 1))
        walk.write(halve, x)
        band, i, j = walk.cache[path(halve)], walk.i, walk.j
        above = None if walk.above is None else walk.above['below']

        def lower(module: Stream, cache: Cache) -> Cache:
            column = None if j is None else j // 2
            steps = Steps(cache, i // 2, column, walk.width // 2, above=above, starting=walk.starting)
            steps.keep('result', module(module.halve[level].read(band, i, j), steps, label, None, level + 1))
            return steps.cache

        if walk.starting:
            walk.cache['below'] = lower(self, {})
        else:
            due: Any = (i % 2 == 0) & (True if j is None else j % 2 == 0)
            walk.cache['below'] = when(due, lower, self, walk.cache['below'])
        return double.read(walk.cache['below']['result'], i, j)


class PixelCNNPP(nn.Module):
    """Maps images in [-1, 1] to parameters of a mixture per pixel: [B, H, W, C] -> float32 [B, H, W, outputs].

    Called with (x, train, keys, label). `genlab/losses/mixtures.py` describes the outputs. Those of a pixel depend on
    all channels of earlier pixels in raster order, and on the label, class weights [B, classes] (missing: zeros).

    Fields:
        shape: height and width of x. 2^(levels - 1) divides both.
        channels: C.
        mixtures: components of the mixture.
        width: channels of a stream.
        blocks: gated residual blocks per level.
        levels: sides H, H / 2, ... of the streams.
        classes: number of classes; 0: no label.
        dropout: rate.
        edge_bias: whether the first convolutions add their bias where they see nothing, in the first row or column; the
            released code does not.
    """

    shape: tuple[int, int]
    channels: int
    mixtures: int = 10
    width: int = 160
    blocks: int = 5
    levels: int = 3
    classes: int = 0
    dropout: float = 0.5
    dtype: Any = jnp.float32
    edge_bias: bool = True

    def setup(self):
        if any(side % 2 ** (self.levels - 1) for side in self.shape):
            raise ValueError(f'{2 ** (self.levels - 1)} must divide the sides {self.shape}: choose fewer levels')
        weights: dict[str, Any] = {'shift': True, 'edge_bias': self.edge_bias, 'weight_norm': True, 'dtype': self.dtype}
        conv = functools.partial(CausalConv, self.width, **weights)
        self.first_above = conv(kernel_size=(2, 3), direction='down')
        self.first_row = conv(kernel_size=(1, 3), direction='down')
        self.first_left = conv(kernel_size=(2, 1), direction='down_right')
        settings = (self.width, self.blocks, self.levels, self.dropout, self.classes > 0, self.dtype)
        self.above, self.left = Stream('down', *settings), Stream('down_right', *settings)
        parts = 1 + 2 * self.channels + self.channels * (self.channels - 1) // 2
        self.output = Projection(parts * self.mixtures, weight_norm=True, dtype=self.dtype)

    def __call__(
        self, x: jax.Array, train: bool, keys: jax.Array | None = None, label: jax.Array | None = None
    ) -> jax.Array:
        label, walk = self._label(len(x), label), Whole()
        x, keys = _with_ones(x), keys if train else None
        self.above(self.first_above(x), walk, label, keys)
        return self._left(x, walk, label, keys)

    def start(self, count: int, label: jax.Array | None = None) -> Cache:
        """Returns the cache of `count` images before their first pixel. See `__call__` for the label."""
        width, label = self.shape[1], self._label(count, label)
        above = Steps({}, 0, None, width, starting=True)
        self.above(jnp.zeros((count, width, self.width), self.dtype), above, label, None)
        left = Steps({}, 0, 0, width, above=above.cache, starting=True)
        self._left(jnp.zeros((count, self.channels + 1), self.dtype), left, label, None)
        first = self.first_above.empty(count, width, self.channels + 1)
        cache = {'above': above.cache, 'left': left.cache, 'first': first}
        return cache if label is None else {**cache, 'label': label}

    def advance(self, cache: Cache, previous: jax.Array, place: jax.Array) -> tuple[jax.Array, Cache]:
        """Computes the outputs of one pixel.

        The stream above is evaluated once per row. Lower levels are evaluated at even rows and columns only.

        Args:
            cache: arrays from `start` or from the pixel before.
            previous: the pixel before, [B, C]; ignored at place 0.
            place: int [], in raster order.

        Returns:
            Outputs, float32 [B, outputs], and the cache for the next pixel.
        """
        label, width, (i, j) = cache.get('label'), self.shape[1], raster(place, self.shape[1])
        x = jnp.where(place > 0, _with_ones(previous), 0)
        first = self.first_above.write(cache['first'], x, i, j)

        def row(module: PixelCNNPP, above: Cache) -> Cache:
            walk = Steps(above, i, None, width)
            module.above(module.first_above.read(first, i, None), walk, label, None)
            return walk.cache

        above = when(j == 0, row, self, cache['above'])
        walk = Steps(cache['left'], i, j, width, above=above)
        outputs = self._left(x, walk, label, None)
        return outputs, {**cache, 'above': above, 'left': walk.cache, 'first': first}

    def _left(self, x: jax.Array, walk: Whole | Steps, label: jax.Array | None, keys: jax.Array | None) -> jax.Array:
        """Applies the stream to the left to pixels [..., C + 1]. Returns the outputs."""
        h = self.left(walk(self.first_row, x) + walk(self.first_left, x), walk, label, keys)
        return self.output(nn.elu(h)).astype(jnp.float32)

    def _label(self, count: int, label: jax.Array | None) -> jax.Array | None:
        return conditions(count, label, None, self.classes, 0).get('label')


def _with_ones(x: jax.Array) -> jax.Array:
    """Adds a channel of ones, which tells pixels from the zeros around an image: [..., C] -> [..., C + 1]."""
    return jnp.concatenate([x, jnp.ones_like(x[..., :1])], -1)
