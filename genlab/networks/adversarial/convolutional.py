"""A plain convolutional discriminator, without normalisation, that also returns its features."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import STRIDE_TWO, Conv
from genlab.networks.layers.resampling import sides


class ConvolutionalDiscriminator(nn.Module):
    """Maps images [B, H, W, C] to logits [B] and the features [B, h, w, D] of the last convolution, both float32.

    Each convolution halves the side and doubles the channels, starting at `width`. A dense layer returns the logit.
    """

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        for level in range(len(sides(x.shape[1])) - 1):
            x = nn.leaky_relu(Conv(self.width * 2**level, **STRIDE_TWO, dtype=self.dtype)(x), 0.2)
        features = x.astype(jnp.float32)
        return nn.Dense(1, dtype=self.dtype)(x.reshape(len(x), -1)).astype(jnp.float32)[:, 0], features
