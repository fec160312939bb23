"""The three products of a convolution written as dense dots, which is what XLA's CPU backend is fast at.

A convolution, its transpose and its kernel gradient are one trilinear form of an image x [B, *size, I], a kernel
[*window, I, O] and a small image y [B, *(size of the output), O]. Each function below contracts two of them to the
third. None multiplies the zeros that a stride inserts (Chellapilla et al. 2006; Dumoulin and Visin 2016, section 4).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from genlab.networks.layers.kernels import winograd

WIDE = 96  # channels from which on a dot for each place of a window is fast
MANY = 2**22  # numbers that the columns of all windows may be: 16 MB
FEW, SOME = (
    16,
    32,
)  # channels of the two sides from which on those dots are faster than XLA's own loop over so many columns


class Geometry(NamedTuple):
    """What the shapes of two of the three arrays do not say of the third."""

    size: tuple[int, int]  # of x
    window: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]  # of x; negative numbers crop
    turned: bool = False  # the kernel comes as [*window, O, I] and turned by 180 degrees, as transposed layers keep it

    @property
    def output(self) -> tuple[int, int]:
        sides = zip(self.size, self.window, self.strides, self.padding)
        return tuple(max(0, (size + sum(pad) - window) // stride + 1) for size, window, stride, pad in sides)

    @property
    def whole(self) -> bool:
        """Whether the window covers x exactly: one dense layer."""
        return self.size == self.window and not any(map(any, self.padding))

    @property
    def same(self) -> bool:
        """Whether a 3x3 window, not turned, gives one pixel for each of x."""
        return (self.window, self.strides, self.padding, self.turned) == ((3, 3), (1, 1), ((1, 1), (1, 1)), False)


def convolve(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """x, kernel -> y."""
    if geometry.same and winograd.pays(x.shape, kernel.shape, x.dtype):
        return winograd.convolve(x, kernel)
    if _sliding(geometry):
        return plain(x, kernel, geometry)  # XLA's own loop is as fast and needs no memory for patches
    columns = gather(x, geometry)
    if geometry.turned:
        y = _dot(columns, _rows(kernel), 1)
    else:
        y = _dot(columns, kernel.reshape(-1, kernel.shape[-1]), 0)
    return y.reshape(x.shape[0], *geometry.output, -1).astype(x.dtype)


def spread(y: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """kernel, y -> x: the transpose of `convolve` in x."""
    if _sliding(geometry):
        return plain(y, turn(_upright(kernel, geometry)), _reverse(geometry))
    pixels = y.reshape(-1, y.shape[-1])
    if geometry.turned:
        products = _dot(pixels, _rows(kernel), 0)
    else:
        products = _dot(pixels, kernel.reshape(-1, kernel.shape[-1]), 1)
    return scatter(products.reshape(*y.shape[:3], *geometry.window, -1), geometry).astype(y.dtype)


def correlate(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    """x, y -> kernel: the transpose of `convolve` in the kernel.

    A dot is fast if the axis that it sums over is the last of its left and the first of its right operand, so one
    side must be transposed: the one that costs less. A kernel that comes out the other way round counts thrice, because
    an optimizer walks it at every use. The barriers keep XLA from folding the transposes back into a slow dot.
    A window that slides makes columns much larger than x. One dot for each of its places needs none of them, and is as fast
    with many channels, or once the columns no longer fit the processor's caches; with very few XLA's own loop is faster then.
    """
    if _sliding(geometry):
        fewer, more = sorted((x.shape[-1], y.shape[-1]))
        many = y.size // y.shape[-1] * math.prod(geometry.window) * x.shape[-1] >= MANY
        if fewer >= WIDE or many and fewer >= FEW and more >= SOME:
            return _place_by_place(x, y, geometry)
        if many:
            return plain_correlate(x, y, geometry)
    columns, pixels = gather(x, geometry), y.reshape(-1, y.shape[-1])
    backwards = 0 if geometry.turned else 3 * columns.shape[1] * pixels.shape[1]
    if columns.size < pixels.size + backwards:
        kernel = _dot(lax.optimization_barrier(columns.T), pixels, 0)
    else:
        kernel = lax.optimization_barrier(_dot(lax.optimization_barrier(pixels.T), columns, 0)).T
    kernel = kernel.reshape(*geometry.window, x.shape[-1], y.shape[-1]).astype(x.dtype)
    return turn(kernel) if geometry.turned else kernel


def _place_by_place(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    """`correlate` for stride 1: a dot of y and the pixels under each place of the window."""
    (rows, columns), (height, width) = geometry.window, geometry.output
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in geometry.padding), (0, 0, 0)])
    pixels = lax.optimization_barrier(y.reshape(-1, y.shape[-1]).T)
    products = [
        _dot(pixels, x[:, row : row + height, column : column + width].reshape(-1, x.shape[-1]), 0)
        for row in range(rows)
        for column in range(columns)
    ]
    kernel = jnp.stack(products).reshape(rows, columns, y.shape[-1], x.shape[-1]).swapaxes(2, 3).astype(x.dtype)
    return turn(kernel) if geometry.turned else kernel


def plain_correlate(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    """`correlate` as XLA's own convolution."""
    kernel = jax.ShapeDtypeStruct(kernel_shape(x.shape, y.shape, geometry), x.dtype)
    return jax.linear_transpose(lambda kernel: plain(x, kernel, geometry), kernel)(y)[0]


def kernel_shape(x: tuple, y: tuple, geometry: Geometry) -> tuple[int, ...]:
    channels = (x[-1], y[-1])
    return (*geometry.window, *(channels[::-1] if geometry.turned else channels))


def plain(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """`convolve` as XLA's own convolution."""
    return lax.conv_general_dilated(
        x, _upright(kernel, geometry), geometry.strides, geometry.padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def turn(kernel: jax.Array) -> jax.Array:
    """Turns a kernel by 180 degrees and swaps what goes in and out: [h, w, I, O] <-> [h, w, O, I]."""
    return lax.rev(kernel, (0, 1)).swapaxes(2, 3)


def _upright(kernel: jax.Array, geometry: Geometry) -> jax.Array:
    return turn(kernel) if geometry.turned else kernel


def _rows(kernel: jax.Array) -> jax.Array:
    """A turned kernel as one row for each of the O: only whole runs of I move, which is cheap."""
    return lax.rev(kernel, (0, 1)).transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)


def _sliding(geometry: Geometry) -> bool:
    return geometry.strides == (1, 1) and geometry.window != (1, 1) and not geometry.whole


def _dot(left: jax.Array, right: jax.Array, axis: int) -> jax.Array:
    """Sums the last axis of `left` against the given one of `right`, in float32."""
    return lax.dot_general(left, right, (((1,), (axis,)), ((), ())), preferred_element_type=jnp.float32)


def gather(x: jax.Array, geometry: Geometry) -> jax.Array:
    """Every window of x, flat: [B, *size, I] -> [B * h * w, window * I]."""
    if geometry.whole:
        return x.reshape(x.shape[0], -1)
    (rows, columns), (height, width), (down, right) = geometry.window, geometry.output, geometry.strides
    block = right if columns % right == 0 else 1  # neighbours that a whole stride takes in are contiguous in memory
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in geometry.padding), (0, 0, 0)])
    pieces = [
        lax.slice_in_dim(x[:, row:, column:], 0, down * (height - 1) + 1, down, axis=1)
        for row in range(rows)
        for column in range(0, columns, block)
    ]
    pieces = [_columns(piece, block, right, width) for piece in pieces]
    return jnp.stack(pieces, 3).reshape(-1, rows * columns * x.shape[-1])


def _columns(x: jax.Array, block: int, stride: int, width: int) -> jax.Array:
    if block == 1:
        return lax.slice_in_dim(x, 0, stride * (width - 1) + 1, stride, axis=2)
    return lax.slice_in_dim(x, 0, block * width, axis=2).reshape(*x.shape[:2], width, -1)


def scatter(products: jax.Array, geometry: Geometry) -> jax.Array:
    """Adds up what the windows give to each pixel: [B, h, w, *window, I] -> [B, *size, I]."""
    if geometry.whole:
        return products.reshape(products.shape[0], *geometry.size, -1)
    rows = _overlap(products, 1, *(field[0] for field in geometry[:4]))
    return _overlap(rows, 2, *(field[1] for field in geometry[:4]))


def _overlap(
    products: jax.Array, axis: int, size: int, window: int, stride: int, padding: tuple[int, int]
) -> jax.Array:
    """Turns the windows along `axis` into `size` pixels by summing over axis 3, the places in a window."""
    length, phases = -(-size // stride), []
    for phase in range(stride):  # the pixels `stride` apart are met by the same places of a window
        ahead, first = divmod(phase + padding[0], stride)
        terms = [
            _shift(lax.index_in_dim(products, place, 3, keepdims=False), axis, back - ahead, length)
            for back, place in enumerate(range(first, window, stride))
        ]
        phases.append(sum(terms[1:], terms[0]) if terms else None)
    phases = [jnp.zeros_like(phases[-padding[0] % stride]) if phase is None else phase for phase in phases]
    pixels = jnp.stack(phases, axis + 1)
    pixels = pixels.reshape(*pixels.shape[:axis], length * stride, *pixels.shape[axis + 2 :])
    return lax.slice_in_dim(pixels, 0, size, axis=axis)


def _shift(x: jax.Array, axis: int, low: int, length: int) -> jax.Array:
    """Moves x by `low` along an axis into `length` places; zeros enter and what does not fit leaves."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (low, length - x.shape[axis] - low, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _reverse(geometry: Geometry) -> Geometry:
    """The stride-1 convolution that is the transpose of a stride-1 convolution."""
    output, window = geometry.output, geometry.window
    low = [window[i] - 1 - geometry.padding[i][0] for i in (0, 1)]
    high = [geometry.size[i] - output[i] - low[i] + window[i] - 1 for i in (0, 1)]
    return Geometry(output, window, (1, 1), tuple(zip(low, high)))
