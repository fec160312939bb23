"""The U-Net of pix2pix (Isola et al. 2017, section 3.2.1 and appendix 6.1.1): an encoder and a decoder with skips.

With width 64 and depth 8, batch or affine instance normalisation and images of three channels it is the U-Net-256 of
54,413,955 parameters. The dropout of its first three decoder layers is the only noise, and stays at test time.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.adversarial.dcgan import normal
from genlab.networks.layers.convolution import STRIDE_TWO, Conv, ConvTranspose
from genlab.networks.layers.dropout import Dropout
from genlab.networks.layers.normalization import biased, normalize

NOISY = 3  # decoder layers with dropout


class UNet(nn.Module):
    """Maps images [B, H, W, I] to images [B, H, W, channels] in [-1, 1], float32.

    `depth` convolutions halve the side, so 2^depth must divide it. Level i has width * 2^i channels, at most 8 times
    the width. `normalization` is one of `normalization.KINDS`; neither the first nor the innermost convolution has it.
    `axis` names the mapped axis over which batch statistics are shared. Three decoder layers have dropout, from the
    innermost on, or after `skipped` layers.
    """

    channels: int = 3
    width: int = 64
    depth: int = 8
    dropout: float = 0.5
    normalization: str = 'batch'
    axis: str | None = None
    dtype: Any = jnp.float32
    skipped: int = 0  # innermost decoder layers without dropout: 1 in the PyTorch code of the authors

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Translates images. `keys`: of the dropout, one per example; None turns it off."""
        if any(side % 2**self.depth for side in images.shape[1:3]):
            raise ValueError(
                f'a U-Net of depth {self.depth} needs sides that {2**self.depth} divides, not '
                f'{images.shape[1]}x{images.shape[2]}: use fewer levels'
            )
        settings: dict[str, Any] = {'use_bias': biased(self.normalization), 'dtype': self.dtype, **STRIDE_TWO}
        settings |= {'kernel_init': normal()}
        widths = [self.width * min(2**i, 8) for i in range(self.depth)]
        x, skips = images.astype(self.dtype), []
        for i, width in enumerate(widths):
            x = Conv(width, name=f'down_{i}', **settings)(x if i == 0 else nn.leaky_relu(x, 0.2))
            if 0 < i < self.depth - 1:
                x = self.normalized(x, train, f'down_normalization_{i}')
            skips.append(x)
        for i in reversed(range(self.depth - 1)):
            x = ConvTranspose(widths[i], name=f'up_{i}', **settings)(nn.relu(x))
            x = self.normalized(x, train, f'up_normalization_{i}')
            if 0 <= self.depth - 2 - i - self.skipped < NOISY:
                x = Dropout(self.dropout, name=f'dropout_{i}')(x, keys)
            x = jnp.concatenate([skips[i], x], -1)
        x = ConvTranspose(self.channels, name='output', **(settings | {'use_bias': True}))(nn.relu(x))
        return nn.tanh(x).astype(jnp.float32)

    def normalized(self, x: jax.Array, train: bool, name: str) -> jax.Array:
        return normalize(x, self.normalization, train, name, self.axis, self.dtype, normal(mean=1.0))
