"""Normalisation layers, with the variables and results of flax's layers. Every variance survives a large mean.

Ioffe and Szegedy 2015, algorithms 1 and 2; Wu and He 2018, section 3. In float32, E[x^2] - E[x]^2 loses all digits
where the mean is thousands of deviations from zero. So batch and group normalisation subtract the rounded mean s first:

    c = x - s,  variance = E[c^2] - E[c]^2,  y = (c - E[c]) / sqrt(variance + epsilon).

These results do not depend on s, so no gradient passes through it. The backward pass costs what it does without s.

The compiler merges two evaluations of a network on one input only if their operations are equal. Differentiating
flax's layer prevents that, so a GAN's images would be generated twice. Group normalisation is also faster in this form
on a CPU, gradients included.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


class LayerNorm(nn.Module):
    """Normalises each vector of [..., C] by its float32 mean and variance (Ba et al. 2016, equation 3)."""

    epsilon: float = 1e-6
    dtype: Any = None
    use_scale: bool = True
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # Without the barrier, the CPU compiler adds up all residual branches again for each reduction: in DiT-S/4 a
        # training step takes 2.5 times as long.
        wide = lax.optimization_barrier(x.astype(jnp.float32))
        centred = wide - wide.mean(-1, keepdims=True)
        y = centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.epsilon)
        if self.use_scale:
            y *= self.param('scale', nn.initializers.ones_init(), (x.shape[-1],))[(None,) * (x.ndim - 1)]
        if self.use_bias:
            y += self.param('bias', nn.initializers.zeros_init(), (x.shape[-1],))[(None,) * (x.ndim - 1)]
        return y.astype(self.dtype or x.dtype)


class BatchNorm(nn.Module):
    """Normalises each channel of [..., C] by float32 statistics over all other axes and the mapped axis `axis`.

    The running variance averages the unbiased variance, n / (n - 1) times that of the batch, as PyTorch does. n counts
    the values of a channel on all devices of `axis`, or on this device if `axis` is None.

    With a label, class weights [B, classes], scale and bias are a row per class (Dumoulin et al. 2017, equation 5).
    With weights [B] of the examples, an example of weight 0 is not part of the statistics.
    """

    axis: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = None
    scale_init: Callable = nn.initializers.ones_init()
    affine: bool = True  # whether there are a scale and a bias

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, label: jax.Array | None = None, weights: jax.Array | None = None
    ) -> jax.Array:
        shape = (x.shape[-1],)
        mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, jnp.float32)
        variance = self.variable('batch_stats', 'var', jnp.ones, shape, jnp.float32)
        rows = shape if label is None else (label.shape[-1], *shape)
        scale = self.param('scale', self.scale_init, rows) if self.affine else jnp.ones(shape)
        bias = self.param('bias', nn.initializers.zeros_init(), rows) if self.affine else jnp.zeros(shape)
        if label is not None and self.affine:
            scale, bias = label @ scale, label @ bias
        centre, rest, spread = mean.value, jnp.zeros(shape), variance.value
        if train:
            axis = None if self.is_initializing() else self.axis
            average = (lambda values: values) if axis is None else (lambda values: lax.pmean(values, axis))
            share = None
            if weights is not None:
                share = average(weights.mean())
                weights = weights / jnp.maximum(share, 1e-8)  # their mean is 1
            centre, rest, spread = _moments(x, average, weights)
            if not self.is_initializing():
                count = x.size // x.shape[-1] * (1 if self.axis is None else lax.axis_size(self.axis))
                if share is None:
                    unbiased = count / max(count - 1, 1)
                else:
                    unbiased = count * share / jnp.maximum(count * share - 1, 1)
                now = centre + rest, spread * unbiased
                for running, value in zip((mean, variance), now):
                    running.value = self.momentum * running.value + (1 - self.momentum) * value
        factor = lax.rsqrt(spread + self.epsilon)
        if label is not None:
            centre, rest, factor = centre[None], rest[None], factor[None]
        y = _affine(x, centre, rest, scale * factor, bias)
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
        centre, rest, spread = _group_moments(x, self.groups)
        y = _affine(x, centre, rest, scale[None] * lax.rsqrt(spread + self.epsilon), bias[None])
        return y.astype(self.dtype or x.dtype)


class InstanceNorm(nn.Module):
    """Normalises each channel of each example of [B, ..., C] by its float32 statistics (Ulyanov et al. 2016).

    With `affine`, a scale and a bias per channel follow. It is then batch normalisation of a batch of one.
    """

    affine: bool = False
    epsilon: float = 1e-5
    dtype: Any = None
    scale_init: Callable = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        centre, rest, spread = _group_moments(x, width)
        factor, bias = lax.rsqrt(spread + self.epsilon), jnp.zeros((1, width))
        if self.affine:
            factor *= self.param('scale', self.scale_init, (width,))[None]
            bias = self.param('bias', nn.initializers.zeros_init(), (width,))[None]
        return _affine(x, centre, rest, factor, bias).astype(self.dtype or x.dtype)


# Name -> normalisation of feature maps, as networks for translation choose it: see `normalize`.
KINDS = {
    'batch': 'statistics of the batch; running ones outside of training',
    'instance': 'statistics of each image, without parameters',
    'affine_instance': 'statistics of each image, then a scale and a bias per channel',
}


def normalize(
    x: jax.Array,
    kind: str,
    train: bool,
    name: str,
    axis: str | None = None,
    dtype: Any = None,
    scale_init: Callable = nn.initializers.ones_init(),
) -> jax.Array:
    """Applies a normalisation that is chosen by name. A convolution before it needs a bias only if `biased(kind)`.

    Args:
        x: feature maps [B, ..., C].
        kind: one of KINDS.
        train: whether to normalise by the statistics of the batch; else by running ones.
        name: name of the layer within the calling module.
        axis: the mapped axis over which batch statistics are shared.
        dtype: type of the result; None keeps the type of x.
        scale_init: initialiser of the scale.

    Returns:
        Normalised feature maps [B, ..., C].
    """
    if kind == 'batch':
        return BatchNorm(axis, dtype=dtype, scale_init=scale_init, name=name)(x, train)
    if kind not in KINDS:
        raise ValueError(f'there is no normalisation {kind!r}: choose one of {", ".join(KINDS)}')
    return InstanceNorm(kind == 'affine_instance', dtype=dtype, scale_init=scale_init, name=name)(x)


def biased(kind: str) -> bool:
    """Returns whether convolutions before a normalisation have a bias: it cancels, but published sizes count it."""
    return kind == 'instance'


def group_normalization(
    x: jax.Array, name: str, dtype: Any = None, groups: int = 0, epsilon: float = 1e-6
) -> jax.Array:
    """Applies a GroupNorm, named `name` within the calling module.

    Args:
        x: feature maps [B, ..., C].
        name: name of the layer, under which its parameters are stored.
        dtype: type of the result; None keeps the type of x.
        groups: number of groups, a divisor of C; 0 means `group_count(C)`.
        epsilon: number added to the variance.

    Returns:
        Normalised feature maps [B, ..., C].
    """
    return GroupNorm(groups or group_count(x.shape[-1]), epsilon, dtype=dtype, name=name)(x)


def group_count(channels: int, most: int = 32) -> int:
    """Returns the largest divisor of `channels`, at most `most`, that leaves four channels or more per group (or 1)."""
    return next(n for n in range(max(1, min(most, channels // 4)), 0, -1) if channels % n == 0)


def _moments(
    x: jax.Array, average: Callable[[Any], Any], weights: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns s, mean - s and the variance per channel, over all devices: [C] each.

    Args:
        x: feature maps [B, ..., C].
        average: the mean over devices.
        weights: weights of the examples [B], whose mean over all devices is 1; None for equal ones.
    """
    x = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    weigh = lambda values: values
    if weights is not None:
        weigh = lambda values: values * lax.broadcast_in_dim(weights, x.shape, (0,))
    centre = average(lax.stop_gradient(weigh(x)).mean(axes))
    centred = x - _broadcast(centre, x)
    rest, square = average((weigh(centred).mean(axes), weigh(jnp.square(centred)).mean(axes)))
    return centre, rest, _variance(rest, square)


def _group_moments(x: jax.Array, groups: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns s, mean - s and the variance per group, repeated for its channels: [B, C] each."""
    x = x.astype(jnp.float32)
    axes = tuple(range(1, x.ndim - 1))

    def average(channels: jax.Array) -> jax.Array:
        """Averages [..., C] over the channels of each group."""
        grouped = channels.reshape(*channels.shape[:-1], groups, -1)
        return jnp.broadcast_to(grouped.mean(-1, keepdims=True), grouped.shape).reshape(channels.shape)

    # First over pixels, where neighbours are contiguous.
    centre = average(lax.stop_gradient(x).mean(axes))
    centred = x - _broadcast(centre, x)
    rest, square = average(jnp.stack([centred.mean(axes), jnp.square(centred).mean(axes)]))
    return centre, rest, _variance(rest, square)


def _variance(mean: jax.Array, square: jax.Array) -> jax.Array:
    """Returns the variance from the means of values near zero and of their squares. Rounding must not make it < 0."""
    return jnp.maximum(square - jnp.square(mean), 0)


def _affine(x: jax.Array, centre: jax.Array, rest: jax.Array, factor: jax.Array, bias: jax.Array) -> jax.Array:
    """Returns (x - centre - rest) * factor + bias, float32.

    Args:
        x: feature maps [B, ..., C].
        centre: estimate of the mean, [C] or [B, C], float32.
        rest: the mean minus `centre`, of the same shape.
        factor: scale divided by the deviation, of the same shape.
        bias: bias [C] or [1, C].

    Returns:
        Feature maps [B, ..., C].
    """
    return (x - _broadcast(centre, x)) * _broadcast(factor, x) + _broadcast(bias - rest * factor, x)


def _broadcast(channels: jax.Array, x: jax.Array) -> jax.Array:
    """Broadcasts channels [C] or [B, C] to every pixel of x."""
    return lax.broadcast_in_dim(channels, x.shape, (x.ndim - 1,) if channels.ndim == 1 else (0, x.ndim - 1))
