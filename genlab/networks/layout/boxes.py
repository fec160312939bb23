"""Bilinear sampling of boxes: features aligned to boxes, and masks placed in boxes.

Boxes are (x0, y0, x1, y1) in units of the image's sides. Rows and columns are resampled one after the other, so a box
is two small matrices of weights. Their products are fast on every device, and no gradient needs a scatter.
"""

import jax
import jax.numpy as jnp
import numpy as np


def align(features: jax.Array, boxes: jax.Array, size: int, *, offset: float = 0.0) -> jax.Array:
    """Averages the features of each box in size x size bins: RoIAlign (He et al. 2017, section 3).

    A side of a bin has as many samples as it has cells, rounded up. A side of a box counts as one cell at least. No
    gradient passes to the boxes where the number of samples changes.

    Args:
        features: feature maps [B, H, W, C].
        boxes: boxes [B, M, 4].
        size: number of bins per side.
        offset: place of the first cell's centre, in cells from the border of the image. It is 0 in the paper's code;
            0.5 places cells as images do.

    Returns:
        Features [B, M, size, size, C].
    """
    _, height, width, _ = features.shape
    rows = _bins(boxes[..., 1] * height - offset, boxes[..., 3] * height - offset, size, height)
    columns = _bins(boxes[..., 0] * width - offset, boxes[..., 2] * width - offset, size, width)
    lines = jnp.einsum('bmyh,bhwc->bmywc', rows.astype(features.dtype), features)
    return jnp.einsum('bmxw,bmywc->bmyxc', columns.astype(features.dtype), lines)


def _bins(low: jax.Array, high: jax.Array, size: int, cells: int) -> jax.Array:
    """Returns the weight of each cell in each bin.

    Args:
        low: start of each box, in cells [B, M].
        high: its end [B, M].
        size: number of bins.
        cells: number of cells.

    Returns:
        Weights [B, M, size, cells]. A bin's weights sum to 1 inside the map.
    """
    most = max(-(-cells // size), 1)  # samples per bin of a box as large as the map
    length = jnp.maximum(high - low, 1.0) / size
    samples = jnp.clip(jnp.ceil(length), 1, most)[..., None, None]
    bins, numbers = jnp.arange(size).reshape(1, 1, -1, 1), jnp.arange(most).reshape(1, 1, 1, -1)
    places = low[..., None, None] + (bins + (numbers + 0.5) / samples) * length[..., None, None]
    inside = (numbers < samples) & (places >= -1) & (places <= cells)
    weights = _tents(jnp.clip(places, 0, cells - 1), cells) * inside[..., None]
    return weights.sum(-2) / samples


def _tents(places: jax.Array, cells: int) -> jax.Array:
    """Returns the weights of linear interpolation between cells: places [...] -> [..., cells]."""
    centres = jnp.arange(cells).reshape((1,) * places.ndim + (-1,))
    return jnp.maximum(1 - jnp.abs(places[..., None] - centres), 0)


def place(masks: jax.Array, boxes: jax.Array, side: int, sampled: int = 64) -> jax.Array:
    """Stretches a mask over its box, in a map of the whole image: [B, M, S, S] -> [B, side, side, M].

    The corner cells of a mask lie in the corners of its box. A map is sampled at `sampled` places per side from border
    to border, then resized bilinearly, as in the paper's code. It is 0 outside of the box and a cell around it.

    Args:
        masks: masks [B, M, S, S].
        boxes: boxes [B, M, 4].
        side: cells per side of the result.
        sampled: places per side at which the mask is sampled.

    Returns:
        Maps [B, side, side, M].
    """
    across = jnp.linspace(0, 1, sampled).reshape(1, 1, -1)
    resize = jnp.asarray(resizing(sampled, side))

    def weights(low: jax.Array, high: jax.Array) -> jax.Array:
        places = (across - low[..., None]) / jnp.maximum(high - low, 1e-6)[..., None] * (masks.shape[-1] - 1)
        return jnp.einsum('rs,bmsc->bmrc', resize, _tents(places, masks.shape[-1]))

    rows, columns = weights(boxes[..., 1], boxes[..., 3]), weights(boxes[..., 0], boxes[..., 2])
    lines = jnp.einsum('bmyr,bmrc->bmyc', rows.astype(masks.dtype), masks)
    return jnp.einsum('bmxc,bmyc->byxm', columns.astype(masks.dtype), lines)


def resizing(old: int, new: int) -> np.ndarray:
    """Returns the matrix [new, old] that resizes a line linearly, without a filter, and repeats its ends."""
    places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(old)), 0).astype(np.float32)
