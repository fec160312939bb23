"""GigaGAN (Kang et al. 2023): a generator of images at several scales from text, an upsampler, and a discriminator.

Section 3.1 (adaptive kernels, attention), 3.2 (generator), 3.3 (discriminator, equations 6 and 7) and 3.4 (upsampler).
The layers are StyleGAN2's. Settings given as tuples have one entry per side of the feature maps: 4, 8, 16, ...
Images of several scales are tuples, the largest first.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.adversarial.progressive import channels_at
from genlab.networks.adversarial.stylegan2 import double_convolved, halve_convolved, leaky
from genlab.networks.encoders.text import TextEncoder, summary
from genlab.networks.layers.convolution import convolve
from genlab.networks.layers.equalized import EqualizedConv, EqualizedDense, minibatch_deviation
from genlab.networks.layers.equalized_attention import AttentionBlock
from genlab.networks.layers.modulated import AdaptiveConv, ModulatedConv
from genlab.networks.layers.resampling import double, doublings, halve

Images = tuple[jax.Array, ...]


def pyramid(images: jax.Array, scales: int) -> Images:
    """Returns images [B, H, W, C] at `scales` scales, the largest first. Each halves the side of the one before."""
    found = [images]
    while len(found) < scales:
        found.append(halve(found[-1]))
    return tuple(found)


def _check_sides(resolution: int, *settings: tuple[int, ...]) -> None:
    """Raises ValueError if settings have fewer entries than there are sides 4, 8, ..., resolution."""
    sides, shortest = doublings(resolution) + 1, min(map(len, settings))
    if shortest < sides:
        raise ValueError(
            f'images of side {resolution} have {sides} sides from 4 on: give blocks, kernels and attentions for each, '
            f'not for {shortest}'
        )


class Level(nn.Module):
    """Applies the layers of the generator at one side: adaptive convolutions, and attention to itself and the text.

    The first convolution may double the side. The others are residual.
    """

    width: int
    blocks: int = 1  # convolutions
    kernels: int = 1  # in the bank of each convolution
    attentions: int = 0  # blocks of attention
    doubles: bool = False
    gain: float = 0.4  # gain of residual convolutions
    attention_gain: float = 0.3
    head_width: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, w: jax.Array, context: jax.Array, mask: jax.Array, skip: jax.Array | None = None
    ) -> jax.Array:
        """Returns feature maps [B, H', W', width].

        Args:
            x: feature maps [B, H, W, C].
            w: the style [B, D].
            context: the text [B, L, D'].
            mask: whether there is a word, bool [B, L].
            skip: feature maps [B, H', W', width] of an encoder, joined after the first convolution.
        """
        for number in range(self.blocks):
            operation = double_convolved if self.doubles and number == 0 else convolve
            name = f'convolution_{number}'
            layer = AdaptiveConv(self.width, self.kernels, operation=operation, dtype=self.dtype, name=name)
            bias = self.param(f'bias_{number}', nn.initializers.zeros_init(), (self.width,))
            h = leaky(layer(x, w) + bias[None, None, None].astype(self.dtype))
            x = x + self.gain * h if number else h
            if skip is not None and number == 0:
                x = (x + skip) / math.sqrt(2)
        for number in range(self.attentions):
            settings: dict[str, Any] = dict(head_width=self.head_width, gain=self.attention_gain, dtype=self.dtype)
            x = AttentionBlock(**settings, name=f'attention_{number}')(x, context, mask)
        return x


class _Levels(nn.Module):
    """Holds the settings that generator and upsampler share."""

    resolution: int
    channels: int = 3
    base: int = 16384  # channels of a feature map, times its side; see channels_at
    most: int = 512  # channels
    blocks: tuple[int, ...] = (1, 1, 1, 1, 1)  # convolutions per side
    kernels: tuple[int, ...] = (1, 1, 2, 4, 8)  # in their banks, per side
    attentions: tuple[int, ...] = (0, 2, 2, 1, 0)  # blocks of attention per side
    gain: float = 0.4  # gain of residual convolutions
    attention_gain: float = 0.3
    head_width: int = 64  # channels per head of attention
    dtype: Any = jnp.float32

    def level(self, number: int, doubles: bool) -> Level:
        """Makes the layers at side 4 * 2^number."""
        _check_sides(self.resolution, self.blocks, self.kernels, self.attentions)
        return Level(
            channels_at(number, self.base, self.most),
            self.blocks[number],
            self.kernels[number],
            self.attentions[number],
            doubles,
            self.gain,
            self.attention_gain,
            self.head_width,
            self.dtype,
            name=f'level_{number}',
        )

    def image(
        self,
        x: jax.Array,
        w: jax.Array,
        number: int,
        below: jax.Array | None,
        kernel_init: nn.initializers.Initializer = nn.initializers.normal(1.0),
    ) -> jax.Array:
        """Returns the image of a level, float32: its part added to the doubled image of the level below."""
        settings: dict[str, Any] = {'dtype': self.dtype, 'kernel_init': kernel_init, 'name': f'image_{number}'}
        layer = ModulatedConv(self.channels, 1, demodulate=False, **settings)
        bias = self.param(f'image_bias_{number}', nn.initializers.zeros_init(), (self.channels,))
        part = (layer(x, w) + bias[None, None, None]).astype(jnp.float32)
        return part if below is None else double(below, smooth=True) + part


class Generator(_Levels):
    """Maps styles w [B, D] and a text to images [B, S, S, channels] of the sides S = resolution, ..., 8, 4."""

    @nn.compact
    def __call__(self, w: jax.Array, train: bool, context: jax.Array, mask: jax.Array) -> Images:
        """Generates images. See `Level` for the text; `train` has no effect here."""
        del train
        width = channels_at(0, self.base, self.most)
        constant = self.param('constant', nn.initializers.normal(1.0), (4, 4, width))
        x = jnp.broadcast_to(constant[None].astype(self.dtype), (w.shape[0], 4, 4, width))
        images: list[jax.Array] = []
        for number in range(doublings(self.resolution) + 1):
            x = self.level(number, doubles=number > 0)(x, w, context, mask)
            images.append(self.image(x, w, number, images[-1] if images else None))
        return tuple(images[::-1])


class Upsampler(_Levels):
    """Maps styles, a text and small images [B, s, s, channels] to images of the sides S = resolution, ..., 2 s.

    It is an asymmetric U-Net. The encoder has one convolution per side, from s down to `bottom`. The generator's levels
    go up to the resolution and join the encoder's features. Their output is added to the small image. It is zero at
    initialisation, so training begins with the doubled image.
    """

    bottom: int = 8  # smallest side

    @nn.compact
    def __call__(self, w: jax.Array, train: bool, context: jax.Array, mask: jax.Array, small: jax.Array) -> Images:
        """Generates images. `small`: images in [-1, 1]; see `Level` for the text; `train` has no effect here."""
        del train
        lowest, first, top = (doublings(side, 4) for side in (self.bottom, small.shape[1], self.resolution))
        if not lowest <= first < top:
            raise ValueError(
                f'the upsampler makes images of side {self.resolution} from sides of {self.bottom} to '
                f'{self.resolution // 2}, not {small.shape[1]}'
            )
        convolution = lambda number, name, **settings: EqualizedConv(
            channels_at(number, self.base, self.most), dtype=self.dtype, name=name, **settings
        )
        x = leaky(convolution(first, 'encode', side=1)(small.astype(self.dtype)))
        skips = {}
        for number in range(first, lowest - 1, -1):
            x = skips[number] = leaky(convolution(number, f'encode_{number}')(x))
            if number > lowest:
                x = leaky(convolution(number - 1, f'halve_{number}', operation=halve_convolved)(x))
        images = [small.astype(jnp.float32)]
        for number in range(lowest, top + 1):
            x = self.level(number, doubles=number > lowest)(x, w, context, mask, skips.get(number))
            if number > first:
                images.append(self.image(x, w, number, images[-1], nn.initializers.zeros_init()))
        return tuple(images[:0:-1])


class Discriminator(nn.Module):
    """Judges images of several scales at several depths, given captions.

    The image of each scale enters at its side, and shares the layers below. From the next side on, a predictor judges
    its features at each side, and a last one the features of the whole image: D_ij of equation 7. All scales pass a
    layer as one batch.
    """

    resolution: int
    words: int  # in the vocabulary of captions
    base: int = 16384  # channels of a feature map, times its side; see channels_at
    most: int = 512  # channels
    blocks: tuple[int, ...] = (1, 2, 2, 2, 2)  # convolutions per side, the last of which halves it
    attentions: tuple[int, ...] = (0, 1, 1, 0, 0)  # blocks of attention per side
    gain: float = 0.4  # gain of residual convolutions
    attention_gain: float = 0.3
    head_width: int = 64  # channels per head of attention
    layers: int = 4  # number of layers of each predictor
    group: int = 4  # examples per group of the minibatch standard deviation
    text_width: int = 512  # width of the encoder of captions
    text_blocks: int = 4
    text_heads: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: Images, train: bool, captions: jax.Array, sets: int = 1
    ) -> tuple[tuple[jax.Array, ...], ...]:
        """Returns the logits of each scale at each depth, the highest first: [B, K, places] each.

        Args:
            images: images of the sides resolution, resolution / 2, ..., [B, S, S, channels] each.
            train: no effect here.
            captions: K captions of each image, int32 [B, K, L].
            sets: number of batches in B, real and generated ones, whose examples must not see each other.

        Returns:
            Per scale, the predictions at the sides below its own, and last the one of the whole image (one place).
        """
        if images[0].shape[1] != self.resolution:
            raise ValueError(f'the discriminator needs images of side {self.resolution}, not {images[0].shape[1]}')
        batch, count, _ = captions.shape
        encoder = TextEncoder(self.words, self.text_width, self.text_blocks, self.text_heads, self.dtype, name='text')
        text = summary(*encoder(captions.reshape(batch * count, -1), train)).reshape(batch, count, -1)
        top = doublings(self.resolution)
        _check_sides(self.resolution, self.blocks, self.attentions)
        waiting, found = list(images), [[] for _ in images]  # type: ignore[var-annotated]
        x: jax.Array | None = None
        for number in range(top, -1, -1):
            if x is not None:
                self.predict(x, text, found, f'predict_{number}')
            if waiting:
                entry = leaky(self.convolution(number, side=1, name=f'image_{number}')(waiting.pop(0)))
                x = entry if x is None else jnp.concatenate([x, entry])
            assert x is not None
            for block in range(self.blocks[number] - 1):
                h = leaky(self.convolution(number, name=f'convolution_{number}_{block}')(x))
                x = x + self.gain * h
            for block in range(self.attentions[number]):
                settings: dict[str, Any] = dict(head_width=self.head_width, gain=self.attention_gain, dtype=self.dtype)
                x = AttentionBlock(**settings, name=f'attention_{number}_{block}')(x)
            if number:
                layer = self.convolution(number - 1, operation=halve_convolved, name=f'halve_{number}')
                x = leaky(layer(x))
        assert x is not None
        alone = x.reshape(-1, batch // sets, *x.shape[1:])  # groups are of one scale and one set
        x = jax.vmap(lambda part: minibatch_deviation(part, self.group))(alone).reshape(*x.shape[:3], -1)
        x = leaky(self.convolution(0, name='convolution')(x))
        x = leaky(EqualizedDense(x.shape[-1], dtype=self.dtype, name='dense')(x.reshape(x.shape[0], -1)))
        self.predict(x[:, None, None], text, found, 'predict')
        return tuple(map(tuple, found))

    def convolution(self, number: int, **settings: Any) -> EqualizedConv:
        """Makes a convolution with the channels of side 4 * 2^number."""
        return EqualizedConv(channels_at(number, self.base, self.most), dtype=self.dtype, **settings)

    def predict(self, x: jax.Array, text: jax.Array, found: list[list[jax.Array]], name: str) -> None:
        """Adds the logits of feature maps of the first scales [scales * B, H, W, C], given texts [B, K, D], to `found`.

        Both parts of equation 7: one that the text modulates, and one that does not see it.
        """
        (batch, count, _), (_, height, width, channels) = text.shape, x.shape
        scales, places = x.shape[0] // batch, height * width
        plain = EqualizedConv(1, 1, use_bias=False, dtype=self.dtype, name=f'{name}_plain')(x)
        shape = scales, batch, count
        h = jnp.broadcast_to(x.reshape(scales, batch, 1, height, width, channels), (*shape, height, width, channels))
        h, w = h.reshape(-1, height, width, channels), jnp.broadcast_to(text[None], (*shape, text.shape[-1]))
        w = w.reshape(-1, text.shape[-1])
        for layer in range(self.layers):
            h = leaky(ModulatedConv(channels, 1, dtype=self.dtype, name=f'{name}_{layer}')(h, w))
        h = ModulatedConv(1, 1, demodulate=False, dtype=self.dtype, name=f'{name}_logit')(h, w)
        bias = self.param(f'{name}_bias', nn.initializers.zeros_init(), ())
        logits = h.reshape(*shape, places) + plain.reshape(scales, batch, 1, places)
        for scale, part in zip(found, logits.astype(jnp.float32) + bias):
            scale.append(part)
