"""Convolutions whose kernels are modulated by a style per example (Karras et al. 2020, section 2.2)."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import convolve
from genlab.networks.layers.equalized import EqualizedDense


def modulated(
    x: jax.Array,
    kernel: jax.Array,
    style: jax.Array,
    demodulate: bool = True,
    operation: Callable[[jax.Array, jax.Array], jax.Array] = convolve,
) -> jax.Array:
    """Convolves each image with the kernel s_i w_ijk, divided by its norm per output channel.

    Equations 1 and 3 of the paper. A kernel per example is never formed. To scale the inputs by s is the same as to
    scale the kernel. The norm then scales the outputs.

    Args:
        x: images [B, H, W, I].
        kernel: kernel w, [h, w, I, O].
        style: scales s of the input channels, [B, I].
        demodulate: whether to divide by the norm.
        operation: a linear operation on (images, kernel), e.g. a convolution that doubles the side.

    Returns:
        Images [B, H', W', O].
    """
    y = operation(x * style[:, None, None], kernel)
    if not demodulate:
        return y
    style, kernel = style.astype(jnp.float32), kernel.astype(jnp.float32)
    power = jnp.square(style) @ jnp.square(kernel).sum((0, 1))
    return y * jax.lax.rsqrt(power + 1e-8).astype(y.dtype)[:, None, None]


class ModulatedConv(nn.Module):
    """Applies `modulated` with an equalised kernel and a style from w: ([B, H, W, I], [B, D]) -> [B, H', W', features].

    A dense layer, whose bias starts at 1, maps w to the style.
    """

    features: int
    side: int = 3
    demodulate: bool = True
    operation: Callable[[jax.Array, jax.Array], jax.Array] = convolve
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        shape = (self.side, self.side, x.shape[-1], self.features)
        kernel = self.param('kernel', nn.initializers.normal(1.0), shape) / math.sqrt(math.prod(shape[:3]))
        style = EqualizedDense(x.shape[-1], bias=1.0, name='style')(w)
        x, kernel, style = nn.dtypes.promote_dtype(x, kernel, style, dtype=self.dtype)
        return modulated(x, kernel, style, self.demodulate, self.operation)
