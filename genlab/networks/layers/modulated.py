"""Convolutions whose kernels are modulated by a style per example (Karras et al. 2020, section 2.2).

In `AdaptiveConv` the kernel itself is a mixture of several kernels, with weights per example (Kang et al. 2023, 3.1).
"""

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
    epsilon: float = 1e-8,
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
        epsilon: number added to the squared norm.

    Returns:
        Images [B, H', W', O].
    """
    y = operation(x * style[:, None, None], kernel)
    if not demodulate:
        return y
    style, kernel = style.astype(jnp.float32), kernel.astype(jnp.float32)
    power = jnp.square(style) @ jnp.square(kernel).sum((0, 1))
    return y * jax.lax.rsqrt(power + epsilon).astype(y.dtype)[:, None, None]


class ModulatedConv(nn.Module):
    """Applies `modulated` with an equalised kernel and a style from w: ([B, H, W, I], [B, D]) -> [B, H', W', features].

    A dense layer, whose bias starts at 1, maps w to the style.
    """

    features: int
    side: int = 3
    demodulate: bool = True
    operation: Callable[[jax.Array, jax.Array], jax.Array] = convolve
    dtype: Any = None
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(1.0)

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        shape = (self.side, self.side, x.shape[-1], self.features)
        inputs = math.prod(shape[:3])
        kernel = self.param('kernel', self.kernel_init, shape) / math.sqrt(inputs)
        style = EqualizedDense(x.shape[-1], bias=1.0, name='style')(w)
        x, kernel, style = nn.dtypes.promote_dtype(x, kernel, style, dtype=self.dtype)
        # The 1e-8 of the authors' code stands beside the norm of parameters, before the factor of the learning rate.
        return modulated(x, kernel, style, self.demodulate, self.operation, 1e-8 / inputs)


def adaptive(
    x: jax.Array,
    kernels: jax.Array,
    style: jax.Array,
    selection: jax.Array,
    demodulate: bool = True,
    operation: Callable[[jax.Array, jax.Array], jax.Array] = convolve,
) -> jax.Array:
    """Convolves each image with the modulated mixture K = sum_n a_n K_n of N kernels (Kang et al. 2023, equation 2).

    A kernel per example is never formed. Convolution is linear, so the weights a_n scale the inputs. The N
    convolutions are one, over N I input channels. The norm of the mixture is a quadratic form in a_n.

    Args:
        x: images [B, H, W, I].
        kernels: the bank of kernels, [N, h, w, I, O].
        style: scales s of the input channels, [B, I].
        selection: weights a of the kernels, [B, N].
        demodulate: whether to divide by the norm of s K per output channel.
        operation: a linear operation on (images, kernel), e.g. a convolution that doubles the side.

    Returns:
        Images [B, H', W', O].
    """
    count, height, width, inputs, outputs = kernels.shape
    weights = selection[:, :, None] * style[:, None]  # [B, N, I]
    weighted = x[:, :, :, None] * weights[:, None, None]
    joined = kernels.transpose(1, 2, 0, 3, 4).reshape(height, width, count * inputs, outputs)
    y = operation(weighted.reshape(*x.shape[:3], count * inputs), joined)
    if not demodulate:
        return y
    weights, kernels = weights.astype(jnp.float32), kernels.astype(jnp.float32)
    products = jnp.einsum('nhwio,mhwio->nmio', kernels, kernels).reshape(-1, outputs)
    pairs = jnp.einsum('bni,bmi->bnmi', weights, weights).reshape(-1, count * count * inputs)
    power = jnp.maximum(pairs @ products, 0)  # rounding may take a norm of almost 0 below it
    return y * jax.lax.rsqrt(power + 1e-8).astype(y.dtype)[:, None, None]


class AdaptiveConv(nn.Module):
    """Applies `adaptive` with a bank of `kernels` equalised kernels: ([B, H, W, I], [B, D]) -> [B, H', W', features].

    Dense layers map w to the style and to the logits of the kernels. With one kernel, it is a `ModulatedConv`.
    """

    features: int
    kernels: int = 1
    side: int = 3
    operation: Callable[[jax.Array, jax.Array], jax.Array] = convolve
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        shape = (self.kernels, self.side, self.side, x.shape[-1], self.features)
        bank = self.param('kernel', nn.initializers.normal(1.0), shape) / math.sqrt(math.prod(shape[1:4]))
        style = EqualizedDense(x.shape[-1], bias=1.0, name='style')(w)
        x, bank, style = nn.dtypes.promote_dtype(x, bank, style, dtype=self.dtype)
        if self.kernels == 1:  # a single weight of 1 has no logit to learn
            return modulated(x, bank[0], style, operation=self.operation)
        selection = nn.softmax(EqualizedDense(self.kernels, name='selection')(w)).astype(x.dtype)
        return adaptive(x, bank, style, selection, operation=self.operation)
