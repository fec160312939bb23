"""Encoder and decoder of the discrete VAE of DALL-E (Ramesh et al. 2021, appendix A.1).

Each group of residual blocks works at one side. Max-pooling halves the side between the groups of the encoder, and
nearest neighbours double it between those of the decoder. Widths are `width` times 1, 2, 4, ... from the image inwards.
With the defaults, 8192 entries and images of three channels, they have 53,786,240 and 43,829,766 parameters.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import Conv
from genlab.networks.layers.resampling import double

normal = nn.initializers.variance_scaling(1.0, 'fan_in', 'normal')  # for all kernels; biases start at zero


class Encoder(nn.Module):
    """Encodes images [B, H, W, C] in (0, 1) as logits of the entries, float32 [B, H / 2^(groups - 1), ..., entries]."""

    entries: int
    width: int = 256
    groups: int = 4
    blocks: int = 2  # per group
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        del train  # part of the common signature; no effect here
        x = Conv(self.width, (7, 7), kernel_init=normal, dtype=self.dtype, name='input')(x)
        gain = 1 / (self.groups * self.blocks) ** 2
        for i in range(self.groups):
            x = halve_by_maximum(x) if i else x
            for j in range(self.blocks):
                x = Bottleneck(self.width * 2**i, (3, 3, 3, 1), gain, self.dtype, name=f'block_{i}_{j}')(x)
        return _last(x, self.entries)


class Decoder(nn.Module):
    """Decodes weights of the entries [B, h, w, entries] to the parameters of pixels, float32 [B, H, W, 2 channels].

    The side is H = 2^(groups - 1) h. The first convolution has a 1x1 kernel, whose rows are the embeddings of the
    entries. The last axis holds `channels` locations, then `channels` log-scales.
    """

    channels: int
    width: int = 256
    groups: int = 4
    blocks: int = 2  # per group
    start: int = 128  # channels of an embedding
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, weights: jax.Array, train: bool = False) -> jax.Array:
        del train  # part of the common signature; no effect here
        x = Conv(self.start, (1, 1), kernel_init=normal, dtype=self.dtype, name='input')(weights)
        gain = 1 / (self.groups * self.blocks) ** 2
        for i in reversed(range(self.groups)):
            for j in range(self.blocks):
                x = Bottleneck(self.width * 2**i, (1, 3, 3, 3), gain, self.dtype, name=f'block_{i}_{j}')(x)
            x = double(x) if i else x
        return _last(x, 2 * self.channels)


class Bottleneck(nn.Module):
    """Adds `gain` times four convolutions with width / 4 inner channels to a shortcut: [B, H, W, C] -> [..., width]."""

    width: int
    windows: tuple[int, ...]  # sides of the kernels
    gain: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layer = partial(Conv, kernel_init=normal, dtype=self.dtype)
        h, inner = x, self.width // 4
        for i, (window, width) in enumerate(zip(self.windows, (inner, inner, inner, self.width))):
            h = layer(width, (window, window), name=f'convolution_{i}')(nn.relu(h))
        if x.shape[-1] != self.width:
            x = layer(self.width, (1, 1), name='shortcut')(x)
        return x + self.gain * h


def halve_by_maximum(x: jax.Array) -> jax.Array:
    """Takes the maximum of 2x2 pixels: [B, H, W, C] -> [B, H / 2, W / 2, C].

    Pairwise, because the gradient of a reduction divides by the number of pixels that equal the maximum. The compiler
    may compute the pixels twice with different rounding, and then that number is zero.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    rows = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


def _last(x: jax.Array, features: int) -> jax.Array:
    """Applies a ReLU and a convolution with a 1x1 kernel, named 'output' in the calling module, in float32."""
    layer = Conv(features, (1, 1), kernel_init=normal, dtype=jnp.float32, name='output')
    return layer(nn.relu(x).astype(jnp.float32))
