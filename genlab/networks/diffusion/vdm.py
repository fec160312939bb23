"""The networks of variational diffusion models: a U-Net of constant resolution, and a learned noise schedule.

Kingma et al. 2021, "Variational Diffusion Models", appendix B. Where paper and released code differ, this follows the
code. The U-Net released for CIFAR-10 (width 128, depth 32, attention only in the middle) has 30,578,179 parameters. Its
schedule, a line with learned ends, adds two: 30,578,181.
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
from genlab.networks.layers.normalization import GroupNorm
from genlab.networks.layers.residual import attend_pixels

ZEROS = nn.initializers.zeros_init()
# Exponents n of the angles 2^n pi x of the Fourier features. They resolve details that change the last bits of the
# likelihood.
OCTAVES = (7, 8)


class VariationalUNet(nn.Module):
    """Maps images [B, H, W, C] to float32 [B, H, W, C], the input plus a residual. A new network returns its input.

    The encoder has `depth` blocks and the decoder `depth + 1`, all at full resolution and `width` channels. Each block
    of the decoder receives the output of the corresponding block of the encoder. The network is called with
    (x, level [B], train, labels [B], keys, span [B]). The span is concatenated to the embedded level without embedding;
    a missing span means 0. The released code uses this input to describe the augmentation of an image. Missing labels
    mean the null label `classes`.
    """

    width: int = 128
    depth: int = 32
    classes: int = 0
    dropout: float = 0.1
    groups: int = 32
    attention: bool = False  # whether every block attends; else only the middle
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
        """Makes a block named `name`."""
        block = nn.remat(Block) if self.remat else Block
        return block(self.width, self.dropout, self.groups, attention, self.dtype, name=name)

    def _condition(self, level: jax.Array, labels: jax.Array | None, span: jax.Array | None) -> jax.Array:
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
    """Maps times t [B] in [0, 1] to gamma(t) = -log SNR(t), float32 [B], a learned schedule that never decreases.

        gamma(t) = lowest + |range| (s(t) - s(0)) / (s(1) - s(0)),
        s(t) = t + sum_k |v_k| tanh(|w_k| (2 t - 1) + b_k) / width.

    This follows appendix H. The ends are separate parameters, because the variational bound depends on them. The shape
    only changes the variance of its estimate. The initial schedule starts at `lowest`, ends at `highest`, and is within
    a thousandth of the straight line.

    With width 0, only the two ends are learned, as in the model released for CIFAR-10. The default width has 3,074
    parameters. The released wide schedule adds the sum to the line without scaling, so its initial ends are not exact.
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
        """Computes s(t), whose slope is at least 1: [B] -> [B]."""
        if not self.width:
            return t
        normal = nn.initializers.normal
        slopes = jnp.abs(self.param('slopes', normal(1.0), (self.width,)))
        places = self.param('places', normal(1.0), (self.width,))
        heights = jnp.abs(self.param('heights', normal(0.01), (self.width,)))
        bends = jnp.tanh((2 * t[:, None] - 1) * slopes[None] + places[None])
        return t + jnp.mean(heights[None] * bends, 1)


def fourier(x: jax.Array) -> jax.Array:
    """Returns sin(2^n pi x) and cos(2^n pi x) per channel for n in 7, 8 (appendix C): [..., C] -> [..., 4 C]."""
    angles = [2**octave * math.pi * x for octave in OCTAVES]
    return jnp.concatenate([wave(angle) for wave in (jnp.sin, jnp.cos) for angle in angles], -1)


def groups_of(channels: int, groups: int) -> int:
    """Returns the number of groups, at most `groups`, that divides the channels into groups of four or more.

    A group with a single channel would remove the contribution of the noise level.
    """
    return math.gcd(min(groups, max(channels // 4, 1)), channels)


def normalize(x: jax.Array, groups: int, name: str) -> jax.Array:
    """Applies group normalisation in at most `groups` groups.

    Args:
        x: feature maps [B, H, W, C].
        groups: largest number of groups.
        name: name of the layer in the calling module.

    Returns:
        Normalised feature maps [B, H, W, C].
    """
    return GroupNorm(groups_of(x.shape[-1], groups), name=name)(x)
