"""R3GAN (Huang et al. 2024, section 4): residual networks without normalisation, of grouped convolutions.

With 64 latents, ten classes, and two blocks of 768 channels per level, generator and discriminator of CIFAR-10 have
20,781,952 and 21,280,512 parameters.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.adversarial.progressive import LEAKY, channels_at
from genlab.networks.layers.convolution import Conv, convolve
from genlab.networks.layers.resampling import doublings, filtered

GAIN = math.sqrt(2 / (1 + 0.2**2))  # gain of the leaky rectifier
TAPS = 1, 2, 1


def scaled(gain: float = 1.0) -> nn.initializers.Initializer:
    """Returns an initializer that draws from N(0, gain^2 / fan-in)."""
    return nn.initializers.variance_scaling(gain**2, 'fan_in', 'normal') if gain else nn.initializers.zeros_init()


def double(x: jax.Array) -> jax.Array:
    """Doubles the side by linear interpolation: [B, H, W, C] -> [B, 2 H, 2 W, C].

    Pixel i of the input is at position 2 i + 1 of the output. Pixels outside of the input are zero.
    """
    for axis in (1, 2):
        before = jax.lax.slice_in_dim(jnp.pad(x, [(int(i == axis), 0) for i in range(4)]), 0, x.shape[axis], axis=axis)
        both = jnp.stack([(before + x) / 2, x], axis + 1)
        x = both.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


def halve(x: jax.Array) -> jax.Array:
    """Filters by [1, 2, 1] / 4 around every second pixel: [B, 2 H, 2 W, C] -> [B, H, W, C]."""
    return filtered(x, 1, 2, TAPS)


class GroupedConv(nn.Module):
    """Convolves `groups` runs of neighbouring channels separately, with 3x3 windows: [B, H, W, C] -> [B, H, W, C].

    Few channels are convolved together, with a kernel that is zero between groups. On a CPU this is faster up to about
    256 channels, although it multiplies by zeros.
    """

    groups: int
    kernel_init: nn.initializers.Initializer
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1] // self.groups
        kernel = self.param('kernel', self.kernel_init, (3, 3, width, x.shape[-1]))
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        kernel = kernel.reshape(3, 3, width, self.groups, width)
        if x.shape[-1] <= 256:
            diagonal = jnp.eye(self.groups, dtype=bool)[None, None, :, None, :, None]
            kernel = jnp.where(diagonal, kernel[:, :, None], 0)
            return convolve(x, kernel.reshape(3, 3, x.shape[-1], x.shape[-1]))
        grouped = x.reshape(*x.shape[:-1], self.groups, width)
        return jax.vmap(convolve, (3, 3), 3)(grouped, kernel).reshape(x.shape)


class Block(nn.Module):
    """Adds to x [B, H, W, C] the result of 1x1, grouped 3x3 and 1x1 convolutions. The last one starts at zero.

    The first two start smaller by the fourth root of the number of blocks in the network (Zhang et al. 2019, Fixup).
    """

    groups: int
    expansion: int
    blocks: int  # in the network
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, init = x.shape[-1], scaled(GAIN * self.blocks**-0.25)
        h = Conv(width * self.expansion, (1, 1), use_bias=False, dtype=self.dtype, kernel_init=init, name='expand')(x)
        h = GroupedConv(self.groups, init, self.dtype, name='convolution')(self.activate(h, 'bias_0'))
        h = self.activate(h, 'bias_1')
        zeros = scaled(0)
        return x + Conv(width, (1, 1), use_bias=False, dtype=self.dtype, kernel_init=zeros, name='contract')(h)

    def activate(self, x: jax.Array, name: str) -> jax.Array:
        """Adds a bias and rectifies."""
        bias = self.param(name, nn.initializers.zeros_init(), (x.shape[-1],))
        return LEAKY(x + bias[None, None, None].astype(x.dtype))


class _Levels(nn.Module):
    """Holds the fields and parts of both networks. A level is a number of doublings from 4x4."""

    resolution: int
    base: int  # channels of a feature map, times its side; see channels_at
    most: int = 512  # channels
    blocks: int = 2  # per level
    group_width: int = 8  # channels of a level per group of its convolutions
    expansion: int = 2
    embedding: int = 64  # size of the embedding of the label
    dtype: Any = jnp.float32

    def width(self, level: int) -> int:
        """Returns the channels of a level."""
        return channels_at(level, self.base, self.most)

    def residual(self, level: int, x: jax.Array) -> jax.Array:
        """Applies the blocks of one level."""
        groups, total = x.shape[-1] // self.group_width, self.blocks * (doublings(self.resolution) + 1)
        for i in range(self.blocks):
            x = Block(groups, self.expansion, total, self.dtype, name=f'block_{level}_{i}')(x)
        return x

    def matched(self, level: int, x: jax.Array) -> jax.Array:
        """Changes the number of channels to the number of a level, if it differs."""
        return x if x.shape[-1] == self.width(level) else self.convolution(self.width(level), f'width_{level}')(x)

    def convolution(self, width: int, name: str) -> Conv:
        """Makes a 1x1 convolution."""
        return Conv(width, (1, 1), use_bias=False, dtype=self.dtype, kernel_init=scaled(), name=name)

    def linear(self, width: int, name: str, gain: float = 1.0) -> nn.Dense:
        """Makes a dense layer without a bias."""
        return nn.Dense(width, use_bias=False, kernel_init=scaled(gain), name=name)


class Generator(_Levels):
    """Maps latents [B, D] to images [B, resolution, resolution, channels], without a last nonlinearity.

    An embedding of the label, class weights [B, classes], is concatenated to the latents.
    """

    channels: int = 3

    @nn.compact
    def __call__(self, z: jax.Array, train: bool, label: jax.Array | None = None) -> jax.Array:
        del train
        if label is not None:
            z = jnp.concatenate([z, self.linear(self.embedding, 'label')(label)], -1)
        basis = self.param('basis', nn.initializers.normal(1.0), (4, 4, self.width(0)))
        x = (basis[None] * self.linear(self.width(0), 'latent')(z)[:, None, None]).astype(self.dtype)
        for level in range(doublings(self.resolution) + 1):
            x = self.residual(level, double(self.matched(level, x)) if level else x)
        return self.convolution(self.channels, 'image')(x).astype(jnp.float32)


class Discriminator(_Levels):
    """Maps images [B, resolution, resolution, C] to logits [B]: with a label, the projection onto its embedding."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, label: jax.Array | None = None) -> jax.Array:
        del train
        if images.shape[1:3] != (self.resolution, self.resolution):
            raise ValueError(f'the discriminator needs images of side {self.resolution}, not {images.shape[1:3]}')
        top = doublings(self.resolution)
        x = self.convolution(self.width(top), 'image')(images.astype(self.dtype))
        for level in reversed(range(top + 1)):
            x = self.residual(level, x)
            x = self.matched(level - 1, halve(x)) if level else x
        basis = self.param('basis', nn.initializers.normal(1 / 4), (4, 4, self.width(0)))
        features = (x.astype(jnp.float32) * basis[None]).sum((1, 2))
        if label is None:
            return self.linear(1, 'logit')(features)[:, 0]
        projected = self.linear(self.embedding, 'logit')(features)
        return (projected * self.linear(self.embedding, 'label', 1 / math.sqrt(self.embedding))(label)).sum(-1)
