"""Convolutions and transposed convolutions of NHWC images, with the parameters and results of flax's layers.

XLA's CPU backend is slow at some of the products in these layers and their gradients: see docs/convolution.md. Three
primitives represent these products. Each is a transpose of the other two, so every derivative of any order and mode is
again one of the three. On a CPU they are lowered to the dots of patches.py, elsewhere to XLA's own convolutions.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from genlab.networks.layers.kernels import patches
from genlab.networks.layers.kernels.patches import Geometry

Padding = str | Sequence[tuple[int, int]]
# Settings that halve (Conv) or double (ConvTranspose) the side. The stride divides the kernel size, which avoids
# checkerboard artefacts.
STRIDE_TWO: dict[str, Any] = {'kernel_size': (4, 4), 'strides': (2, 2)}


def convolve(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int] = (1, 1), padding: Padding = 'SAME'
) -> jax.Array:
    """Convolves images with a kernel as `lax.conv_general_dilated` does.

    Args:
        x: images [B, H, W, I].
        kernel: kernel [h, w, I, O].
        strides: strides along height and width.
        padding: 'SAME', 'VALID', 'REFLECT' ('SAME' with mirrored pixels in place of zeros), or pairs of zeros added
            before and after height and width.

    Returns:
        Images [B, H', W', O].
    """
    window = _pair(kernel.shape[:2])
    if padding == 'REFLECT':
        mirrored = [((side - 1) // 2, side // 2) for side in window]
        x, padding = jnp.pad(x, ((0, 0), *mirrored, (0, 0)), mode='reflect'), 'VALID'
    size = _pair(x.shape[1:3])
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(size, window, strides, padding)
    vertical, horizontal = padding
    return _bind(convolve_p, x, kernel, Geometry(size, window, _pair(strides), (_pair(vertical), _pair(horizontal))))


def convolve_transpose(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int] = (1, 1), padding: Padding = 'SAME'
) -> jax.Array:
    """Applies a transposed convolution as `lax.conv_transpose` does.

    Args:
        x: images [B, H, W, I].
        kernel: kernel [h, w, I, O].
        strides: upsampling factors of height and width.
        padding: 'SAME', 'VALID', or pairs of zeros around the dilated image. Pairs of 2 double the side for a 4x4
            kernel and stride 2.

    Returns:
        Images [B, H', W', O].
    """
    window = _pair(kernel.shape[:2])
    if isinstance(padding, str):
        padding = [_transposed_padding(*side, padding) for side in zip(window, strides)]
    dilated = [(n - 1) * stride + 1 for n, stride in zip(x.shape[1:3], strides)]
    size = _pair([n + low + high - w + 1 for n, w, (low, high) in zip(dilated, window, padding)])
    vertical, horizontal = ((w - 1 - low, w - 1 - high) for w, (low, high) in zip(window, padding))
    return _bind(spread_p, x, kernel, Geometry(size, window, _pair(strides), (vertical, horizontal), turned=True))


def convolve_doubled(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int] = (1, 1), padding: Padding = 'SAME'
) -> jax.Array:
    """Convolves images after repeating each pixel 2x2 times, for odd windows and 'SAME' padding.

    Several places of a window lie on the same pixel of x. Their weights are added first, which leaves four of nine
    multiplications for a 3x3 window. The result is a transposed convolution with a kernel larger by one on each axis.

    Args:
        x: images [B, H, W, I], before the repetition.
        kernel: kernel [h, w, I, O] of odd sides.
        strides: must be (1, 1).
        padding: must be 'SAME'.

    Returns:
        Images [B, 2 H, 2 W, O].
    """
    if tuple(strides) != (1, 1) or padding != 'SAME' or not all(side % 2 for side in kernel.shape[:2]):
        raise ValueError(
            f"set strides=(1, 1) and padding='SAME', and make sure the window is odd, not {kernel.shape[:2]}, "
            f'{strides} and {padding!r}'
        )
    around = tuple((side // 2 + 1,) * 2 for side in kernel.shape[:2])
    for axis in (0, 1):
        low, high = ([(0, 0) if i != axis else pad for i in range(4)] for pad in ((0, 1), (1, 0)))
        kernel = jnp.pad(kernel, low) + jnp.pad(kernel, high)
    return convolve_transpose(x, kernel, (2, 2), around)


def convolve_halved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves images with 'SAME' padding, then averages 2x2 pixels, for a 3x3 window.

    Both together are one convolution of stride 2 with a 4x4 window: four of nine multiplications.

    Args:
        x: images [B, 2 H, 2 W, I].
        kernel: kernel [3, 3, I, O].

    Returns:
        Images [B, H, W, O].
    """
    for axis in (0, 1):
        low, high = ([(0, 0) if i != axis else pad for i in range(4)] for pad in ((0, 1), (1, 0)))
        kernel = (jnp.pad(kernel, low) + jnp.pad(kernel, high)) / 2
    return convolve(x, kernel, (2, 2), ((1, 1), (1, 1)))


def _pair(values: Sequence[int]) -> tuple[int, int]:
    """Returns two values as a tuple."""
    first, second = values
    return first, second


def _transposed_padding(window: int, stride: int, padding: str) -> tuple[int, int]:
    """Returns the padding of the dilated image that inverts the shape change of a 'SAME' or 'VALID' convolution."""
    if padding == 'VALID':
        return window - 1, window + stride - 2 + max(window - stride, 0) - (window - 1)
    if padding != 'SAME':
        raise ValueError(f"set padding to 'SAME', 'VALID' or pairs of numbers, not {padding!r}")
    total = window + stride - 2
    low = window - 1 if stride > window - 1 else -(-total // 2)
    return low, total - low


def _bind(primitive: Primitive, left: jax.Array, right: jax.Array, geometry: Geometry) -> jax.Array:
    """Binds a primitive, after making both operands vary over the same mesh axes (inside `jax.shard_map`)."""
    varying = [jax.typeof(x).manual_axis_type.varying for x in (left, right)]
    left, right = (
        lax.pcast(x, tuple(other - own), to='varying') if other - own else x
        for x, own, other in ((left, *varying), (right, *varying[::-1]))
    )
    return primitive.bind(left, right, geometry=geometry)


def _plain_spread(y: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Computes `patches.spread` by XLA's own convolution."""
    x = jax.ShapeDtypeStruct((y.shape[0], *geometry.size, kernel.shape[3 if geometry.turned else 2]), y.dtype)
    return jax.linear_transpose(lambda x: patches.plain(x, kernel, geometry), x)(y)[0]


def _primitive(name: str, shape: Callable, fast: Callable, plain: Callable) -> Primitive:
    """Makes a primitive on two arrays. Axes before the last four are batch axes of both operands."""
    primitive = Primitive(name)

    def lowering(operation):
        def problems(left, right, geometry):
            one = partial(operation, geometry=geometry)
            for _ in range(left.ndim - 4):
                one = jax.vmap(one)
            return one(left, right)

        return mlir.lower_fun(problems, multiple_results=False)

    def abstract(left, right, geometry):
        return left.update(shape=left.shape[:-4] + shape(left.shape[-4:], right.shape[-4:], geometry))

    primitive.def_impl(jax.jit(primitive.bind, static_argnames='geometry'))
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, lowering(plain))
    mlir.register_lowering(primitive, lowering(fast), platform='cpu')
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    return primitive


def _batch(primitive: Primitive, operands: tuple, axes: tuple, geometry: Geometry) -> tuple[jax.Array, int]:
    """Batches a primitive under `vmap`.

    Images that share a kernel are merged into one larger batch. Otherwise the mapped axis becomes a batch axis of both.
    """
    (left, right), (i, j) = operands, axes
    if j is None and primitive is not correlate_p:
        left = jnp.moveaxis(left, i, -5)
        y = primitive.bind(left.reshape(*left.shape[:-5], -1, *left.shape[-3:]), right, geometry=geometry)
        return y.reshape(*left.shape[:-3], *y.shape[-3:]), y.ndim - 4
    n = left.shape[i] if i is not None else right.shape[j]
    left, right = (
        jnp.broadcast_to(x, (n, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in ((left, i), (right, j))
    )
    return primitive.bind(left, right, geometry=geometry), 0


convolve_p = _primitive(
    'genlab_convolve',
    lambda x, kernel, geometry: (x[0], *geometry.output, kernel[2 if geometry.turned else 3]),
    patches.convolve,
    patches.plain,
)
spread_p = _primitive(
    'genlab_spread',
    lambda y, kernel, geometry: (y[0], *geometry.size, kernel[3 if geometry.turned else 2]),
    patches.spread,
    _plain_spread,
)
correlate_p = _primitive('genlab_correlate', patches.kernel_shape, patches.correlate, patches.plain_correlate)

# Gradients with respect to the first and the second operand: (cotangent, first operand, second operand, geometry).
ad.defbilinear(
    convolve_p,
    lambda t, x, kernel, geometry: _bind(spread_p, t, kernel, geometry),
    lambda t, x, kernel, geometry: _bind(correlate_p, x, t, geometry),
)
ad.defbilinear(
    spread_p,
    lambda t, y, kernel, geometry: _bind(convolve_p, t, kernel, geometry),
    lambda t, y, kernel, geometry: _bind(correlate_p, t, y, geometry),
)
ad.defbilinear(
    correlate_p,
    lambda t, x, y, geometry: _bind(spread_p, y, t, geometry),
    lambda t, x, y, geometry: _bind(convolve_p, x, t, geometry),
)


class Conv(nn.Module):
    """Convolves [B, H, W, I] -> [B, H', W', features], with the parameters and results of `flax.linen.Conv`."""

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = 'SAME'
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Callable = nn.linear.default_kernel_init
    bias_init: Callable = nn.initializers.zeros_init()

    operation = staticmethod(convolve)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape, self.param_dtype)
        bias = self.param('bias', self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = self.operation(x, kernel, self.strides, self.padding)
        return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


class DoubledConv(Conv):
    """Applies `Conv` after repeating each pixel 2x2 times: [B, H, W, I] -> [B, 2 H, 2 W, features].

    It needs less than half of the multiplications.
    """

    operation = staticmethod(convolve_doubled)


class ConvTranspose(Conv):
    """Applies a transposed convolution with the parameters and results of `flax.linen.ConvTranspose`."""

    operation = staticmethod(convolve_transpose)
