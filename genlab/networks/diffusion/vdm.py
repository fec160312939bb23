"""The networks of variational diffusion models: a U-Net that keeps its resolution, and a noise schedule that learns.

Kingma et al. 2021, "Variational Diffusion Models", appendix B (the released code where the two differ). As released for
CIFAR-10 (width 128, depth 32, no attention but in the middle) the U-Net has 30,578,179 parameters, and the released schedule,
a line with learned ends, two more: 30,578,181.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.attention import Attention
from genlab.networks.layers.conditioning import embed_label, span_or_zero
from genlab.networks.layers.convolution import Conv
from genlab.networks.layers.dropout import Dropout
from genlab.networks.layers.embedding import sinusoidal
from genlab.networks.layers.residual import attend_pixels

ZEROS = nn.initializers.zeros_init()
# Angles 2^n pi x of the Fourier features: they resolve the fine detail that the last bits of the likelihood depend on.
OCTAVES = (7, 8)


class VariationalUNet(nn.Module):
    """Images [B, H, W, C] -> float32 [B, H, W, C], the input plus what is learned about it: a fresh network returns its input.

    `depth` blocks lead down and depth + 1 up, all at full resolution and `width`; each block up sees what its opposite made.
    Called with (x, level [B], train, labels [B], keys, span [B]). A span is a number that is joined to the embedded level as
    it is: 0 without; the released code says so how an image was augmented. No labels are the class `classes`, "none".
    """

    width: int = 128
    depth: int = 32
    classes: int = 0
    dropout: float = 0.1
    groups: int = 32
    attention: bool = False  # after every block; else in the middle only
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        level: jax.Array,
        train: bool,
        labels: jax.Array | None = None,
        keys: jax.Array | None = None,
        span: jax.Array | None = None,
    ) -> jax.Array:
        condition, keys = self._condition(level, labels, span), keys if train else None
        h = Conv(self.width, (3, 3), dtype=self.dtype, name='input')(jnp.concatenate([x, fourier(x)], -1))
        skips = [h]
        for layer in range(self.depth):
            h = self._block(f'down_{layer}', self.attention)(h, condition, keys)
            skips.append(h)
        h = self._block('middle', True)(h, condition, keys)
        h = self._block('middle_late', False)(h, condition, keys)
        for layer in range(self.depth + 1):
            h = self._block(f'up_{layer}', self.attention)(jnp.concatenate([h, skips.pop()], -1), condition, keys)
        h = nn.silu(normalize(h, self.groups, 'output_norm'))
        return x + Conv(x.shape[-1], (3, 3), kernel_init=ZEROS, dtype=jnp.float32, name='output')(h)

    def _block(self, name: str, attention: bool) -> nn.Module:
        block = nn.remat(Block) if self.remat else Block
        return block(self.width, self.dropout, self.groups, attention, self.dtype, name=name)

    def _condition(self, level, labels, span) -> jax.Array:
        """Embeds all conditions as one vector, float32 [B, 4 * width]."""
        h = jnp.concatenate([sinusoidal(level, self.width), span_or_zero(span, level)[:, None]], 1)
        h = nn.silu(nn.Dense(4 * self.width, name='level')(h))
        h = nn.Dense(4 * self.width, name='level_output')(h)
        if self.classes:
            h += embed_label(labels, level, self.classes, 4 * self.width)
        return nn.silu(h)


class Block(nn.Module):
    """Applies two convolutions with a condition between them, a shortcut, and optionally self-attention.

    x [B, H, W, C], condition [B, D], keys [B] or None -> [B, H, W, width].
    """

    width: int
    dropout: float
    groups: int
    attention: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, keys: jax.Array | None) -> jax.Array:
        settings = {'dtype': self.dtype}
        h = nn.silu(normalize(x, self.groups, 'norm'))
        h = Conv(self.width, (3, 3), name='convolution', **settings)(h)
        h += nn.Dense(self.width, use_bias=False, kernel_init=ZEROS, name='condition', **settings)(condition)[
            :, None, None
        ]
        h = Dropout(self.dropout, name='dropout')(nn.silu(normalize(h, self.groups, 'late_norm')), keys)
        h = Conv(self.width, (3, 3), kernel_init=ZEROS, name='late_convolution', **settings)(h)
        x = h + (x if x.shape[-1] == self.width else nn.Dense(self.width, name='shortcut', **settings)(x))
        if self.attention:
            h = normalize(x, self.groups, 'attention_norm')
            x += attend_pixels(Attention(1, self.dtype, name='attention'), h)
        return x


class MonotoneSchedule(nn.Module):
    """A noise schedule that learns: times t [B] in [0, 1] -> gamma(t) = -log SNR(t), float32 [B], never falling.

    gamma(t) = lowest + |range| (s(t) - s(0)) / (s(1) - s(0)),  s(t) = t + sum_k |v_k| tanh(|w_k| (2 t - 1) + b_k) / width

    (after appendix H: the ends, which the variational bound depends on, are parameters of their own beside the shape, which
    only changes the variance of its estimate). It starts within a thousandth of the straight line, at `lowest` and
    `highest` exactly. A width of 0 has the two ends alone, as released for CIFAR-10; the released wide one adds the sum to
    the line unscaled, so that it starts near, not at, its ends. Wide: 3,074 parameters.
    """

    lowest: float = -13.3
    highest: float = 5.0
    width: int = 1024

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        constant = nn.initializers.constant
        lowest = self.param('lowest', constant(self.lowest), ())
        extent = self.param('range', constant(self.highest - self.lowest), ())
        ends = jnp.array([0.0, 1.0])
        low, high, times = jnp.split(self._shape(jnp.concatenate([ends, t.astype(jnp.float32)])), [1, 2])
        return lowest + jnp.abs(extent) * (times - low) / (high - low)

    def _shape(self, t: jax.Array) -> jax.Array:
        """s(t), whose slope is at least 1: [B] -> [B]."""
        if not self.width:
            return t
        normal = nn.initializers.normal
        slopes = jnp.abs(self.param('slopes', normal(1.0), (self.width,)))
        places = self.param('places', normal(1.0), (self.width,))
        heights = jnp.abs(self.param('heights', normal(0.01), (self.width,)))
        bends = jnp.tanh((2 * t[:, None] - 1) * slopes[None] + places[None])
        return t + jnp.mean(heights[None] * bends, 1)


def fourier(x: jax.Array) -> jax.Array:
    """Returns sin(2^n pi x) and cos(2^n pi x) of every channel for n in 7, 8 (appendix C): [..., C] -> [..., 4 C]."""
    angles = [2**octave * math.pi * x for octave in OCTAVES]
    return jnp.concatenate([wave(angle) for wave in (jnp.sin, jnp.cos) for angle in angles], -1)


def groups_of(channels: int, groups: int) -> int:
    """Returns the greatest common divisor of the channels and at most `groups` groups of four channels or more.

    A group with a single channel would remove what the noise level adds to it.
    """
    return math.gcd(min(groups, max(channels // 4, 1)), channels)


def normalize(x: jax.Array, groups: int, name: str) -> jax.Array:
    """Applies flax's group normalisation to x [B, H, W, C] in at most `groups` groups; the layer is named `name`.

    `layers.normalization.GroupNorm` differs from it by 1e-5 where channel means are three standard deviations from zero.
    """
    return nn.GroupNorm(groups_of(x.shape[-1], groups), dtype=x.dtype, name=name)(x)
