"""A spatial autoencoder, with codes on a grid: the first stage of latent diffusion (Rombach et al. 2022, appendix G.1).

Level i has `width * multipliers[i]` channels at a side of R / 2^i, and residual blocks. Only the smallest side has
self-attention: once in the middle, and with `attention` after each of its blocks, too. With width=128, multipliers=(1,
2, 4, 4), blocks=2 and latent_size=4 on 256x256x3 images it is the published KL-f8 with 83,653,863 parameters. With
multipliers=(1, 1, 2, 2, 4), attention and latent_size=256 it is the published VQGAN-f16 (Esser et al. 2021, table 8),
71,879,555 parameters without its codebook.

Codes [B, h, w, latent_size] are returned and taken in flat form, [B, h w latent_size], row by row. See
`genlab.networks.autoencoders.variational` for the arguments of the call. With a codebook there is neither variance nor
scale: the encoder returns only the grid, and the decoder maps the grid to the image.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.autoencoders.variational import Gaussian, Scale
from genlab.networks.layers.attention import Attention
from genlab.networks.layers.convolution import Conv, DoubledConv
from genlab.networks.layers.normalization import group_normalization
from genlab.networks.layers.residual import ResidualBlock, attend_pixels

LOG_VARIANCES = (-30.0, 20.0)  # range to which log-variances are clipped


def grid(shape: tuple[int, ...], multipliers: tuple[int, ...], latent_size: int) -> tuple[int, int, int]:
    """Returns the shape of the codes.

    Args:
        shape: shape [H, W, C] of an image.
        multipliers: channels per level, as multiples of the width; each level but the first halves the sides.
        latent_size: number of channels of a code.

    Returns:
        The shape [h, w, latent_size].
    """
    halvings = 2 ** (len(multipliers) - 1)
    if any(side % halvings for side in shape[:2]):
        raise ValueError(
            f'images of {shape[0]}x{shape[1]} cannot be halved {len(multipliers) - 1} times: use fewer multipliers'
        )
    return shape[0] // halvings, shape[1] // halvings, latent_size


class SpatialEncoder(nn.Module):
    """Encodes images [B, H, W, C] as mean and log-variance of their codes, float32 [B, h w latent_size] each."""

    width: int
    latent_size: int
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    variance: bool = True
    dtype: Any = jnp.float32
    attention: bool = False  # after each block of the smallest side

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None = None, train: bool = False) -> Gaussian | jax.Array:
        del condition, train  # part of the common signature; this encoder is unconditional
        x = Conv(self.width, (3, 3), dtype=self.dtype, name='input')(x)
        for i, multiplier in enumerate(self.multipliers):
            if i:
                x = Conv(x.shape[-1], (3, 3), (2, 2), dtype=self.dtype, name=f'down_{i}')(x)
            for j in range(self.blocks):
                x = ResidualBlock(self.width * multiplier, self.dtype, name=f'block_{i}_{j}')(x)
                if self.attention and i == len(self.multipliers) - 1:
                    x = attend(x, self.dtype, f'_{i}_{j}')
        x = Middle(self.dtype, name='middle')(x)
        x = nn.silu(group_normalization(x, 'normalization', self.dtype))
        outputs = 2 * self.latent_size if self.variance else self.latent_size
        x = Conv(outputs, (3, 3), dtype=self.dtype, name='output')(x)
        x = Conv(outputs, (1, 1), dtype=self.dtype, name='moments')(x)
        if not self.variance:
            return x.astype(jnp.float32)
        mean, log_variance = jnp.split(x.astype(jnp.float32), 2, -1)
        return mean.reshape(len(x), -1), log_variance.clip(*LOG_VARIANCES).reshape(len(x), -1)


class SpatialDecoder(nn.Module):
    """Decodes codes to location [B, *shape] and log-scale. Mirrors the encoder, with one more block per level."""

    width: int
    latent_size: int
    shape: tuple[int, ...]  # [H, W, C]
    scale: float | None = 0.0  # None: the decoder returns only the location
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    dtype: Any = jnp.float32
    attention: bool = False  # after each block of the smallest side

    @nn.compact
    def __call__(
        self, z: jax.Array, condition: jax.Array | None = None, train: bool = False
    ) -> tuple[jax.Array, jax.Array] | jax.Array:
        del condition, train  # part of the common signature; this decoder is unconditional
        x = z.reshape(len(z), *grid(self.shape, self.multipliers, self.latent_size))
        x = Conv(self.latent_size, (1, 1), dtype=self.dtype, name='codes')(x)
        x = Conv(self.width * self.multipliers[-1], (3, 3), dtype=self.dtype, name='input')(x)
        x = Middle(self.dtype, name='middle')(x)
        for i, multiplier in reversed([*enumerate(self.multipliers)]):
            for j in range(self.blocks + 1):
                x = ResidualBlock(self.width * multiplier, self.dtype, name=f'block_{i}_{j}')(x)
                if self.attention and i == len(self.multipliers) - 1:
                    x = attend(x, self.dtype, f'_{i}_{j}')
            if i:
                x = DoubledConv(x.shape[-1], (3, 3), dtype=self.dtype, name=f'up_{i}')(x)
        x = nn.silu(group_normalization(x, 'normalization', self.dtype))
        location = Conv(self.shape[-1], (3, 3), dtype=self.dtype, name='output')(x).astype(jnp.float32)
        return location if self.scale is None else (location, Scale(self.scale)(location))


class Middle(nn.Module):
    """Applies a residual block, self-attention over pixels, and another residual block."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = ResidualBlock(x.shape[-1], self.dtype, name='block_0')(x)
        x = attend(x, self.dtype)
        return ResidualBlock(x.shape[-1], self.dtype, name='block_1')(x)


def attend(x: jax.Array, dtype: Any, suffix: str = '') -> jax.Array:
    """Adds normalised self-attention over pixels; the suffix tells the layers within the calling module apart."""
    h = group_normalization(x, f'normalization{suffix}', dtype)
    return x + attend_pixels(Attention(1, dtype, name=f'attention{suffix}'), h)
