"""A small convolutional encoder of images that learns their classes, as a teacher of other encoders."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import STRIDE_TWO, Conv
from genlab.networks.layers.resampling import sides


class ImageEncoder(nn.Module):
    """Maps images [B, H, W, C] in [-1, 1] to features [B, size], none negative, and class logits [B, classes].

    Each convolution halves the side and doubles the channels, starting at `width`. Both results are float32.
    """

    size: int
    classes: int
    width: int = 16
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        del train  # part of the common signature; no effect here
        x = images
        for level in range(len(sides(images.shape[1])) - 1):
            x = nn.relu(Conv(self.width * 2**level, **STRIDE_TWO, dtype=self.dtype, name=f'convolution_{level}')(x))
        x = nn.relu(nn.Dense(self.size, dtype=self.dtype, name='features')(x.reshape(len(x), -1)))
        logits = nn.Dense(self.classes, dtype=self.dtype, name='classes')(x)
        return x.astype(jnp.float32), logits.astype(jnp.float32)
