"""Causal convolutions of grids, and their evaluation place by place in raster order.

Two stacks of small convolutions replace masked kernels (van den Oord et al. 2016b, section 2.2; Salimans et al. 2017,
section 2.4). Features of the stack above see all rows above a place. Features of the stack to the left also see the
values to the left in the same row. Together they have no blind spot. Padding and slices shift the input, so no weight
is wasted on a mask.

A network applies its layers through a walk. `Whole` applies a layer to all places. `Steps` applies it to one place
[B, C] or one row [B, W, C], and keeps the last rows of each layer's input in a cache. The network is written once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from genlab.networks.layers.convolution import convolve, convolve_transpose

Cache = dict[str, Any]
Index = int | jax.Array


class Weights(nn.Module):
    """Holds a kernel and a bias, optionally with weight normalisation (Salimans and Kingma 2016, section 2).

    With `weight_norm`, the kernel of output o is gain_o v_o / |v_o|. The gain starts as `scale` times |v_o|, so a new
    layer equals one without normalisation. `scale` multiplies the initial kernel.
    """

    features: int
    weight_norm: bool = False
    scale: float = 1.0
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def weights(self, shape: tuple[int, ...], mask: jax.Array | None = None) -> tuple[jax.Array, jax.Array | None]:
        """Returns the kernel [*shape, features] and the bias [features] or None, in `dtype`."""
        kernel = self.param('kernel', self._initial, (*shape, self.features))
        kernel = kernel if mask is None else kernel * mask
        if self.weight_norm:
            # The maximum keeps the gradient finite where all weights of an output are zero.
            norm = jnp.sqrt(jnp.maximum(jnp.square(kernel).sum(tuple(range(len(shape)))), 1e-24))
            gain = self.param('gain', lambda _: self.scale * norm)
            kernel = kernel * (gain / norm).reshape((1,) * len(shape) + (-1,))
        bias = self.param('bias', nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        return kernel.astype(self.dtype), None if bias is None else bias.astype(self.dtype)

    def _initial(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return nn.linear.default_kernel_init(key, shape) * (1 if self.weight_norm else self.scale)


class Projection(Weights):
    """Applies a dense layer to the last axis, as a 1x1 convolution of grids: [..., C] -> [..., features]."""

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = self.weights((x.shape[-1],))
        return _plus(x.astype(self.dtype) @ kernel, bias)


class CausalConv(Weights):
    """Convolves grids [B, H, W, C] -> [B, H / strides, W / strides, features].

    An output at row i and column j sees the rows i - h + 1 ... i of the input, for a kernel [h, w], and the columns
    on both sides of j ('down', w odd) or j - w + 1 ... j ('down_right'). `direction='same'` is a convolution that is
    not causal, for conditions.

    With `shift`, the output moves by one row down ('down') or one column to the right ('down_right'), so it no longer
    sees its own row or place. `raster` moves a 'down_right' output to the next place in raster order instead. The first
    column then sees the inputs of the last place of the row above.

    Places that see nothing after a shift get the bias. Without `edge_bias` they get zeros: the bias moves with the
    output, as in released code. `raster` needs `edge_bias`.

    `masked` is for a 'down' kernel that sees only the columns to the left in its last row. Its masked weights exist,
    because published parameter counts include them.
    """

    kernel_size: tuple[int, int] = (2, 3)
    direction: str = 'down'
    shift: bool = False
    raster: bool = False
    masked: bool = False
    strides: int = 1
    edge_bias: bool = True

    @property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Returns the zeros before and after the rows and the columns, without the shift."""
        height, width = self.kernel_size
        half = ((width - 1) // 2, width // 2)
        if self.direction == 'same':
            return ((height - 1) // 2, height // 2), half
        if self.direction not in ('down', 'down_right'):
            raise ValueError(f"set direction to 'down', 'down_right' or 'same', not {self.direction!r}")
        return (height - 1, 0), half if self.direction == 'down' else (width - 1, 0)

    @property
    def shifts(self) -> tuple[int, int]:
        """Returns the numbers of rows and columns by which the output moves, within the grid."""
        return (int(self.shift), 0) if self.direction == 'down' else (0, int(self.shift and not self.raster))

    def kernel(self, channels: int) -> tuple[jax.Array, jax.Array | None]:
        """Returns the kernel [h, w, channels, features] and the bias."""
        mask = None
        if self.masked:
            height, width = self.kernel_size
            mask = jnp.ones((height, width, 1, 1)).at[-1, width // 2 :].set(0)
        return self.weights((*self.kernel_size, channels), mask)

    def __call__(self, x: jax.Array) -> jax.Array:
        (top, bottom), (left, right) = self.pads
        down, aside = self.shifts
        kernel, bias = self.kernel(x.shape[-1])
        x = x[:, : x.shape[1] - down, : x.shape[2] - aside].astype(self.dtype)
        padding = ((top + down, bottom), (left + aside, right))
        y = convolve(x, kernel, (self.strides, self.strides), padding)
        if self.shift and self.raster:
            places = y.reshape(len(y), -1, self.features)
            y = jnp.pad(places[:, :-1], ((0, 0), (1, 0), (0, 0))).reshape(y.shape)
        if bias is not None and not self.edge_bias:
            rows, columns = np.arange(y.shape[1]) >= down, np.arange(y.shape[2]) >= aside
            return y + bias[None, None, None] * (rows[:, None] & columns)[None, :, :, None]
        return _plus(y, bias)

    def empty(self, count: int, width: int, channels: int) -> jax.Array:
        """Returns the band of an input that is zero so far: [count, rows, width and padding, channels].

        A band holds the last rows of the input that a kernel sees. Row i lies at i modulo the number of rows.
        """
        _, (left, right) = self.pads
        down, aside = self.shifts
        return jnp.zeros((count, self.kernel_size[0] + down, left + aside + width + right, channels), self.dtype)

    def write(self, band: jax.Array, x: jax.Array, i: Index, j: Index | None) -> jax.Array:
        """Returns the band with an input in it.

        Args:
            band: inputs so far, as from `empty`.
            x: input at row i and column j, [B, C]; with `shift`, the input at the place before (i, j). If j is None,
                the inputs of row i, [B, W, C].
            i: row.
            j: column or None.

        Returns:
            The new band.
        """
        start = self.pads[1][0] + self.shifts[1]
        x = x.astype(band.dtype)
        if j is None:
            return lax.dynamic_update_slice(band, x[:, None], (0, i % band.shape[1], start, 0))
        if self.shift:
            i, j = self._before(band, i, j)
        return lax.dynamic_update_slice(band, x[:, None, None], (0, i % band.shape[1], start + j, 0))

    def read(self, band: jax.Array, i: Index, j: Index | None) -> jax.Array:
        """Returns the output at row i and column j, [B, features], or of row i, [B, W / strides, features].

        i and j count places of the input, and `strides` divides them.
        """
        height, width = self.kernel_size
        kernel, bias = self.kernel(band.shape[-1])
        if bias is not None and self.shift and not self.edge_bias:
            bias = jnp.where((i if self.direction == 'down' else j) == 0, 0, bias)
        if self.shift and self.raster:
            assert j is not None, 'a shift in raster order is for places, not for rows'
            i, j = self._before(band, i, j)
        if j is not None:
            band = lax.dynamic_slice_in_dim(band, j, width, 2)
        if band.shape[1] > 1:  # from the rows of the band to the rows of the kernel
            rows = (i - self.shifts[0] - height + 1 + jnp.arange(height)) % band.shape[1]
            band = jnp.take(band, rows, 1)
        if j is not None:
            return _plus(band.reshape(len(band), -1) @ kernel.reshape(-1, self.features), bias)
        return _plus(convolve(band, kernel, (1, self.strides), 'VALID')[:, 0], bias)

    def _before(self, band: jax.Array, i: Index, j: Index) -> tuple[jax.Array, jax.Array]:
        """Returns row and column of the place before (i, j) in raster order. Before the first place it is row -1."""
        width = band.shape[2] - sum(self.pads[1]) - self.shifts[1]
        return jnp.where(j > 0, i, i - 1), jnp.where(j > 0, j, width) - 1


class CausalUpsample(Weights):
    """Doubles the side by a transposed convolution of stride 2: [B, H, W, C] -> [B, 2 H, 2 W, features].

    The kernel has 2 rows, so an output at row i sees row i // 2 of the input. With 2 columns it sees column j // 2.
    With 3 columns, an output of an odd column also sees the next one.
    """

    kernel_size: tuple[int, int] = (2, 3)

    @property
    def padding(self) -> tuple[int, int]:
        """Returns the zeros around the columns, between which the stride inserts zeros."""
        return 1, self.kernel_size[1] - 1

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = self.weights((*self.kernel_size, x.shape[-1]))
        return _plus(convolve_transpose(x.astype(self.dtype), kernel, (2, 2), ((1, 1), self.padding)), bias)

    def read(self, x: jax.Array, i: Index, j: Index | None) -> jax.Array:
        """Returns an output from row i // 2 of the input.

        Args:
            x: row i // 2 of the input, [B, W, C].
            i: row of the output.
            j: column of the output, for a kernel of 2 columns; None means all.

        Returns:
            The output at row i and column j, [B, features], or of row i, [B, 2 W, features].
        """
        kernel, bias = self.weights((*self.kernel_size, x.shape[-1]))
        kernel = kernel[1 - i % 2]
        if j is None:
            return _plus(convolve_transpose(x[:, None], kernel[None], (1, 2), ((0, 0), self.padding))[:, 0], bias)
        if self.kernel_size[1] != 2:
            raise ValueError('read whole rows of a kernel of 3 columns: it sees the next column')
        return _plus(x[:, j // 2] @ kernel[1 - j % 2], bias)


class Whole:
    """Applies layers to whole grids [B, H, W, C]."""

    starting = False

    def __init__(self):
        self.kept: Cache = {}

    def __call__(self, layer: CausalConv, x: jax.Array) -> jax.Array:
        return layer(x)

    def keep(self, name: str, x: jax.Array) -> None:
        """Keeps features of the stack above for the stack to the left."""
        self.kept[name] = x

    def from_above(self, name: str) -> jax.Array:
        """Returns features of the stack above at the places of the stack to the left."""
        return self.kept[name]

    def grid(self, values: jax.Array, shape: tuple[int, int]) -> jax.Array:
        """Repeats a grid of conditions [B, H / n, W / m, C] to [B, H, W, C] for shape (H, W)."""
        for axis, side in enumerate(shape, 1):
            if side != values.shape[axis]:
                values = jnp.repeat(values, factor(side, values.shape[axis]), axis)
        return values


class Steps:
    """Applies layers to row i or to the place at row i and column j, and keeps what later steps need.

    `cache` maps the path of a layer to the band of its input, and the name of kept features to the row [B, W, C] of
    them. Read it after the last layer. An empty cache and `starting` make the arrays of a new grid: they stay zero.

    Args:
        cache: arrays so far. It is not changed: the attribute `cache` is a copy.
        i: row.
        j: column; None means the whole row.
        width: number of columns.
        above: the cache of the stack above, for `from_above`.
        starting: whether this makes the cache.
    """

    def __init__(
        self,
        cache: Cache,
        i: Index,
        j: Index | None,
        width: int,
        *,
        above: Cache | None = None,
        starting: bool = False,
    ):
        self.cache, self.i, self.j, self.width, self.above, self.starting = dict(cache), i, j, width, above, starting

    def __call__(self, layer: CausalConv, x: jax.Array) -> jax.Array:
        self.write(layer, x)
        return layer.read(self.cache[path(layer)], self.i, self.j)

    def write(self, layer: CausalConv, x: jax.Array) -> None:
        """Puts an input into the band of a layer without computing its output."""
        if self.starting:
            self.cache[path(layer)] = layer.empty(len(x), self.width, x.shape[-1])
        else:
            self.cache[path(layer)] = layer.write(self.cache[path(layer)], x, self.i, self.j)

    def keep(self, name: str, x: jax.Array) -> None:
        """Keeps a row [B, W, C] of features, or one place [B, C] of it."""
        if self.starting:
            self.cache[name] = jnp.zeros((len(x), self.width, x.shape[-1]), x.dtype)
        elif self.j is None:
            self.cache[name] = x
        else:
            self.cache[name] = lax.dynamic_update_slice(self.cache[name], x[:, None], (0, self.j, 0))

    def from_above(self, name: str) -> jax.Array:
        """Returns features of the stack above at this place, [B, C]."""
        assert self.above is not None, 'only the stack to the left looks at the stack above'
        return self.above[name][:, self.j]

    def grid(self, values: jax.Array, shape: tuple[int, int]) -> jax.Array:
        """Returns a grid of conditions [B, H / n, W / m, C] at this row, [B, W, C], or place, [B, C]."""
        rows, columns = (factor(side, values.shape[axis]) for axis, side in enumerate(shape, 1))
        row = values[:, self.i // rows]
        return jnp.repeat(row, columns, 1) if self.j is None else row[:, self.j // columns]


def path(layer: nn.Module) -> str:
    """Returns the name of a layer within its network."""
    return '/'.join(layer.path)


def when(due: jax.Array, compute: Callable[[Any, Cache], Cache], module: nn.Module, cache: Cache) -> Cache:
    """Returns `compute(module, cache)` if `due`, else the cache. Only one of the two is executed.

    Args:
        due: bool [].
        compute: function of the module and the cache, which returns a cache of the same shapes.
        module: the bound module whose layers `compute` applies. `compute` must use no other bound module.
        cache: arrays.

    Returns:
        The new cache.
    """
    return nn.cond(due, compute, lambda module, cache: cache, module, cache)


def raster(place: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
    """Returns the row and the column of a place, int [], in raster order."""
    return place // width, place % width


def factor(side: int, part: int) -> int:
    """Returns how often a grid of `part` places is repeated to `side` places."""
    if side % part:
        raise ValueError(f'a condition of {part} places cannot be repeated to {side} places: choose a divisor')
    return side // part


def _plus(x: jax.Array, bias: jax.Array | None) -> jax.Array:
    return x if bias is None else x + bias.reshape((1,) * (x.ndim - 1) + (-1,))
