"""StyleGAN2 (Karras et al. 2020): modulated convolutions, a generator with image skips, a residual discriminator.

Section 2.2 (modulation), section 3 (architecture, figure 7) and appendix B. Neither network grows. At 1024x1024 with
three channels and base 32768 (configuration F), generator and discriminator have 30,370,060 and 29,012,513 parameters,
the mapping included; at 256x256 with base 16384, 24,767,458 and 24,001,089.

`clamp` limits activations to [-clamp, clamp], as in networks that were trained in float16 (Karras et al. 2020,
"Training GANs with Limited Data"); 0: no limit.

`remat` stores only what goes from one resolution to the next, and recomputes the rest for gradients.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.adversarial.progressive import GAIN, channels_at
from genlab.networks.adversarial.stylegan import PixelNoise
from genlab.networks.layers.convolution import convolve, convolve_transpose
from genlab.networks.layers.equalized import EqualizedConv, EqualizedDense, minibatch_deviation
from genlab.networks.layers.modulated import ModulatedConv
from genlab.networks.layers.resampling import double, doublings, filtered


def leaky(x: jax.Array) -> jax.Array:
    """Applies a leaky rectifier that keeps the scale of its inputs."""
    return nn.leaky_relu(x, 0.2) * GAIN


def limited(x: jax.Array, clamp: float) -> jax.Array:
    """Limits values to [-clamp, clamp]; 0: no limit."""
    return jnp.clip(x, -clamp, clamp) if clamp else x


def double_convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Doubles the side by a transposed convolution, then filters: [B, H, W, I], [3, 3, I, O] -> [B, 2 H, 2 W, O]."""
    y = convolve_transpose(x, kernel[::-1, ::-1], (2, 2), ((2, 2), (2, 2)))  # of side 2 H + 1
    return 4 * filtered(y, 1, 1)


def halve_convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Filters, then halves the side by a convolution: [B, 2 H, 2 W, I], [k, k, I, O] -> [B, H, W, O]."""
    side = kernel.shape[0]
    if side == 1:
        return convolve(filtered(x, 1, 2), kernel)
    return convolve(filtered(x, 2, 1), kernel, (2, 2), 'VALID')


class Synthesis(nn.Module):
    """Maps styles w [B, layers, D] to images [B, resolution, resolution, channels], the sum of one image per level."""

    resolution: int
    channels: int = 3
    base: int = 16384  # channels of a feature map, times its side; see channels_at
    most: int = 512  # channels
    clamp: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, w: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Generates images.

        Args:
            w: a style per layer [B, layers, D]. Each image layer shares the style of the next convolution.
            train: no effect here.
            keys: noise keys, one per example [B]; None takes the same noise for every example.

        Returns:
            Images, float32 [B, resolution, resolution, channels].
        """
        del train
        x: jax.Array | None = None
        image: jax.Array | None = None
        for level in range(doublings(self.resolution) + 1):
            grow = functools.partial(Synthesis.grown, level=level)
            grow = nn.remat(grow) if self.remat and not self.is_initializing() else grow
            x, image = grow(self, x, image, w, keys)
        assert image is not None
        return image

    def grown(
        self, x: jax.Array | None, image: jax.Array | None, w: jax.Array, keys: jax.Array | None, level: int
    ) -> tuple[jax.Array, jax.Array]:
        """Applies the layers of a level: the features [B, S, S, width] and the image so far, both None for level 0."""
        width = channels_at(level, self.base, self.most)
        if x is None:
            constant = self.param('constant', nn.initializers.normal(1.0), (4, 4, width))
            x = jnp.broadcast_to(constant[None].astype(self.dtype), (w.shape[0], 4, 4, width))
        else:
            x = self.styled(x, w[:, 2 * level - 1], keys, width, f'double_{level}', operation=double_convolved)
        x = self.styled(x, w[:, 2 * level], keys, width, f'convolution_{level}')
        convolution = ModulatedConv(self.channels, 1, demodulate=False, dtype=self.dtype, name=f'image_{level}')
        bias = self.param(f'image_bias_{level}', nn.initializers.zeros_init(), (self.channels,))
        part = limited(convolution(x, w[:, 2 * level + 1]) + bias[None, None, None], self.clamp).astype(jnp.float32)
        return x, part if image is None else double(image, smooth=True) + part

    def styled(self, x: jax.Array, w: jax.Array, keys: jax.Array | None, width: int, name: str, **settings: Any):
        """Applies a modulated convolution, noise, a bias and a leaky rectifier: [B, H, W, C] -> [B, H', W', width]."""
        x = ModulatedConv(width, dtype=self.dtype, name=name, **settings)(x, w)
        x = PixelNoise(per_channel=False, kept=True, name=f'{name}_noise')(x, keys)
        bias = self.param(f'{name}_bias', nn.initializers.zeros_init(), (width,))
        return limited(leaky(x + bias[None, None, None].astype(x.dtype)), self.clamp)


class Discriminator(nn.Module):
    """Maps images [B, resolution, resolution, C] to logits [B] through residual blocks.

    With a label, class weights [B, classes], it projects its features onto an embedding (Miyato and Koyama 2018).
    """

    resolution: int
    base: int = 16384  # as of the generator
    most: int = 512
    group: int = 4  # examples per group of the minibatch standard deviation
    clamp: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, label: jax.Array | None = None) -> jax.Array:
        if images.shape[1:3] != (self.resolution, self.resolution):
            raise ValueError(f'the discriminator needs images of side {self.resolution}, not {images.shape[1:3]}')
        x = images.astype(self.dtype)
        for level in range(doublings(self.resolution), 0, -1):
            halve = functools.partial(Discriminator.halved, level=level)
            x = (nn.remat(halve) if self.remat and not self.is_initializing() else halve)(self, x)
        x = self.active(self.convolution(0, name='convolution_0')(minibatch_deviation(x, self.group)))
        x = leaky(EqualizedDense(x.shape[-1], dtype=self.dtype, name='dense')(x.reshape(x.shape[0], -1)))
        if label is None:
            return EqualizedDense(1, dtype=self.dtype, name='logit')(x).astype(jnp.float32)[:, 0]
        x = EqualizedDense(x.shape[-1], dtype=self.dtype, name='logit')(x).astype(jnp.float32)
        table = EqualizedDense(x.shape[-1], name='label')(label)
        return (x * table).sum(-1) / math.sqrt(x.shape[-1])

    def halved(self, x: jax.Array, level: int) -> jax.Array:
        """Applies the block of a level; the highest takes the images: [B, S, S, C] -> [B, S / 2, S / 2, width]."""
        if level == doublings(self.resolution):
            x = self.active(self.convolution(level, side=1, name='image')(x))
        shortcut = self.convolution(
            level - 1, side=1, operation=halve_convolved, use_bias=False, name=f'shortcut_{level}'
        )
        h = self.active(self.convolution(level, name=f'convolution_{level}')(x))
        h = self.active(self.convolution(level - 1, operation=halve_convolved, name=f'halve_{level}')(h))
        return (shortcut(x) + h) / math.sqrt(2)

    def active(self, x: jax.Array) -> jax.Array:
        """Applies the activation."""
        return limited(leaky(x), self.clamp)

    def convolution(self, level: int, **settings: Any) -> EqualizedConv:
        """Makes a convolution with the channels of a level."""
        return EqualizedConv(channels_at(level, self.base, self.most), dtype=self.dtype, **settings)
