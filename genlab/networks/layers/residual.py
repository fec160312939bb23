"""Residual blocks of convolutions (He et al. 2016), and parts shared by the blocks of several networks."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from genlab.networks.layers.attention import Attention
from genlab.networks.layers.convolution import Conv
from genlab.networks.layers.normalization import group_normalization


class ResidualBlock(nn.Module):
    """Adds two normalised convolutions to a shortcut: [B, H, W, C] -> [B, H, W, width]."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = x
        for j in range(2):
            h = nn.silu(group_normalization(h, f'normalization_{j}', self.dtype))
            h = Conv(self.width, (3, 3), dtype=self.dtype, name=f'convolution_{j}')(h)
        if x.shape[-1] != self.width:
            x = shortcut(x, self.width, self.dtype)
        return x + h


class Bottlenecks(nn.Module):
    """Applies residual blocks of channels width, inner, width, then a ReLU: [B, H, W, width] -> [B, H, W, width].

    A `rectified` block adds to the ReLU of its input, as an implementation with an in-place ReLU does.
    """

    width: int
    blocks: int
    inner: int
    use_bias: bool
    dtype: Any
    rectified: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        settings: dict[str, Any] = {'use_bias': self.use_bias, 'dtype': self.dtype}
        for i in range(self.blocks):
            rectified = nn.relu(x)
            x = rectified if self.rectified else x
            h = Conv(self.inner, (3, 3), name=f'inner_{i}', **settings)(rectified)
            x = x + Conv(self.width, (1, 1), name=f'outer_{i}', **settings)(nn.relu(h))
        return nn.relu(x)


def shortcut(x: jax.Array, width: int, dtype: Any, kernel_init: Callable = nn.linear.default_kernel_init) -> jax.Array:
    """Projects x [B, H, W, C] to `width` channels by a 1x1 convolution, named 'shortcut' in the calling module.

    Args:
        x: feature maps [B, H, W, C].
        width: number of output channels.
        dtype: type of the computation.
        kernel_init: initializer of the kernel.

    Returns:
        Feature maps [B, H, W, width].
    """
    return Conv(width, (1, 1), dtype=dtype, kernel_init=kernel_init, name='shortcut')(x)


def attend_pixels(attention: Attention, x: jax.Array, *context: jax.Array | None) -> jax.Array:
    """Applies attention to the pixels of x as tokens.

    Args:
        attention: the layer to apply.
        x: feature maps [B, H, W, C], usually normalised.
        context: tokens [B, L, D] and their mask [B, L] or None; omit both for self-attention.

    Returns:
        Feature maps [B, H, W, C].
    """
    return attention(x.reshape(len(x), -1, x.shape[-1]), *context).reshape(x.shape)
