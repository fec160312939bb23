"""The residual network of CycleGAN (Zhu et al. 2017, appendix 7.2; Johnson et al. 2016).

Its blocks are at a quarter of the side. With width 64, nine blocks, instance normalisation and images of three channels
it has 11,378,179 parameters; with six blocks, as for images of 128x128, 7,837,699.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.adversarial.dcgan import normal
from genlab.networks.layers.convolution import Conv, ConvTranspose
from genlab.networks.layers.normalization import biased, normalize

HALVINGS = 2
HALVED: dict[str, Any] = {'kernel_size': (3, 3), 'strides': (2, 2), 'padding': ((1, 1), (1, 1))}
DOUBLED: dict[str, Any] = {'kernel_size': (3, 3), 'strides': (2, 2), 'padding': ((1, 2), (1, 2))}
MIRRORED: dict[str, Any] = {'padding': 'REFLECT'}


class ResNet(nn.Module):
    """Maps images [B, H, W, I] to images [B, H, W, channels] in [-1, 1], float32. 4 must divide the sides.

    Convolutions of stride 1 pad by reflection. `normalization` is one of `normalization.KINDS`. `axis` names the mapped
    axis over which batch statistics are shared.
    """

    channels: int = 3
    width: int = 64
    blocks: int = 9
    normalization: str = 'instance'
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Translates images. `keys` are ignored: this network has no noise."""
        if any(side % 2**HALVINGS or side < 8 for side in images.shape[1:3]):
            raise ValueError(
                f'this network needs sides of at least 8 that {2**HALVINGS} divides, not '
                f'{images.shape[1]}x{images.shape[2]}: choose another resolution'
            )
        bias = biased(self.normalization)
        settings: dict[str, Any] = {'dtype': self.dtype, 'kernel_init': normal()}

        def normalized(x: jax.Array, name: str) -> jax.Array:
            return normalize(x, self.normalization, train, name, self.axis, self.dtype, normal(mean=1.0))

        x = images.astype(self.dtype)
        x = Conv(self.width, (7, 7), use_bias=bias, name='input', **MIRRORED, **settings)(x)
        x = nn.relu(normalized(x, 'input_normalization'))
        for i in range(HALVINGS):
            x = Conv(self.width * 2 ** (i + 1), use_bias=bias, name=f'down_{i}', **HALVED, **settings)(x)
            x = nn.relu(normalized(x, f'down_normalization_{i}'))
        width = x.shape[-1]
        for i in range(self.blocks):
            h = Conv(width, (3, 3), use_bias=bias, name=f'convolution_{i}_0', **MIRRORED, **settings)(x)
            h = nn.relu(normalized(h, f'normalization_{i}_0'))
            h = Conv(width, (3, 3), use_bias=bias, name=f'convolution_{i}_1', **MIRRORED, **settings)(h)
            x += normalized(h, f'normalization_{i}_1')
        for i in reversed(range(HALVINGS)):
            x = ConvTranspose(self.width * 2**i, use_bias=bias, name=f'up_{i}', **DOUBLED, **settings)(x)
            x = nn.relu(normalized(x, f'up_normalization_{i}'))
        x = Conv(self.channels, (7, 7), name='output', **MIRRORED, **settings)(x)
        return nn.tanh(x).astype(jnp.float32)
