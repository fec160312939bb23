"""Residual generator and discriminator of WGAN-GP (Gulrajani et al. 2017, appendix C) and SNGAN (Miyato et al. 2018).

SNGAN's table 4 for 32x32 images: three blocks that double the side, and two that halve it before two plain ones. Other
sides get one block per doubling from 4x4, and one halving per doubling from 8x8.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import Conv, DoubledConv
from genlab.networks.layers.normalization import BatchNorm
from genlab.networks.layers.resampling import double, doublings, halve
from genlab.networks.layers.spectral import SpectralConv, SpectralDense


def xavier(gain: float = 1.0) -> Callable[..., jax.Array]:
    """Returns Glorot's uniform initializer times a gain: sqrt(2) in a block, 1 elsewhere."""
    return nn.initializers.variance_scaling(gain**2, 'fan_avg', 'uniform')


class Generator(nn.Module):
    """Maps latents [B, D] to images [B, resolution, resolution, channels] in [-1, 1].

    A label, class weights [B, classes], selects scale and shift of the batch normalisations.
    """

    resolution: int
    channels: int = 3
    width: int = 128
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, train: bool, label: jax.Array | None = None) -> jax.Array:
        x = nn.Dense(16 * self.width, dtype=self.dtype, kernel_init=xavier(), name='dense')(z)
        x = x.reshape(z.shape[0], 4, 4, self.width)
        for i in range(doublings(self.resolution, 16)):
            h = self.normalized(x, train, label, f'normalization_{i}_0')
            h = self.convolution(h, f'convolution_{i}_0', DoubledConv, use_bias=False)  # a bias would cancel
            h = self.normalized(h, train, label, f'normalization_{i}_1')
            h = self.convolution(h, f'convolution_{i}_1')
            x = h + double(Conv(self.width, (1, 1), dtype=self.dtype, kernel_init=xavier(), name=f'shortcut_{i}')(x))
        x = self.normalized(x, train, label, 'normalization')
        x = Conv(self.channels, (3, 3), dtype=self.dtype, kernel_init=xavier(), name='image')(x)
        return nn.tanh(x).astype(jnp.float32)

    def normalized(self, x: jax.Array, train: bool, label: jax.Array | None, name: str) -> jax.Array:
        """Normalises over the batch and rectifies."""
        return nn.relu(BatchNorm(self.axis, dtype=self.dtype, name=name)(x, train, label))

    def convolution(self, x: jax.Array, name: str, kind: type[Conv] = Conv, **settings: Any) -> jax.Array:
        """Applies a 3x3 convolution of a block."""
        settings |= {'dtype': self.dtype, 'kernel_init': xavier(math.sqrt(2)), 'name': name}
        return kind(self.width, (3, 3), **settings)(x)


class Discriminator(nn.Module):
    """Maps images [B, resolution, resolution, C] to logits [B], with spectral normalisation or none.

    With a label, class weights [B, classes], the projection of the features onto its embedding is added.
    """

    resolution: int
    width: int = 128
    spectral: bool = True
    total: bool = True  # whether features are summed over pixels, as in SNGAN, or averaged, as in WGAN-GP
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, label: jax.Array | None = None) -> jax.Array:
        if images.shape[1:3] != (self.resolution, self.resolution):
            raise ValueError(f'the discriminator needs images of side {self.resolution}, not {images.shape[1:3]}')
        x = images.astype(self.dtype)
        halvings = doublings(self.resolution, 16) - 1  # to 8x8
        for i in range(halvings + 2):
            h = self.convolution(x if i == 0 else nn.relu(x), 3, f'convolution_{i}_0', train, math.sqrt(2))
            h = self.convolution(nn.relu(h), 3, f'convolution_{i}_1', train, math.sqrt(2))
            if i < halvings:
                # The shortcut halves first: a 1x1 convolution commutes with the mean.
                x = halve(h) + self.convolution(halve(x), 1, f'shortcut_{i}', train)
            else:
                x = h + x
        features = nn.relu(x).astype(jnp.float32)
        features = features.sum((1, 2)) if self.total else features.mean((1, 2))
        # Without spectral normalisation the losses are Wasserstein's, in which a bias cancels.
        logits = self.dense(features, 1, 'logit', train, use_bias=self.spectral)[:, 0]
        if label is None:
            return logits
        return logits + (features * self.dense(label, self.width, 'label', train, use_bias=False)).sum(-1)

    def convolution(self, x: jax.Array, side: int, name: str, train: bool, gain: float = 1.0) -> jax.Array:
        """Applies a convolution with a window of `side` x `side`."""
        settings = {'dtype': self.dtype, 'kernel_init': xavier(gain), 'name': name}
        if self.spectral:
            return SpectralConv(self.width, (side, side), **settings)(x, train)
        return Conv(self.width, (side, side), **settings)(x)

    def dense(self, x: jax.Array, width: int, name: str, train: bool, **settings: Any) -> jax.Array:
        """Applies a dense layer."""
        if self.spectral:
            return SpectralDense(width, kernel_init=xavier(), name=name, **settings)(x, train)
        return nn.Dense(width, kernel_init=xavier(), name=name, **settings)(x)
