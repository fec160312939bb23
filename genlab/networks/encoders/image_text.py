"""Encodes images and captions in one space, where those that belong together are near (Radford et al. 2021)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.adversarial.progressive import channels_at
from genlab.networks.adversarial.stylegan2 import halve_convolved, leaky
from genlab.networks.encoders.text import TextEncoder, summary
from genlab.networks.layers.equalized import EqualizedConv, EqualizedDense
from genlab.networks.layers.resampling import doublings

LARGEST = 100.0  # inverse temperature


class ImageText(nn.Module):
    """Maps images [B, R, R, C] and tokens int32 [B, L] to unit vectors [B, features] each, and an inverse temperature.

    Images pass convolutions down to 4x4 and a dense layer, which sees where things are.
    """

    words: int
    features: int = 64
    base: int = 512  # channels of a feature map, times its side; see channels_at
    most: int = 128
    width: int = 64  # width of the encoder of captions
    blocks: int = 1
    heads: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, tokens: jax.Array, train: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
        x, top = images.astype(self.dtype), doublings(images.shape[1])
        for i in range(top, 0, -1):
            width = channels_at(i - 1, self.base, self.most)
            layer = EqualizedConv(width, operation=halve_convolved, dtype=self.dtype, name=f'halve_{i}')
            x = leaky(layer(x))
        image = EqualizedDense(self.features, dtype=self.dtype, name='image')(x.reshape(x.shape[0], -1))
        encoder = TextEncoder(self.words, self.width, self.blocks, self.heads, self.dtype, name='text')
        text = EqualizedDense(self.features, name='caption')(summary(*encoder(tokens, train)))
        log_scale = self.param('log_scale', nn.initializers.constant(math.log(1 / 0.07)), ())
        return _unit(image), _unit(text), jnp.minimum(jnp.exp(log_scale), LARGEST)


def _unit(x: jax.Array) -> jax.Array:
    """Divides vectors [B, D] by their length, in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-8)
