"""The three products of a convolution as dense dots, which XLA's CPU backend computes fast.

A convolution, its transpose and its kernel gradient derive from one trilinear form. Its arguments are an image x
[B, *size, I], a kernel [*window, I, O] and an output y [B, *(size of the output), O]. Each function below contracts two
of them to the third. None multiplies the zeros that a stride inserts (Chellapilla et al. 2006; Dumoulin and Visin 2016,
section 4).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from genlab.networks.layers.kernels import winograd

WIDE = 96  # smallest number of channels for which one dot per place of a window is fast
MANY = 2**22  # largest number of values in the columns of all windows: 16 MB
# Smallest numbers of channels (fewer, more) for which these dots are faster than XLA's own loop above MANY values.
FEW, SOME = 16, 32


class Geometry(NamedTuple):
    """Holds the settings that determine the shape of the third array from the shapes of two."""

    size: tuple[int, int]  # height and width of x
    window: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]  # padding of x; negative numbers crop
    turned: bool = False  # whether the kernel is [*window, O, I] and rotated by 180 degrees, as in transposed layers

    @property
    def output(self) -> tuple[int, int]:
        """Returns the height and width of y."""
        sides = zip(self.size, self.window, self.strides, self.padding)
        height, width = (max(0, (size + sum(pad) - window) // stride + 1) for size, window, stride, pad in sides)
        return height, width

    @property
    def whole(self) -> bool:
        """Tells whether the window covers x exactly, as in a dense layer."""
        return self.size == self.window and not any(map(any, self.padding))

    @property
    def small(self) -> bool:
        """Tells whether the window is 3x3 and not turned, with stride 1 and the padding 'SAME' or 'VALID'."""
        padded = self.padding in (((1, 1), (1, 1)), ((0, 0), (0, 0)))
        return padded and (self.window, self.strides, self.turned) == ((3, 3), (1, 1), False)


def convolve(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Convolves images with a kernel.

    Args:
        x: images [B, *size, I].
        kernel: kernel [*window, I, O], or [*window, O, I] if turned.
        geometry: shapes of the convolution.

    Returns:
        Outputs [B, *output, O].
    """
    if geometry.small and winograd.is_faster(geometry.output, kernel.shape, x.dtype):
        return winograd.convolve(x, kernel, geometry.padding)
    if _sliding(geometry):
        return plain(x, kernel, geometry)  # XLA's own loop is as fast and needs no memory for patches
    columns = gather(x, geometry)
    if geometry.turned:
        y = _dot(columns, _rows(kernel), 1)
    else:
        y = _dot(columns, kernel.reshape(-1, kernel.shape[-1]), 0)
    return y.reshape(x.shape[0], *geometry.output, -1).astype(x.dtype)


def spread(y: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Applies the transpose of `convolve` with respect to the images.

    Args:
        y: outputs [B, *output, O].
        kernel: kernel [*window, I, O], or [*window, O, I] if turned.
        geometry: shapes of the convolution.

    Returns:
        Images [B, *size, I].
    """
    if _sliding(geometry):
        return plain(y, turn(_upright(kernel, geometry)), _reverse(geometry))
    pixels = y.reshape(-1, y.shape[-1])
    if geometry.turned:
        products = _dot(pixels, _rows(kernel), 0)
    else:
        products = _dot(pixels, kernel.reshape(-1, kernel.shape[-1]), 1)
    return scatter(products.reshape(*y.shape[:3], *geometry.window, -1), geometry).astype(y.dtype)


def correlate(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    """Applies the transpose of `convolve` with respect to the kernel.

    A dot is fast if it sums over the last axis of its left operand and the first of its right operand. One side must
    therefore be transposed, and the cheaper one is chosen. A transposed kernel counts three times, because an optimizer
    traverses it at every use. The barriers keep XLA from folding the transposes back into a slow dot.

    The columns of a sliding window are much larger than x. One dot per place of the window avoids them. It is as fast
    with many channels, or if the columns exceed the processor's caches. With very few channels and large columns, XLA's
    own loop is faster.

    Args:
        x: images [B, *size, I].
        y: outputs [B, *output, O].
        geometry: shapes of the convolution.

    Returns:
        Kernel [*window, I, O], or [*window, O, I] if turned.
    """
    if _sliding(geometry):
        fewer, more = sorted((x.shape[-1], y.shape[-1]))
        many = y.size // y.shape[-1] * math.prod(geometry.window) * x.shape[-1] >= MANY
        if fewer >= WIDE or many and fewer >= FEW and more >= SOME:
            return _place_by_place(x, y, geometry)
        if many:
            return _swapped(x, y, geometry)
    columns, pixels = gather(x, geometry), y.reshape(-1, y.shape[-1])
    backwards = 0 if geometry.turned else 3 * columns.shape[1] * pixels.shape[1]
    if columns.size < pixels.size + backwards:
        kernel = _dot(lax.optimization_barrier(columns.T), pixels, 0)
    else:
        kernel = lax.optimization_barrier(_dot(lax.optimization_barrier(pixels.T), columns, 0)).T
    kernel = kernel.reshape(*geometry.window, x.shape[-1], y.shape[-1]).astype(x.dtype)
    return turn(kernel) if geometry.turned else kernel


def _place_by_place(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    """Computes `correlate` for stride 1, by one dot of y and shifted pixels of x per place of the window."""
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


def _swapped(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    """Computes `correlate` for stride 1 as a convolution of x with y whose batch and channel axes are swapped.

    The transposes are explicit, because XLA's CPU backend inserts them outside of loops only. In the body of a loop,
    such as several training steps in one call, it has only a slow scalar loop for convolutions in other layouts.
    """
    images, kernel = x.transpose(3, 1, 2, 0), y.transpose(1, 2, 0, 3)
    found = plain(images, kernel, geometry._replace(window=geometry.output, turned=False)).transpose(1, 2, 0, 3)
    return turn(found) if geometry.turned else found


def plain_correlate(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    """Computes `correlate` by XLA's own convolution; see there for the arguments."""
    kernel = jax.ShapeDtypeStruct(kernel_shape(x.shape, y.shape, geometry), x.dtype)
    return jax.linear_transpose(lambda kernel: plain(x, kernel, geometry), kernel)(y)[0]


def kernel_shape(x: tuple[int, ...], y: tuple[int, ...], geometry: Geometry) -> tuple[int, ...]:
    """Returns the shape of the kernel, [*window, I, O] or turned, for the shapes of x and y."""
    channels = (x[-1], y[-1])
    return (*geometry.window, *(channels[::-1] if geometry.turned else channels))


def plain(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Computes `convolve` by XLA's own convolution; see there for the arguments.

    Negative padding, as in the gradient of a padding wider than the window, crops x first: XLA's CPU backend returns
    wrong numbers for it.
    """
    if any(side < 0 for pad in geometry.padding for side in pad):
        crops = [(min(low, 0), min(high, 0), 0) for low, high in geometry.padding]
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *crops, (0, 0, 0)])
    padding = [(max(low, 0), max(high, 0)) for low, high in geometry.padding]
    return lax.conv_general_dilated(
        x, _upright(kernel, geometry), geometry.strides, padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def turn(kernel: jax.Array) -> jax.Array:
    """Rotates a kernel by 180 degrees and swaps its input and output channels: [h, w, I, O] <-> [h, w, O, I]."""
    return lax.rev(kernel, (0, 1)).swapaxes(2, 3)


def _upright(kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the kernel as [*window, I, O], not turned."""
    return turn(kernel) if geometry.turned else kernel


def _rows(kernel: jax.Array) -> jax.Array:
    """Returns a turned kernel with one row per output channel. It moves only complete runs of I, which is cheap."""
    return lax.rev(kernel, (0, 1)).transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)


def _sliding(geometry: Geometry) -> bool:
    """Tells whether windows overlap at stride 1."""
    return geometry.strides == (1, 1) and geometry.window != (1, 1) and not geometry.whole


def _dot(left: jax.Array, right: jax.Array, axis: int) -> jax.Array:
    """Contracts the last axis of `left` with axis `axis` of `right`, accumulating in float32."""
    return lax.dot_general(left, right, (((1,), (axis,)), ((), ())), preferred_element_type=jnp.float32)


def gather(x: jax.Array, geometry: Geometry) -> jax.Array:
    """Extracts the windows of x as rows (im2col): [B, *size, I] -> [B * h * w, rows * columns * I]."""
    if geometry.whole:
        return x.reshape(x.shape[0], -1)
    (rows, columns), (height, width), (down, right) = geometry.window, geometry.output, geometry.strides
    block = right if columns % right == 0 else 1  # neighbours within one stride are contiguous in memory
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in geometry.padding), (0, 0, 0)])
    pieces = [
        lax.slice_in_dim(x[:, row:, column:], 0, down * (height - 1) + 1, down, axis=1)
        for row in range(rows)
        for column in range(0, columns, block)
    ]
    pieces = [_columns(piece, block, right, width) for piece in pieces]
    return jnp.stack(pieces, 3).reshape(-1, rows * columns * x.shape[-1])


def _columns(x: jax.Array, block: int, stride: int, width: int) -> jax.Array:
    """Takes `block` neighbouring columns per output column: [B, h, W, I] -> [B, h, width, block * I]."""
    if block == 1:
        return lax.slice_in_dim(x, 0, stride * (width - 1) + 1, stride, axis=2)
    return lax.slice_in_dim(x, 0, block * width, axis=2).reshape(*x.shape[:2], width, -1)


def scatter(products: jax.Array, geometry: Geometry) -> jax.Array:
    """Sums the contributions of all windows per pixel (col2im): [B, h, w, *window, I] -> [B, *size, I]."""
    if geometry.whole:
        return products.reshape(products.shape[0], *geometry.size, -1)
    size, window, strides, padding = geometry[:4]
    rows = _overlap(products, 1, size[0], window[0], strides[0], padding[0])
    return _overlap(rows, 2, size[1], window[1], strides[1], padding[1])


def _overlap(
    products: jax.Array, axis: int, size: int, window: int, stride: int, padding: tuple[int, int]
) -> jax.Array:
    """Reduces the windows along `axis` to `size` pixels by summing over axis 3, the places in a window."""
    length = -(-size // stride)
    phases: list[jax.Array | None] = []
    for phase in range(stride):  # the same places of a window cover all pixels that are `stride` apart
        ahead, first = divmod(phase + padding[0], stride)
        terms = [
            _shift(lax.index_in_dim(products, place, 3, keepdims=False), axis, back - ahead, length)
            for back, place in enumerate(range(first, window, stride))
        ]
        phases.append(sum(terms[1:], terms[0]) if terms else None)
    covered = phases[-padding[0] % stride]  # the phase that the first place of a window covers
    assert covered is not None
    pixels = jnp.stack([jnp.zeros_like(covered) if phase is None else phase for phase in phases], axis + 1)
    pixels = pixels.reshape(*pixels.shape[:axis], length * stride, *pixels.shape[axis + 2 :])
    return lax.slice_in_dim(pixels, 0, size, axis=axis)


def _shift(x: jax.Array, axis: int, low: int, length: int) -> jax.Array:
    """Shifts x by `low` along an axis of new length `length`. It fills with zeros and drops values outside."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (low, length - x.shape[axis] - low, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _reverse(geometry: Geometry) -> Geometry:
    """Returns the stride-1 convolution that is the transpose of a stride-1 convolution."""
    output, window = geometry.output, geometry.window
    low = [window[i] - 1 - geometry.padding[i][0] for i in (0, 1)]
    high = [geometry.size[i] - output[i] - low[i] + window[i] - 1 for i in (0, 1)]
    return Geometry(output, window, (1, 1), ((low[0], high[0]), (low[1], high[1])))
