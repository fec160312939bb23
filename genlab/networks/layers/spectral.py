"""Spectral normalisation: layers whose kernels have a largest singular value of 1 (Miyato et al. 2018, algorithm 1)."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import Padding, convolve, convolve_doubled, convolve_halved

EPSILON = 1e-12


def largest_singular_value(matrix: jax.Array, u: jax.Array, iterations: int = 1) -> tuple[jax.Array, jax.Array]:
    """Estimates the largest singular value of a matrix by power iteration.

    No gradient passes through the singular vectors, as in the paper.

    Args:
        matrix: matrix [N, O].
        u: estimate of the right singular vector [O], of norm 1.
        iterations: steps of power iteration.

    Returns:
        The singular value [], and the new estimate of the vector [O].
    """
    fixed = jax.lax.stop_gradient(matrix)

    def iterate(_: Any, vectors: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        v = _normalized(fixed @ vectors[1])
        return v, _normalized(v @ fixed)

    v = _normalized(fixed @ u)
    if iterations == 1:
        v, u = iterate(0, (v, u))
    elif iterations > 1:  # a loop, because many layers of unrolled iterations compile slowly
        v, u = jax.lax.fori_loop(0, iterations, iterate, (v, u))
    return v @ matrix @ u, u


def _normalized(x: jax.Array) -> jax.Array:
    return x / (jnp.sqrt(jnp.square(x).sum()) + EPSILON)


class _Spectral(nn.Module):
    """Holds the power iteration of a layer in the collection `spectral`. It moves in training only.

    The vector depends on the parameters alone, so it is equal on all devices.
    """

    def normalized(self, kernel: jax.Array, train: bool) -> jax.Array:
        """Divides a kernel [..., O] by its largest singular value as a matrix [N, O]."""
        matrix = kernel.reshape(-1, kernel.shape[-1])

        def start() -> jax.Array:
            random = _normalized(jax.random.normal(self.make_rng('params'), (matrix.shape[1],)))
            return largest_singular_value(matrix, random, iterations=15)[1]

        u = self.variable('spectral', 'u', start)
        value, moved = largest_singular_value(matrix, u.value, iterations=int(train))
        if train and not self.is_initializing():
            u.value = moved
        return kernel / value


class SpectralDense(_Spectral):
    """Applies a dense layer with a spectrally normalised kernel: [..., I] -> [..., features]."""

    features: int
    use_bias: bool = True
    dtype: Any = None
    kernel_init: Callable = nn.initializers.xavier_uniform()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        kernel = self.normalized(self.param('kernel', self.kernel_init, (x.shape[-1], self.features)), train)
        bias = self.param('bias', nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = x @ kernel
        return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


class SpectralConv(_Spectral):
    """Convolves with a spectrally normalised kernel: [B, H, W, I] -> [B, H', W', features].

    The norm is the kernel's as a matrix [h w I, O], not the norm of the convolution as a linear map.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = 'SAME'
    use_bias: bool = True
    dtype: Any = None
    kernel_init: Callable = nn.initializers.xavier_uniform()

    operation: ClassVar[Callable[..., jax.Array]] = staticmethod(convolve)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.normalized(self.param('kernel', self.kernel_init, shape), train)
        bias = self.param('bias', nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = self.operation(x, kernel, self.strides, self.padding)
        return y if bias is None else y + bias[None, None, None]


class SpectralDoubledConv(SpectralConv):
    """Applies `SpectralConv` after repeating each pixel 2x2 times: [B, H, W, I] -> [B, 2 H, 2 W, features]."""

    operation = staticmethod(convolve_doubled)


class SpectralHalvedConv(SpectralConv):
    """Averages 2x2 pixels after `SpectralConv` with a 3x3 window: [B, 2 H, 2 W, I] -> [B, H, W, features]."""

    @staticmethod
    def operation(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: Padding) -> jax.Array:
        return convolve_halved(x, kernel)
