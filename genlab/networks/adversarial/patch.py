"""The patch discriminator of pix2pix (Isola et al. 2017, section 3.2.2 and appendix 6.1.2), also of CycleGAN and VQGAN.

Each logit judges one patch, of 70x70 pixels with three layers. With width 64, three layers and batch normalisation it
has 2,765,633 parameters for images of three channels, and 2,768,705 for six; with instance normalisation, whose
convolutions have a bias, 2,764,737 for three channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.adversarial.dcgan import normal
from genlab.networks.layers.convolution import Conv
from genlab.networks.layers.normalization import biased, normalize

WINDOW: dict[str, Any] = {'kernel_size': (4, 4), 'padding': ((1, 1), (1, 1)), 'kernel_init': normal()}


class PatchDiscriminator(nn.Module):
    """Maps images [B, H, W, C] in [-1, 1] to logits of patches, float32 [B, h, w], positive for real ones.

    `layers` convolutions halve the side, h = H / 2^layers - 2. `normalization` is one of `normalization.KINDS`. `axis`
    names the mapped axis over which batch statistics are shared.
    """

    width: int = 64
    layers: int = 3
    normalization: str = 'batch'
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        if min(images.shape[1:3]) < 3 * 2**self.layers:
            raise ValueError(
                f'a patch discriminator of {self.layers} layers needs a side of {3 * 2**self.layers}, not '
                f'{min(images.shape[1:3])}: use fewer layers'
            )
        x = nn.leaky_relu(Conv(self.width, strides=(2, 2), dtype=self.dtype, name='input', **WINDOW)(images), 0.2)
        for i in range(1, self.layers + 1):
            strides, width = (2, 2) if i < self.layers else (1, 1), self.width * min(2**i, 8)
            settings: dict[str, Any] = {'use_bias': biased(self.normalization), 'name': f'convolution_{i}', **WINDOW}
            x = Conv(width, strides=strides, dtype=self.dtype, **settings)(x)
            name, scale = f'normalization_{i}', normal(mean=1.0)
            x = normalize(x, self.normalization, train, name, self.axis, self.dtype, scale)
            x = nn.leaky_relu(x, 0.2)
        return Conv(1, dtype=self.dtype, name='output', **WINDOW)(x).astype(jnp.float32)[..., 0]
