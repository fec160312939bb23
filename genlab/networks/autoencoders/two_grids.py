"""Two networks of VQ-VAE-2: from the top grid to the bottom codes, and from both grids to the image.

Razavi et al. 2019, section 3.1 and appendix A. Counts are for width 128, 64 channels per code, two residual blocks of
32 inner channels and images of three channels. All networks together have 1,388,867 parameters: the bottom features
364,160, the top encoder 295,488, `TopDown` 299,584 and `Decoder` 429,635. Codebooks are not counted: moving averages
train them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.autoencoders.residual import ResidualDecoder
from genlab.networks.layers.convolution import STRIDE_TWO, Conv, ConvTranspose


class TopDown(nn.Module):
    """Makes bottom codes [B, 2 h, 2 w, D] of the top's entries [B, h, w, D] and bottom features [B, 2 h, 2 w, W]."""

    width: int
    latent_size: int
    blocks: int = 2
    inner: int = 0  # channels within a residual block; 0: width / 4
    use_bias: bool = True  # whether convolutions in residual blocks have a bias
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, top: jax.Array, features: jax.Array, train: bool = False) -> jax.Array:
        sizes: dict[str, Any] = dict(
            halvings=1, blocks=self.blocks, inner=self.inner, use_bias=self.use_bias, dtype=self.dtype
        )
        decoded = ResidualDecoder(self.width, self.latent_size, **sizes, name='top')(top, train)
        both = jnp.concatenate([decoded, features], -1)
        return Conv(self.latent_size, (1, 1), dtype=self.dtype, name='codes')(both).astype(jnp.float32)


class Decoder(nn.Module):
    """Decodes entries of both grids, top [B, h, w, D] and bottom [B, 2 h, 2 w, D], to images [B, H, W, channels]."""

    width: int
    channels: int
    halvings: int = 2  # from the image to the bottom grid
    blocks: int = 2
    inner: int = 0  # channels within a residual block; 0: width / 4
    use_bias: bool = True  # whether convolutions in residual blocks have a bias
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, top: jax.Array, bottom: jax.Array, train: bool = False) -> jax.Array:
        up = ConvTranspose(top.shape[-1], **STRIDE_TWO, dtype=self.dtype, name='up')(top).astype(jnp.float32)
        sizes: dict[str, Any] = dict(blocks=self.blocks, inner=self.inner, use_bias=self.use_bias, dtype=self.dtype)
        decoder = ResidualDecoder(self.width, self.channels, self.halvings, **sizes, name='images')
        return decoder(jnp.concatenate([up, bottom], -1), train)
