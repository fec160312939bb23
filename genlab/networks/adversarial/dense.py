"""Dense generator and discriminator of images (Goodfellow et al. 2014, section 5)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.adversarial.progressive import LEAKY
from genlab.networks.layers.mlp import MLP


class Generator(nn.Module):
    """Maps latents [B, D] to images [B, *shape] in [-1, 1]. A label, class weights [B, classes], is concatenated."""

    features: tuple[int, ...]
    shape: tuple[int, int, int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, train: bool, label: jax.Array | None = None) -> jax.Array:
        z = z if label is None else jnp.concatenate([z, label], -1)
        pixels = MLP((*self.features, math.prod(self.shape)), LEAKY, nn.tanh, self.dtype, name='layers')(z, train)
        return pixels.reshape(-1, *self.shape).astype(jnp.float32)


class Discriminator(nn.Module):
    """Maps images [B, H, W, C] to logits [B]. A label, class weights [B, classes], is concatenated to the pixels."""

    features: tuple[int, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, label: jax.Array | None = None) -> jax.Array:
        x = images.reshape(images.shape[0], -1)
        x = x if label is None else jnp.concatenate([x, label], -1)
        return MLP((*self.features, 1), LEAKY, dtype=self.dtype, name='layers')(x, train)[:, 0].astype(jnp.float32)
