"""Dense layers and convolutions with an equalised learning rate (Karras et al. 2018, section 4.1).

Parameters start as N(0, 1). The constant of He's initializer is multiplied in each call instead. Adam moves every
parameter by about the learning rate, whatever its scale. With unit-scale parameters, all layers therefore learn equally
fast. The outputs at the start are those of He's initializer.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import convolve


class EqualizedDense(nn.Module):
    """Applies a dense layer: [..., I] -> [..., features].

    With a learning-rate `multiplier` below 1, parameters start larger by its inverse and their effect is smaller by it
    (Karras et al. 2019, section 2: 0.01 in the mapping network).
    """

    features: int
    gain: float = 1.0  # standard deviation of the outputs, for inputs of unit variance
    multiplier: float = 1.0
    use_bias: bool = True
    bias: float = 0.0  # initial value
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = x.shape[-1]
        kernel = self.param('kernel', nn.initializers.normal(1 / self.multiplier), (size, self.features))
        kernel *= self.gain * self.multiplier / math.sqrt(size)
        bias = None
        if self.use_bias:
            bias = self.param('bias', nn.initializers.constant(self.bias), (self.features,)) * self.multiplier
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = x @ kernel
        return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


class EqualizedConv(nn.Module):
    """Applies `operation` with an equalised kernel of `side` x `side`: [B, H, W, I] -> [B, H', W', features]."""

    features: int
    side: int = 3
    gain: float = 1.0  # standard deviation of the outputs, for inputs of unit variance
    use_bias: bool = True
    operation: Callable[[jax.Array, jax.Array], jax.Array] = convolve  # (images, kernel [h, w, I, O]) -> images
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.side, self.side, x.shape[-1], self.features)
        kernel = self.param('kernel', nn.initializers.normal(1.0), shape)
        kernel *= self.gain / math.sqrt(math.prod(shape[:3]))
        bias = self.param('bias', nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = self.operation(x, kernel)
        return y if bias is None else y + bias[None, None, None]


def pixel_norm(x: jax.Array, epsilon: float = 1e-8) -> jax.Array:
    """Divides the channels of each pixel or latent [..., C] by their root mean square (Karras et al. 2018, 4.2)."""
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + epsilon)


def minibatch_deviation(x: jax.Array, group: int = 4) -> jax.Array:
    """Adds one channel: the mean standard deviation over the examples of a group (Karras et al. 2018, section 3).

    The discriminator then sees how much images vary. A group is a run of neighbouring examples, so it stays on one
    device. The numbers do not depend on the number of devices.

    Args:
        x: feature maps [B, H, W, C].
        group: examples per group. It must divide B, or be larger than B: then the batch is one group.

    Returns:
        Feature maps [B, H, W, C + 1].
    """
    batch, height, width, channels = x.shape
    group = min(group, batch)
    if batch % group:
        raise ValueError(
            f'groups of {group} examples do not divide the {batch} examples per device: change config.data.batch_size'
        )
    grouped = x.reshape(batch // group, group, height, width, channels).astype(jnp.float32)
    centred = grouped - grouped.mean(1, keepdims=True)
    deviation = jnp.sqrt(jnp.square(centred).mean(1) + 1e-8).mean((1, 2, 3))
    channel = jnp.broadcast_to(jnp.repeat(deviation, group)[:, None, None, None], (batch, height, width, 1))
    return jnp.concatenate([x, channel.astype(x.dtype)], -1)
