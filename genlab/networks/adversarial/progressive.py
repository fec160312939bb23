"""ProGAN (Karras et al. 2018): a generator and a discriminator that grow from 4x4 pixels, one doubling per level.

Table 2 and appendix A.1 of the paper. All levels exist from the start, so the state of a run has one shape. `level` is
the number of doublings in use. A new level fades in: `fade` goes from 0, the level below, to 1. The generator keeps it
in the collection `growth`, so that samples are drawn with the fade of the last step.

With 512 latents and three channels, the generators and discriminators have 20,719,628 and 20,726,785 parameters at
32x32, 22,933,394 and 22,941,313 at 128x128, and 23,079,115 and 23,087,249 at 1024x1024.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import convolve_doubled, convolve_halved
from genlab.networks.layers.equalized import EqualizedConv, EqualizedDense, minibatch_deviation, pixel_norm
from genlab.networks.layers.resampling import double, doublings, filtered, halve

LEAKY = partial(nn.leaky_relu, negative_slope=0.2)
GAIN = math.sqrt(2)  # gain of a leaky rectifier
BLUR = 1, 2, 1  # filter of StyleGAN (Karras et al. 2019, section 2)


def channels_at(level: int, base: int, most: int) -> int:
    """Returns the channels of the feature maps with side 4 * 2^level: base / side, and `most` at most."""
    return max(1, min(most, base // (4 * 2**level)))


def fade_of(module: nn.Module, fade: jax.Array | float | None, train: bool) -> jax.Array:
    """Returns the fade of the highest level in use, and keeps it in `growth` while training.

    module: the network, in its call. fade: the new value in [0, 1]; None takes the one that is kept.
    """
    kept = module.variable('growth', 'fade', jnp.ones, (), jnp.float32)
    if train and fade is not None and not module.is_initializing():
        kept.value = jnp.asarray(fade, jnp.float32)
    return kept.value


def blended(images: list[jax.Array], fade: jax.Array) -> jax.Array:
    """Blends the images of the highest two levels, lowest first. A level alone is returned as it is."""
    image = images[-1]
    if len(images) == 1:
        return image
    below = double(images[-2])
    return below + fade.astype(image.dtype) * (image - below)


class Generator(nn.Module):
    """Maps latents [B, D] to images [B, S, S, channels] of side S = 4 * 2^level, without a last nonlinearity."""

    resolution: int
    level: int  # doublings in use
    channels: int = 3
    base: int = 4096  # channels of a feature map, times its side; see channels_at
    most: int = 512  # channels
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, train: bool, fade: jax.Array | float | None = None) -> jax.Array:
        alpha = fade_of(self, fade, train)
        level = doublings(self.resolution) if self.is_initializing() else self.level
        images = []
        for i in range(level + 1):
            width = channels_at(i, self.base, self.most)
            if i == 0:
                x = EqualizedDense(16 * width, GAIN / 4, use_bias=False, dtype=self.dtype, name='dense')(pixel_norm(z))
                x = x.reshape(z.shape[0], 4, 4, width)
                bias = self.param('bias', nn.initializers.zeros_init(), (width,))
                x = x + bias[None, None, None].astype(x.dtype)
            else:
                operation = convolve_doubled
                x = EqualizedConv(width, gain=GAIN, operation=operation, dtype=self.dtype, name=f'double_{i}')(x)
            x = pixel_norm(LEAKY(x))
            x = pixel_norm(LEAKY(EqualizedConv(width, gain=GAIN, dtype=self.dtype, name=f'convolution_{i}')(x)))
            if i >= level - 1 or self.is_initializing():
                images.append(EqualizedConv(self.channels, 1, dtype=self.dtype, name=f'image_{i}')(x))
        return blended(images, alpha).astype(jnp.float32)


class Discriminator(nn.Module):
    """Maps images [B, S, S, C] of side S = 4 * 2^level to logits [B]. With `smooth` (StyleGAN), it filters first."""

    resolution: int
    level: int  # doublings in use
    base: int = 4096  # as of the generator
    most: int = 512
    group: int = 4  # examples per group of the minibatch standard deviation
    smooth: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, fade: jax.Array | float | None = None) -> jax.Array:
        alpha = fade_of(self, fade, train)
        level = self.level
        if self.is_initializing():  # all levels
            level = doublings(self.resolution)
            images = jnp.zeros((images.shape[0], self.resolution, self.resolution, images.shape[-1]))
        if images.shape[1] != 4 * 2**level:
            raise ValueError(f'level {level} needs images of side {4 * 2**level}, not {images.shape[1]}')
        x = self.features(level, images)
        for i in range(level, 0, -1):
            x = LEAKY(self.convolution(i, name=f'convolution_{i}')(x))
            x = filtered(x, 1, 1, BLUR) if self.smooth else x
            x = LEAKY(self.convolution(i - 1, name=f'halve_{i}', operation=convolve_halved)(x))
            if i == level or self.is_initializing():
                images = halve(images)
                below = self.features(i - 1, images)
                x = below + alpha.astype(x.dtype) * (x - below)
        x = LEAKY(self.convolution(0, name='convolution_0')(minibatch_deviation(x, self.group)))
        x = EqualizedDense(x.shape[-1], GAIN, dtype=self.dtype, name='dense')(x.reshape(x.shape[0], -1))
        return EqualizedDense(1, dtype=self.dtype, name='logit')(LEAKY(x)).astype(jnp.float32)[:, 0]

    def convolution(self, level: int, **settings: Any) -> EqualizedConv:
        """Makes a 3x3 convolution with the channels of a level."""
        width = channels_at(level, self.base, self.most)
        return EqualizedConv(width, gain=GAIN, dtype=self.dtype, **settings)

    def features(self, level: int, images: jax.Array) -> jax.Array:
        """Maps images [B, H, W, C] to feature maps with the channels of a level."""
        return LEAKY(self.convolution(level, name=f'image_{level}', side=1)(images))
