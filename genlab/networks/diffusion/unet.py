"""The U-Net of diffusion models (Ho et al. 2020, appendix B), with fields for the variants of later papers.

Improved DDPM (Nichol and Dhariwal 2021, appendix A): blocks=3, scale_shift, heads=4, attention=(16, 8), and the details
    of OpenAI's code: endpoint=False, epsilon=1e-5, stride_padding=(1, 1).
DDPM++ (Song et al. 2021, appendix H) in the version of EDM (Karras et al. 2022, appendix F): multipliers=(2, 2, 2),
    blocks=4, resample='block', attend_last, skip_scale=sqrt(1/2), label_table=False, augmentation=9.
NCSN++ (the same two papers): as DDPM++, and fourier, smooth and residual_input.
The code of DDPM, DDPM++ and NCSN++ agrees with the defaults of groups, epsilon, stride_padding and endpoint.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.attention import Attention
from genlab.networks.layers.conditioning import embed_label, label_or_null, span_or_zero
from genlab.networks.layers.convolution import Conv, DoubledConv
from genlab.networks.layers.dropout import Dropout
from genlab.networks.layers.embedding import FourierFeatures, sinusoidal
from genlab.networks.layers.normalization import group_normalization
from genlab.networks.layers.resampling import double, filtered, halve, patchify, unpatchify
from genlab.networks.layers.residual import attend_pixels, shortcut

UNIFORM = nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform')
ZEROS = nn.initializers.zeros_init()
Context = tuple[jax.Array, jax.Array | None] | None  # tokens [B, L, D] and their mask [B, L]


class UNet(nn.Module):
    """Maps images x [B, H, W, C] at noise levels [B] to float32 [B, H, W, channels], zero at initialisation.

    Level i has `width * multipliers[i]` channels at a side of H / 2^i. It has `blocks` residual blocks in the encoder
    and `blocks + 1` in the decoder. `attention` holds the sides at which blocks attend. The middle always attends.
    """

    channels: int
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    patch: int = 1  # side of the square patches moved into the channels
    attention: tuple[int, ...] = (16,)
    attend_last: bool = False  # in the decoder, attend only after the last block of a level
    heads: int = 1
    dropout: float = 0.1
    scale_shift: bool = False  # the embedding scales and shifts after normalisation; else it is added before
    resample: str = 'convolution'  # 'convolution': between blocks; 'block': within a separate residual block
    smooth: bool = False  # such a block resamples by the filter [1, 3, 3, 1] / 8; else by means and repeats
    residual_input: bool = False  # adds a downsampled copy of the input image at every encoder level
    stride_padding: tuple[int, int] = (0, 1)  # zeros before and after each axis of a convolution with stride 2
    skip_scale: float = 1.0  # factor on every sum of a residual branch and its shortcut
    groups: int = 0  # groups of each normalisation; 0: the largest divisor of C that is at most min(32, C / 4)
    epsilon: float = 1e-6  # added to the variances of normalisations
    fourier: bool = False  # embed level and span by 2 * width random Fourier features; else by width sinusoids
    endpoint: bool = True  # spacing and order of the sinusoids, see `sinusoidal`
    classes: int = 0
    # A table with one row per class and one for the null label; else EDM's layer on one-hot labels, zeros for null.
    label_table: bool = True
    augmentation: int = 0  # size of the vector that describes an augmentation
    span: bool = False
    dtype: Any = jnp.float32
    remat: bool = False  # store only block inputs, and recompute the rest for gradients

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        level: jax.Array,
        train: bool,
        labels: jax.Array | None = None,
        keys: jax.Array | None = None,
        span: jax.Array | None = None,
        context: jax.Array | None = None,
        context_mask: jax.Array | None = None,
        augmentation: jax.Array | None = None,
    ) -> jax.Array:
        """Denoises images.

        Args:
            x: images [B, H, W, C].
            level: noise levels [B].
            train: whether dropout is active.
            labels: class labels, int [B]; None means the null label `classes`.
            keys: dropout keys, one per example [B], or None.
            span: time spans [B]; None means 0.
            context: tokens [B, L, D] or None. Each self-attention is followed by cross-attention to them.
            context_mask: bool [B, L], true at valid tokens, or None.
            augmentation: descriptions of the augmentation, [B, augmentation]; None means zeros.

        Returns:
            Predictions, float32 [B, H, W, channels].
        """
        x, halvings = patchify(x, self.patch), len(self.multipliers) - 1
        side = x.shape[1]
        if any(size % 2**halvings for size in x.shape[1:3]):
            raise ValueError(
                f'images of {x.shape[1]}x{x.shape[2]} cannot be halved {halvings} times: use fewer multipliers'
            )
        embedding = nn.silu(self.embed(level, labels, span, augmentation))
        rest = embedding, keys if train else None, None if context is None else (context, context_mask)
        image = x = x.astype(self.dtype)
        x = self.convolution(self.width, name='input')(x)
        skips = [x]
        for i, width in enumerate(self.width * multiplier for multiplier in self.multipliers):
            if i:
                x = self.resampled('down', i, x, rest)
                if self.residual_input:
                    x = image = self.skip_scale * (x + self.halved_image(i, image, x.shape[-1]))
                skips.append(x)
            for j in range(self.blocks):
                skips.append(x := self.block(width, side >> i in self.attention, name=f'down_{i}_{j}')(x, *rest))
        for j in range(2):
            x = self.block(x.shape[-1], j == 0, name=f'middle_{j}')(x, *rest)
        for i, multiplier in reversed([*enumerate(self.multipliers)]):
            for j in range(self.blocks + 1):
                attend = side >> i in self.attention and (j == self.blocks or not self.attend_last)
                x = jnp.concatenate([x, skips.pop()], -1)
                x = self.block(self.width * multiplier, attend, name=f'up_{i}_{j}')(x, *rest)
            if i:
                x = self.resampled('up', i, x, rest)
        x = nn.silu(group_normalization(x, 'normalization', self.dtype, self.groups, self.epsilon))
        x = self.convolution(self.channels * self.patch**2, kernel_init=ZEROS, name='output')(x)
        return unpatchify(x, self.patch).astype(jnp.float32)

    def convolution(self, width: int, kind: type[Conv] = Conv, **settings) -> Conv:
        """Makes a 3x3 convolution of this network's type and initializer."""
        return kind(width, (3, 3), **{'dtype': self.dtype, 'kernel_init': UNIFORM} | settings)

    def block(self, width: int, attend: bool, name: str, resample: str = '') -> nn.Module:
        """Makes a residual block.

        Args:
            width: number of output channels.
            attend: whether the block has attention.
            name: name of the block.
            resample: '', 'down' or 'up'.

        Returns:
            A `Block`.
        """
        kind = nn.remat(Block) if self.remat else Block
        return kind(
            width,
            self.heads if attend else 0,
            resample,
            self.smooth,
            self.scale_shift,
            self.skip_scale,
            self.groups,
            self.epsilon,
            self.dropout,
            self.dtype,
            name=name,
        )

    def resampled(self, direction: str, i: int, x: jax.Array, rest: tuple) -> jax.Array:
        """Resamples feature maps between the sides of levels i - 1 and i. The number of channels does not change.

        Args:
            direction: 'down' to level i, or 'up' to level i - 1.
            i: number of the level with the smaller side.
            x: feature maps [B, H, W, C].
            rest: further arguments of a block.

        Returns:
            Feature maps [B, H / 2, W / 2, C] or [B, 2 H, 2 W, C].
        """
        width, name = x.shape[-1], f'{direction}_{i}'
        if self.resample == 'block':
            return self.block(width, False, name, direction)(x, *rest)
        if direction == 'down':
            return self.convolution(width, strides=(2, 2), padding=(self.stride_padding,) * 2, name=name)(x)
        return self.convolution(width, DoubledConv, name=name)(x)

    def halved_image(self, i: int, image: jax.Array, width: int) -> jax.Array:
        """Filters the image, then convolves with stride 2. The reverse order has the same result at higher cost.

        Args:
            i: level of the result.
            image: feature maps of the image, [B, 2 h, 2 w, C].
            width: number of output channels.

        Returns:
            Feature maps [B, h, w, width].
        """
        return self.convolution(width, strides=(2, 2), padding='VALID', name=f'image_{i}')(filtered(image, 2, 1))

    def embed(
        self, level: jax.Array, labels: jax.Array | None, span: jax.Array | None, augmentation: jax.Array | None
    ) -> jax.Array:
        """Embeds all conditions for the blocks.

        Args:
            level: noise levels [B].
            labels: class labels, int [B], or None.
            span: time spans [B], or None.
            augmentation: descriptions of the augmentation, [B, augmentation], or None.

        Returns:
            Embeddings, float32 [B, 4 * width].
        """
        waves = (
            FourierFeatures(2 * self.width, name='waves')
            if self.fourier
            else functools.partial(sinusoidal, width=self.width, endpoint=self.endpoint)
        )
        h = waves(level)
        width = h.shape[-1]
        if self.augmentation:
            numbers = jnp.zeros((len(level), self.augmentation)) if augmentation is None else augmentation
            h += self.dense(width, use_bias=False, name='augmentation')(numbers)
        if self.classes and not self.label_table:
            # The null label is encoded as zeros.
            one_hot = jax.nn.one_hot(label_or_null(labels, level, self.classes), self.classes)
            h += self.dense(width, name='labels')(one_hot * math.sqrt(self.classes))
        h = self.two_layers(h, 'level')
        if self.span:
            h += self.two_layers(waves(span_or_zero(span, level)), 'span')
        if self.classes and self.label_table:
            normal = nn.initializers.normal(1.0)
            h += embed_label(labels, level, self.classes, 4 * self.width, name='labels', embedding_init=normal)
        return h

    def dense(self, width: int, **settings) -> nn.Dense:
        """Makes a dense layer with this network's initializer."""
        return nn.Dense(width, kernel_init=UNIFORM, **settings)

    def two_layers(self, h: jax.Array, name: str) -> jax.Array:
        """Applies two dense layers: [B, D] -> [B, 4 * width]."""
        h = nn.silu(self.dense(4 * self.width, name=f'{name}_0')(h))
        return self.dense(4 * self.width, name=f'{name}_1')(h)


class Block(nn.Module):
    """Adds two convolutions to a shortcut: [B, H, W, C] -> [B, H', W', width].

    With `heads` above 0, self-attention over pixels and cross-attention to the context follow.
    """

    width: int
    heads: int
    resample: str  # '', 'down' or 'up': halves or doubles the side before the first convolution and in the shortcut
    smooth: bool
    scale_shift: bool
    skip_scale: float
    groups: int
    epsilon: float
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array, keys: jax.Array | None, context: Context) -> jax.Array:
        settings = {'features': self.width, 'kernel_size': (3, 3), 'dtype': self.dtype}
        resample = {'': lambda x, smooth: x, 'down': halve, 'up': double}[self.resample]
        h = nn.silu(self.normalize(x, 'normalization_0'))
        repeats = self.resample == 'up' and not self.smooth
        h, first = (h, DoubledConv) if repeats else (resample(h, self.smooth), Conv)
        h = first(**settings, kernel_init=UNIFORM, name='convolution_0')(h)
        dense = nn.Dense(self.width * (1 + self.scale_shift), dtype=self.dtype, kernel_init=UNIFORM, name='embedding')
        numbers = dense(embedding)[:, None, None]
        if self.scale_shift:
            scale, shift = jnp.split(numbers, 2, -1)
            h = self.normalize(h, 'normalization_1') * (1 + scale) + shift
        else:
            h = self.normalize(h + numbers, 'normalization_1')
        h = Dropout(self.dropout, name='dropout')(nn.silu(h), keys)
        h = Conv(**settings, kernel_init=ZEROS, name='convolution_1')(h)
        x = resample(x, self.smooth)
        if self.resample or x.shape[-1] != self.width:
            x = shortcut(x, self.width, self.dtype, UNIFORM)
        x = (x + h) * self.skip_scale
        return self.attend(x, context) if self.heads else x

    def normalize(self, x: jax.Array, name: str) -> jax.Array:
        """Applies a group normalisation named `name`: [B, H, W, C] -> [B, H, W, C]."""
        return group_normalization(x, name, self.dtype, self.groups, self.epsilon)

    def attend(self, x: jax.Array, context: Context) -> jax.Array:
        """Adds self-attention, and cross-attention if there is a context: [B, H, W, C] -> [B, H, W, C]."""
        for name, tokens in [('attention', ()), ('cross_attention', context)]:
            if tokens is not None:
                h = self.normalize(x, f'{name}_normalization')
                h = attend_pixels(Attention(self.heads, self.dtype, name=name), h, *tokens)
                x = (x + h) * self.skip_scale
        return x
