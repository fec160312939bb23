"""DCGAN: a generator and a discriminator made of strided convolutions only.

Radford, Metz and Chintala 2015, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", section 3. The networks have neither pooling nor dense layers. Batch normalisation follows every convolution
except at the generator's output and the discriminator's input. At 64x64x3 with 100 latents and width 64, they have
3,576,704 and 2,765,568 parameters.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import STRIDE_TWO, Conv, ConvTranspose
from genlab.networks.layers.normalization import BatchNorm
from genlab.networks.layers.resampling import doublings

EDGE: dict[str, Any] = {'kernel_size': (4, 4), 'padding': 'VALID'}  # between a vector and a 4x4 feature map


def normal(mean: float = 0.0, deviation: float = 0.02) -> Callable[..., jax.Array]:
    """Returns an initializer that draws from N(mean, deviation^2); the paper's deviation is 0.02 (section 4)."""
    return lambda key, shape, dtype=jnp.float32: mean + deviation * jax.random.normal(key, shape, dtype)


class Generator(nn.Module):
    """Maps latents [B, latent_size] to images [B, resolution, resolution, channels] in [-1, 1].

    `axis` names the mapped axis over which batch statistics are shared. The parameters are float32 for every `dtype`.
    A label, class weights [B, classes], enters as `condition` says: 'concatenation' to the latents, or 'normalization',
    a scale and a shift per class after each batch normalisation (Dumoulin et al. 2017).
    """

    resolution: int = 64
    channels: int = 3
    width: int = 64
    latent_size: int = 100
    axis: str | None = None
    condition: str = 'concatenation'
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, train: bool, label: jax.Array | None = None) -> jax.Array:
        if z.shape[-1] != self.latent_size:
            raise ValueError(f'the generator needs latents of size {self.latent_size}, not {z.shape[-1]}')
        settings: dict[str, Any] = {'use_bias': False, 'dtype': self.dtype, 'kernel_init': normal()}
        levels, by_class = doublings(self.resolution, 16), None
        if label is not None and self.condition == 'concatenation':
            z = jnp.concatenate([z, label], -1)
        elif label is not None:
            by_class = label

        def normalized(x: jax.Array) -> jax.Array:
            normalization = BatchNorm(self.axis, dtype=self.dtype, scale_init=normal(mean=1.0))
            return nn.relu(normalization(x, train, by_class))

        x = ConvTranspose(self.width * 2 ** (levels - 1), **EDGE, **settings)(z[:, None, None, :])
        for level in reversed(range(levels - 1)):
            x = ConvTranspose(self.width * 2**level, **STRIDE_TWO, **settings)(normalized(x))
        x = normalized(x)
        return nn.tanh(ConvTranspose(self.channels, **STRIDE_TWO, **settings)(x))


class Discriminator(nn.Module):
    """Maps images [B, resolution, resolution, C] in [-1, 1] to logits [B], positive for real images.

    `axis` and `dtype` have the same meaning as for the generator. A label, class weights [B, classes], enters as
    `condition` says: 'concatenation' of constant channels to the images (Mirza and Osindero 2014); 'projection' of the
    features onto an embedding (Miyato and Koyama 2018, section 2); or 'classification', which ignores the label and
    also returns class logits [B, classes] (Odena et al. 2017, section 3).
    """

    resolution: int = 64
    width: int = 64
    axis: str | None = None
    condition: str = 'concatenation'
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool, label: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        if images.shape[1:3] != (self.resolution, self.resolution):
            raise ValueError(f'the discriminator needs images of side {self.resolution}, not {images.shape[1:3]}')
        settings: dict[str, Any] = {'use_bias': False, 'dtype': self.dtype, 'kernel_init': normal()}
        levels = doublings(self.resolution, 16)
        if label is not None and self.condition == 'concatenation':
            planes = jnp.broadcast_to(label[:, None, None], (*images.shape[:3], label.shape[-1]))
            images = jnp.concatenate([images, planes], -1)
        x = nn.leaky_relu(Conv(self.width, **STRIDE_TWO, **settings)(images), 0.2)
        for level in range(1, levels):
            x = Conv(self.width * 2**level, **STRIDE_TWO, **settings)(x)
            x = nn.leaky_relu(BatchNorm(self.axis, dtype=self.dtype, scale_init=normal(mean=1.0))(x, train), 0.2)
        logits = Conv(1, **EDGE, **settings)(x)[:, 0, 0, 0]
        if label is None or self.condition == 'concatenation':
            return logits
        features = x.astype(jnp.float32).sum((1, 2))
        if self.condition == 'projection':
            embedding = nn.Dense(features.shape[-1], use_bias=False, kernel_init=normal(), name='label')(label)
            return logits + (embedding * features).sum(-1)
        return logits, nn.Dense(label.shape[-1], kernel_init=normal(), name='classes')(features)
