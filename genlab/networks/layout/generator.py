"""Generator of LostGAN (Sun and Wu 2019): objects of given classes in given boxes, each with its own latent."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.normalization import BatchNorm
from genlab.networks.layers.resampling import double, doublings
from genlab.networks.layers.spectral import SpectralConv, SpectralDense, SpectralDoubledConv
from genlab.networks.layout.boxes import place, resizing

MASK = 16  # cells per side of a mask


class IslaNorm(nn.Module):
    """Normalises over the batch; the objects at a pixel give its scale and shift (ISLA-Norm in the paper).

    An object's style gives a scale and a shift per channel. A pixel takes their means, weighted by the masks. Where no
    object is, the scale is 1 and the shift 0.
    """

    axis: str | None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, styles: jax.Array, masks: jax.Array, train: bool) -> jax.Array:
        """Normalises x.

        Args:
            x: feature maps [B, H, W, C].
            styles: styles of the objects [B, M, D].
            masks: share of each pixel that belongs to an object [B, H, W, M]; 0 for an absent one.
            train: whether to normalise by the statistics of the batch.

        Returns:
            Feature maps [B, H, W, C].
        """
        channels = x.shape[-1]
        y = BatchNorm(self.axis, affine=False, dtype=self.dtype, name='normalization')(x, train)
        layers = (SpectralDense(channels, dtype=self.dtype, name=name)(styles, train) for name in ('scale', 'shift'))
        shares = masks / (masks.sum(-1, keepdims=True) + 1e-6)
        both = jnp.einsum('bhwm,bmc->bhwc', shares.astype(self.dtype), jnp.concatenate([*layers], -1))
        return y * (1 + both[..., :channels]) + both[..., channels:]


class MaskRegression(nn.Module):
    """Maps styles [N, D] of objects to masks [N, 16, 16] in (0, 1).

    Objects of weight 0 in `present` [N] are not part of the statistics.
    """

    width: int
    axis: str | None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, styles: jax.Array, present: jax.Array, train: bool) -> jax.Array:
        x = SpectralDense(16 * self.width, dtype=self.dtype, name='dense')(styles, train)
        x = x.reshape(-1, 4, 4, self.width)
        for i in range(3):
            if i:
                x = _twice(x)
            x = SpectralConv(self.width, dtype=self.dtype, name=f'convolution_{i}')(x, train)
            x = BatchNorm(self.axis, dtype=self.dtype, name=f'normalization_{i}')(x, train, weights=present)
            x = nn.relu(x)
        x = SpectralConv(1, (1, 1), dtype=self.dtype, name='mask')(x, train)
        return nn.sigmoid(x[..., 0].astype(jnp.float32))


def _twice(x: jax.Array) -> jax.Array:
    """Doubles the side of x [N, S, S, C] bilinearly; borders are repeated."""
    matrix = jnp.asarray(resizing(x.shape[1], 2 * x.shape[1]), x.dtype)
    return jnp.einsum('yr,nrcf,xc->nyxf', matrix, x, matrix)


class Generator(nn.Module):
    """Generates images [B, R, R, C] in [-1, 1] from a layout, with one residual block per doubling from 4x4.

    Widths are `width` at the full resolution, and twice that per halving, up to 16 times. An object of class -1 is
    absent: it changes neither the image nor any statistic.
    """

    resolution: int
    classes: int
    channels: int = 3
    width: int = 64
    embedding: int = 180  # size of the embedding of a class
    mask_width: int = 128
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, z: jax.Array, train: bool, objects: jax.Array, boxes: jax.Array, box_classes: jax.Array
    ) -> jax.Array:
        """Generates images.

        Args:
            z: latents of the images [B, D].
            train: whether to normalise by the statistics of the batch.
            objects: latents of the objects [B, M, L].
            boxes: boxes [B, M, 4], (x0, y0, x1, y1) in [0, 1].
            box_classes: classes of the objects, int [B, M]; -1 if absent.

        Returns:
            Images [B, R, R, C].
        """
        batch, slots = box_classes.shape
        present = (box_classes >= 0).astype(jnp.float32)
        table = nn.Embed(self.classes, self.embedding, embedding_init=nn.initializers.normal(1.0), name='label')
        styles = jnp.concatenate([objects, table(jnp.maximum(box_classes, 0))], -1)
        regression = MaskRegression(self.mask_width, self.axis, self.dtype, name='masks')
        masks = regression(styles.reshape(batch * slots, -1), present.reshape(-1), train)
        masks = masks.reshape(batch, slots, MASK, MASK) * present[..., None, None]

        blocks = doublings(self.resolution)
        widths = [self.width * min(2**i, 16) for i in range(blocks, -1, -1)]
        x = SpectralDense(16 * widths[0], dtype=self.dtype, name='dense')(z, train).reshape(batch, 4, 4, widths[0])
        below = place(masks, boxes, 4)
        for i, width in enumerate(widths[1:]):
            above = place(masks, boxes, 2 * x.shape[1])
            h = nn.relu(IslaNorm(self.axis, self.dtype, name=f'normalization_{i}_0')(x, styles, below, train))
            h = SpectralDoubledConv(width, dtype=self.dtype, name=f'convolution_{i}_0')(h, train)
            h = nn.relu(IslaNorm(self.axis, self.dtype, name=f'normalization_{i}_1')(h, styles, above, train))
            h = SpectralConv(width, dtype=self.dtype, name=f'convolution_{i}_1')(h, train)
            # The shortcut doubles last: a 1x1 convolution commutes with the repetition.
            x = h + double(SpectralConv(width, (1, 1), dtype=self.dtype, name=f'shortcut_{i}')(x, train))
            below = above
        x = nn.relu(BatchNorm(self.axis, dtype=self.dtype, name='normalization')(x, train))
        x = SpectralConv(self.channels, dtype=self.dtype, name='image')(x, train)
        return nn.tanh(x).astype(jnp.float32)
