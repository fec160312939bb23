"""Symmetric autoencoders: dense, or convolutional around dense layers.

Both have the methods `encode`, `decode` and `logits`, where `decode` applies `output` to the logits. They are called
with (x, train). Parameters, codes and outputs are float32 for every `dtype` of the computation.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import STRIDE_TWO, Conv, ConvTranspose
from genlab.networks.layers.mlp import identity


class Transposed(nn.Module):
    """A dense layer that uses the transposed kernel of another layer and a separate bias."""

    features: int
    use_bias: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        bias = self.param('bias', nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return x @ kernel.T if bias is None else x @ kernel.T + bias[None]


class DenseAutoencoder(nn.Module):
    """Autoencodes by dense layers of widths `features` and their mirror image: [B, *shape] -> [B, *shape].

    `code` is applied to the last layer of the encoder, `output` to the last layer of the decoder, and `activation` to
    all others. With `tied`, each kernel of the decoder is the transpose of the encoder's, a single trained array.

    784-1000-500-250-30 (Hinton and Salakhutdinov 2006) has 2,837,314 parameters, tied 1,420,814.
    """

    shape: tuple[int, ...]
    features: tuple[int, ...]
    activation: Callable[[jax.Array], jax.Array] = nn.sigmoid
    code: Callable[[jax.Array], jax.Array] = identity
    output: Callable[[jax.Array], jax.Array] = identity
    tied: bool = False
    use_bias: bool = True
    kernel_init: Callable = nn.linear.default_kernel_init
    dtype: Any = None

    def setup(self) -> None:
        settings: dict[str, Any] = {'use_bias': self.use_bias, 'dtype': self.dtype}
        kernels: dict[str, Any] = {'kernel_init': self.kernel_init}
        back = (math.prod(self.shape), *self.features[:-1])[::-1]
        self.encoder = [nn.Dense(width, **kernels, **settings) for width in self.features]
        self.decoder = [
            Transposed(width, **settings) if self.tied else nn.Dense(width, **kernels, **settings) for width in back
        ]

    def encode(self, x: jax.Array) -> jax.Array:
        """Encodes examples [B, *shape] -> codes [B, features[-1]]."""
        x = x.reshape(x.shape[0], -1)
        for layer in self.encoder[:-1]:
            x = self.activation(layer(x))
        return self.code(self.encoder[-1](x)).astype(jnp.float32)

    def logits(self, codes: jax.Array) -> jax.Array:
        """Returns the last layer's output for codes [B, features[-1]]: [B, *shape]."""
        x = codes
        for number, (layer, opposite) in enumerate(zip(self.decoder, self.encoder[::-1])):
            x = self.activation(x) if number else x
            if isinstance(layer, Transposed):
                x = layer(x, opposite.variables['params']['kernel'])
            else:
                x = layer(x)
        return x.reshape(-1, *self.shape).astype(jnp.float32)

    def decode(self, codes: jax.Array) -> jax.Array:
        """Decodes codes [B, features[-1]] -> examples [B, *shape]."""
        return self.output(self.logits(codes))

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        del train  # part of the common signature; no effect here
        return self.decode(self.encode(x))


class ConvolutionalAutoencoder(nn.Module):
    """Autoencodes by convolutions around a DenseAutoencoder: [B, H, W, C] -> [B, H, W, C].

    Each of `halvings` strided convolutions halves the side and doubles the channels, starting at `width`. 2^halvings
    must divide the sides. Transposed convolutions mirror them. `code` is applied to the code, `output` to the last
    convolution, and `activation` to all other layers.
    """

    shape: tuple[int, ...]  # [H, W, C]
    features: tuple[int, ...]
    width: int
    halvings: int = 2
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    code: Callable[[jax.Array], jax.Array] = identity
    output: Callable[[jax.Array], jax.Array] = identity
    kernel_init: Callable = nn.linear.default_kernel_init
    dtype: Any = None

    def setup(self) -> None:
        height, width, channels = self.shape
        if height % 2**self.halvings or width % 2**self.halvings:
            raise ValueError(f'{self.halvings} halvings of {height}x{width}: take a multiple of {2**self.halvings}')
        settings: dict[str, Any] = {**STRIDE_TWO, 'dtype': self.dtype, 'kernel_init': self.kernel_init}
        widths = [self.width * 2**level for level in range(self.halvings)]
        self.down = [Conv(width, **settings) for width in widths]
        self.up = [ConvTranspose(width, **settings) for width in (channels, *widths[:-1])[::-1]]
        inner = (height >> self.halvings, width >> self.halvings, widths[-1])
        self.dense = DenseAutoencoder(
            inner,
            self.features,
            self.activation,
            self.code,
            self.activation,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
        )

    def encode(self, x: jax.Array) -> jax.Array:
        """Encodes images [B, H, W, C] -> codes [B, features[-1]]."""
        for layer in self.down:
            x = self.activation(layer(x))
        return self.dense.encode(x)

    def logits(self, codes: jax.Array) -> jax.Array:
        """Returns the last convolution's output for codes [B, features[-1]]: [B, H, W, C]."""
        x = self.dense.decode(codes)
        for number, layer in enumerate(self.up):
            x = layer(self.activation(x) if number else x)
        return x.astype(jnp.float32)

    def decode(self, codes: jax.Array) -> jax.Array:
        """Decodes codes [B, features[-1]] -> images [B, H, W, C]."""
        return self.output(self.logits(codes))

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        del train  # part of the common signature; no effect here
        return self.decode(self.encode(x))


def truncate(codes: jax.Array, keys: jax.Array) -> jax.Array:
    """Applies nested dropout: keeps the first k units of each code and zeroes the rest, k uniform in 1 ... K.

    Training on reconstructions from these codes orders the units by importance. A linear autoencoder then finds the
    principal components, not only their span (Rippel, Gelbart and Adams 2014, sections 2 and 3).
    codes: [B, K]; keys: typed keys [B], one per example. Returns [B, K].
    """
    units = codes.shape[1]
    kept = jax.vmap(lambda key: jax.random.randint(key, (), 1, units + 1))(keys)
    return jnp.where(jnp.arange(units)[None] < kept[:, None], codes, 0)
