"""Batch and group normalisation with the variables and results of flax's layers, as a multiplication and an addition.

Ioffe and Szegedy 2015, algorithms 1 and 2; Wu and He 2018, section 3. The compiler merges two evaluations of a network
on one input only if their operations are equal. Differentiating flax's layer prevents that, so a GAN's images would be
generated twice. Group normalisation is also faster in this form on a CPU, gradients included.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


class BatchNorm(nn.Module):
    """Normalises each channel of [..., C] by float32 statistics over all other axes and the mapped axis `axis`."""

    axis: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = None
    scale_init: Callable = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shape = (x.shape[-1],)
        mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, jnp.float32)
        variance = self.variable('batch_stats', 'var', jnp.ones, shape, jnp.float32)
        scale = self.param('scale', self.scale_init, shape)
        bias = self.param('bias', nn.initializers.zeros_init(), shape)
        moments = mean.value, variance.value
        if train:
            moments = _moments(x, None if self.is_initializing() else self.axis)
            if not self.is_initializing():
                for running, now in zip((mean, variance), moments):
                    running.value = self.momentum * running.value + (1 - self.momentum) * now
        factor = scale * lax.rsqrt(moments[1] + self.epsilon)
        y = x * _broadcast(factor, x) + _broadcast(bias - moments[0] * factor, x)
        return y.astype(self.dtype or x.dtype)


class GroupNorm(nn.Module):
    """Normalises each example of [B, ..., C] by float32 statistics of `groups` runs of neighbouring channels."""

    groups: int
    epsilon: float = 1e-6
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        if width % self.groups:
            raise ValueError(f'{self.groups} groups do not divide {width} channels: choose a divisor of the channels')
        scale = self.param('scale', nn.initializers.ones_init(), (width,))
        bias = self.param('bias', nn.initializers.zeros_init(), (width,))
        mean, variance = _group_moments(x, self.groups)
        factor = scale[None] * lax.rsqrt(variance + self.epsilon)
        y = x * _broadcast(factor, x) + _broadcast(bias[None] - mean * factor, x)
        return y.astype(self.dtype or x.dtype)


def group_normalization(x: jax.Array, name: str, dtype: Any = None) -> jax.Array:
    """Applies a GroupNorm with `group_count(C)` groups, named `name` within the calling module.

    Args:
        x: feature maps [B, ..., C].
        name: name of the layer, under which its parameters are stored.
        dtype: type of the result; None keeps the type of x.

    Returns:
        Normalised feature maps [B, ..., C].
    """
    return GroupNorm(group_count(x.shape[-1]), dtype=dtype, name=name)(x)


def group_count(channels: int, most: int = 32) -> int:
    """Returns the largest divisor of `channels`, at most `most`, that leaves four channels or more per group (or 1)."""
    return next(n for n in range(max(1, min(most, channels // 4)), 0, -1) if channels % n == 0)


def _moments(x: jax.Array, axis: str | None) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance per channel in one pass, averaged over the mapped axis."""
    x = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    mean, square = x.mean(axes), jnp.square(x).mean(axes)
    if axis is not None:
        mean, square = lax.pmean((mean, square), axis)
    return mean, jnp.maximum(square - jnp.square(mean), 0)


def _group_moments(x: jax.Array, groups: int) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance per group in one pass, repeated for its channels: [B, C] each."""
    x = x.astype(jnp.float32)
    axes = tuple(range(1, x.ndim - 1))
    channels = jnp.stack([x.mean(axes), jnp.square(x).mean(axes)])  # first over pixels, where neighbours are contiguous
    grouped = channels.reshape(*channels.shape[:2], groups, -1)
    mean, square = jnp.broadcast_to(grouped.mean(-1, keepdims=True), grouped.shape).reshape(channels.shape)
    return mean, jnp.maximum(square - jnp.square(mean), 0)


def _broadcast(channels: jax.Array, x: jax.Array) -> jax.Array:
    """Broadcasts channels [C] or [B, C] to every pixel of x."""
    return lax.broadcast_in_dim(channels, x.shape, (x.ndim - 1,) if channels.ndim == 1 else (0, x.ndim - 1))
