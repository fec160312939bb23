"""Discriminator of LostGAN (Sun and Wu 2019): a logit for the image, and one for each object in its box."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.resampling import halve
from genlab.networks.layers.spectral import SpectralConv, SpectralDense, SpectralHalvedConv
from genlab.networks.layout.boxes import align

BINS = 8  # per side of an object
LARGE = 0.5  # a box with a side of at least this, in units of the image's, is read from the coarser features


class Discriminator(nn.Module):
    """Maps images [B, R, R, C] with their layout to logits [B] of the images and [B, M] of the objects.

    The logit of an object adds the projection of its features onto the embedding of its class. The logit of an absent
    object has no meaning.
    """

    classes: int
    width: int = 64
    halvings: tuple[bool, ...] = (True, True, True, True, True, False)  # blocks; those that halve a side above 4
    taps: tuple[int, ...] = (1, 2)  # blocks whose outputs objects are read from: one, or a fine and a coarse one
    total: bool = True  # whether the features of an image are summed over pixels, or averaged
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool, boxes: jax.Array, box_classes: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Judges images.

        Args:
            images: images [B, R, R, C] in [-1, 1].
            train: whether power iterations move.
            boxes: boxes [B, M, 4], (x0, y0, x1, y1) in [0, 1].
            box_classes: classes of the objects, int [B, M]; -1 if absent.

        Returns:
            Logits of the images [B], and of the objects [B, M].
        """
        x, tapped = images.astype(self.dtype), []
        for i, halves in enumerate(self.halvings):
            x = self.block(x, self.width * min(2**i, 16), halves and x.shape[1] > 4, f'block_{i}', train, first=i == 0)
            if i in self.taps:
                tapped.append(x)
        features = nn.relu(x).astype(jnp.float32)
        features = features.sum((1, 2)) if self.total else features.mean((1, 2))
        image = SpectralDense(1, name='image')(features, train)[:, 0]

        x = self.aligned(tapped, boxes, train)
        x = self.block(x.reshape(-1, *x.shape[2:]), 2 * x.shape[-1], True, 'object_block', train)
        features = nn.relu(x).astype(jnp.float32).sum((1, 2)).reshape(*box_classes.shape, -1)
        classes = jax.nn.one_hot(box_classes, self.classes)
        embedded = SpectralDense(features.shape[-1], use_bias=False, name='label')(classes, train)
        logits = SpectralDense(1, name='object')(features, train)[..., 0]
        return image, logits + (features * embedded).sum(-1)

    def aligned(self, tapped: list[jax.Array], boxes: jax.Array, train: bool) -> jax.Array:
        """Reads the features of each object [B, M, 8, 8, D] from the feature maps of the taps [B, h, w, C]."""
        if len(tapped) == 1:
            return align(tapped[0], boxes, BINS)
        fine, coarse = tapped
        fine = self.block(fine, coarse.shape[-1], False, 'object_fine', train)
        # Both scales share one block. A second call of a module with one name shares its parameters.
        shared = Block(2 * coarse.shape[-1], False, dtype=self.dtype, name='object_shared')
        small, large = (align(shared(x, train), boxes, BINS) for x in (fine, coarse))
        sides = boxes[..., 2:] - boxes[..., :2]
        return jnp.where((sides.max(-1) >= LARGE)[..., None, None, None], large, small)

    def block(self, x: jax.Array, width: int, halves: bool, name: str, train: bool, first: bool = False) -> jax.Array:
        """Applies a residual block."""
        return Block(width, halves, first, self.dtype, name=name)(x, train)


class Block(nn.Module):
    """Applies a residual block of two convolutions; the first one of a network does not rectify its input."""

    width: int
    halves: bool
    first: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        h = SpectralConv(self.width, dtype=self.dtype, name='convolution_0')(x if self.first else nn.relu(x), train)
        second = SpectralHalvedConv if self.halves else SpectralConv
        h = second(self.width, dtype=self.dtype, name='convolution_1')(nn.relu(h), train)
        if self.halves:
            x = halve(x)  # first: a 1x1 convolution commutes with the mean
        if x.shape[-1] != self.width or self.halves or self.first:
            x = SpectralConv(self.width, (1, 1), dtype=self.dtype, name='shortcut')(x, train)
        return x + h
