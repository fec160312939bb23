"""The encoder and decoder of the VQ-VAE: strided convolutions and narrow residual blocks, without normalisation.

Van den Oord et al. 2017, section 4.1. At 32x32x3 with width=128, halvings=2, blocks=2 and latent_size=64, the encoder
has 364,160 parameters, and 8,256 in the layer of the codes. The decoder has 290,307.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import STRIDE_TWO, Conv, ConvTranspose
from genlab.networks.layers.residual import Bottlenecks


def widths(width: int, halvings: int) -> list[int]:
    """Returns the channels after each halving of the side: `width` after the last, and `width / 2` after the others."""
    return [width // 2] * (halvings - 1) + [width]


class ResidualEncoder(nn.Module):
    """Encodes images [B, H, W, C] as codes, float32 [B, H / 2^halvings, W / 2^halvings, latent_size].

    Without a latent size there is no code layer: the encoder returns its `width` features.
    """

    width: int
    latent_size: int  # 0: no code layer
    halvings: int = 2
    blocks: int = 2
    inner: int = 0  # channels within a residual block; 0: width / 4
    use_bias: bool = True  # whether convolutions in residual blocks have a bias
    dtype: Any = jnp.float32
    channels: tuple[int, ...] = ()  # after each halving; (): `widths`
    rectified: bool = False  # see `Bottlenecks`

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        del train  # part of the common signature; no effect here
        for i, width in enumerate(self.channels or widths(self.width, self.halvings)):
            x = nn.relu(Conv(width, **STRIDE_TWO, dtype=self.dtype, name=f'down_{i}')(x))
        x = Conv(self.width, (3, 3), dtype=self.dtype, name='input')(x)
        sizes = self.width, self.blocks, self.inner or self.width // 4
        x = Bottlenecks(*sizes, self.use_bias, self.dtype, self.rectified, name='residuals')(x)
        x = Conv(self.latent_size, (1, 1), dtype=self.dtype, name='codes')(x) if self.latent_size else x
        return x.astype(jnp.float32)


class ResidualDecoder(nn.Module):
    """Decodes codes [B, h, w, latent_size] to images, float32 [B, 2^halvings h, 2^halvings w, channels].

    Its layers mirror those of the encoder.
    """

    width: int
    channels: int
    halvings: int = 2
    blocks: int = 2
    inner: int = 0  # channels within a residual block; 0: width / 4
    use_bias: bool = True  # whether convolutions in residual blocks have a bias
    dtype: Any = jnp.float32
    rectified: bool = False  # see `Bottlenecks`

    @nn.compact
    def __call__(self, codes: jax.Array, train: bool = False) -> jax.Array:
        del train  # part of the common signature; no effect here
        x = Conv(self.width, (3, 3), dtype=self.dtype, name='input')(codes)
        sizes = self.width, self.blocks, self.inner or self.width // 4
        x = Bottlenecks(*sizes, self.use_bias, self.dtype, self.rectified, name='residuals')(x)
        for i, width in reversed([*enumerate([self.channels, *widths(self.width, self.halvings)[:-1]])]):
            x = ConvTranspose(width, **STRIDE_TWO, dtype=self.dtype, name=f'up_{i}')(x)
            x = nn.relu(x) if i else x
        return x.astype(jnp.float32)
