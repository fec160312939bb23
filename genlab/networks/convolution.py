"""Convolutions and transposed convolutions: NHWC images, HWIO kernels, the parameters and numbers of flax's layers."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

Padding = str | Sequence[tuple[int, int]]
DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


def convolve(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int] = (1, 1), padding: Padding = 'SAME'
) -> jax.Array:
    """Convolves images [B, H, W, I] with a kernel [h, w, I, O]."""
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)


def convolve_transpose(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int] = (1, 1), padding: Padding = 'SAME'
) -> jax.Array:
    """Spreads images [B, H, W, I] with a kernel [h, w, I, O] over a grid that is `strides` times finer."""
    return lax.conv_transpose(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)


class Conv(nn.Module):
    """A convolution with the parameters and numbers of `flax.linen.Conv`: [B, H, W, I] -> [B, H', W', features]."""
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


class ConvTranspose(Conv):
    """A transposed convolution with the parameters and numbers of `flax.linen.ConvTranspose`."""
    operation = staticmethod(convolve_transpose)
