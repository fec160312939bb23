"""Pictures of samples: grids of images, scatter plots of points and sequences, drawn in numpy and saved as PNG."""

import io
import math
import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from genlab.errors import warn
from genlab.run.files import write_atomically

INK = (31, 95, 209)  # samples
SHADE = (190, 195, 203)  # the reference points and the frame
SIDE = 32  # pixels of the longer side that small images are at least enlarged to
BARS = 48  # height of the bars of a sequence in pixels


def to_uint8(images: ArrayLike) -> np.ndarray:
    """Converts images in [-1, 1] to uint8: round(127.5 (x + 1)). Values outside are clipped, NaN becomes 0.

    Args:
      images: float in [-1, 1], or uint8, which is returned unchanged; any shape.

    Returns:
      uint8, the same shape.
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind in 'biu':
        raise TypeError(f'images must be uint8 in [0, 255] or float in [-1, 1], not {images.dtype}')
    images = np.clip(np.nan_to_num(images.astype(np.float32), nan=-1.0), -1, 1)
    return np.round((images + 1) * 127.5).astype(np.uint8)


def finite(samples: ArrayLike) -> np.ndarray:
    """Returns which of the images or points [N, ...] have finite values only: bool [N]."""
    samples = np.asarray(samples)
    return np.asarray(np.isfinite(samples.astype(np.float32)).reshape(len(samples), -1).all(1))


def warn_of_lost(kept: np.ndarray, what: str) -> None:
    """Warns in one line if samples are not finite, because pictures show their NaN as black.

    Args:
      kept: which samples are `finite`, bool [N].
      what: name of the samples, for the line.
    """
    if lost := int(np.sum(~kept)):
        warn(
            f'{what}: {lost} of {len(kept)} ({lost / len(kept):.1%}) are not finite; images show NaN as black, '
            'and plots leave such points out'
        )


def grid(images: ArrayLike, columns: int | None = None, padding: int = 2, *, background: int = 255) -> np.ndarray:
    """Arranges images in a grid, row by row.

    Args:
      images: [N, H, W, C], N > 0, C 1 or 3, uint8 or float in [-1, 1].
      columns: images per row; None makes the grid as square as possible.
      padding: pixels between images; there is no outer margin.
      background: gray level of the padding, 0 to 255.

    Returns:
      uint8 [rows (H + padding) - padding, columns (W + padding) - padding, C].
    """
    images = to_uint8(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ValueError(f'images must be [N, H, W, 1 or 3] with N > 0, not {images.shape}')
    number, height, width, channels = images.shape
    columns = min(columns or math.ceil(math.sqrt(number)), number)
    rows = -(-number // columns)
    cells = np.full((rows * columns, height + padding, width + padding, channels), background, np.uint8)
    cells[:number, :height, :width] = images
    cells = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    sheet = cells.reshape(rows * (height + padding), columns * (width + padding), channels)
    return sheet[: sheet.shape[0] - padding, : sheet.shape[1] - padding]


def enlarged(images: ArrayLike) -> np.ndarray:
    """Repeats the pixels of images [N, H, W, C] smaller than SIDE, so that a person can see them: [N, k H, k W, C]."""
    images = np.asarray(images)
    times = max(1, SIDE // max(images.shape[1:3]))
    return images.repeat(times, 1).repeat(times, 2)


def points(
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    limits: tuple[ArrayLike, ArrayLike] | None = None,
    size: int = 384,
) -> np.ndarray:
    """Draws a scatter plot: samples in blue over the reference in light gray, darker where they are dense.

    Points that are not finite are left out. Points in three dimensions are projected from a fixed viewpoint.

    Args:
      samples: [N, 2] or [N, 3].
      reference: [M, 2] or [M, 3], or None.
      limits: (low, high), each a number or [2]; None takes a square around the reference (the samples if there is
        none), so that the axes stay fixed during training.
      size: pixels per side.

    Returns:
      uint8 [size, size, 3].
    """
    samples = _project(samples)
    behind = samples[:0] if reference is None else _project(reference)
    low, high = _square(behind if len(behind) else samples) if limits is None else limits
    picture = np.full((size, size, 3), 255.0)
    for cloud, colour, width in ((behind, SHADE, 1.6), (samples, INK, 1.0)):
        pixels = (cloud - low) / (np.asarray(high) - low) * (size - 1)
        cover = _cover(pixels * (1, -1) + (0, size - 1), size, width)[..., None]  # rows count downwards
        picture = cover * colour + (1 - cover) * picture
    picture[[0, -1]] = picture[:, [0, -1]] = SHADE
    return np.round(picture).astype(np.uint8)


def pairs(versions: Mapping[str, np.ndarray], columns: int = 16) -> np.ndarray:
    """Shows versions of the same examples: images below each other in bands of `columns`, points side by side.

    Versions that are equal are shown once.

    Args:
      versions: name -> images [N, H, W, C], sequences [N, T, D] or points [N, 2 or 3], e.g. the input and output of
        an autoencoder.
      columns: images per band.

    Returns:
      uint8 [H, W, C].
    """
    different: list[np.ndarray] = []
    for version in versions.values():
        if not any(np.array_equal(version, other) for other in different):
            different.append(version)
    if np.ndim(different[0]) == 2:
        return grid(
            np.stack([points(version, different[0]) for version in different]), columns=len(different), padding=8
        )
    if np.ndim(different[0]) == 3:
        different = [sequences(version, different[0]) for version in different]
    different = [enlarged(to_uint8(version)) for version in different]
    number, columns = len(different[0]), min(columns, len(different[0]))
    bands: list[np.ndarray] = []
    for first in range(0, number - number % columns, columns):
        bands += [grid(np.concatenate([version[first : first + columns] for version in different]), columns)]
    gap = np.full((8, *bands[0].shape[1:]), 255, np.uint8)
    return np.concatenate([row for band in bands for row in (band, gap)][:-1])


def sequences(samples: ArrayLike, reference: ArrayLike | None = None) -> np.ndarray:
    """Draws sequences with time to the right: bars for one value per time, else a grey map with a row per value.

    Args:
      samples: [N, T, D].
      reference: sequences [M, ..., D] whose least and largest value are the ends of the scale; None takes the samples.

    Returns:
      uint8 [N, H, W, 3 for bars or 1].
    """
    values = np.asarray(samples, np.float64)
    scale = values if reference is None else np.asarray(reference, np.float64)
    scale = scale[np.isfinite(scale)] if np.isfinite(scale).any() else np.zeros(1)
    low, high = scale.min(), scale.max()
    level = np.clip(np.nan_to_num((values - low) / max(high - low, 1e-12)), 0, 1)
    _, times, size = level.shape
    if size > 1:
        return enlarged(np.round(255 * level.swapaxes(1, 2)).astype(np.uint8)[..., None])
    # Half a pixel is drawn for the least value, so that no time looks missing.
    full = np.arange(BARS)[::-1, None] < np.maximum(level * BARS, 0.5)[:, None, :, 0]
    bars = np.where(full[..., None], np.array(INK), 255).astype(np.uint8)
    return bars.repeat(max(1, 256 // times), 2)


def picture(samples: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """Draws images [N, H, W, C] and sequences [N, T, D] as a grid, and points [N, 2 or 3] as a scatter plot.

    reference: real points to draw behind, or real sequences for the scale.
    """
    rank = np.ndim(samples)
    if rank not in (2, 3, 4):
        raise ValueError(
            f'samples must be images [N, H, W, C], sequences [N, T, D] or points [N, 2 or 3], not {np.shape(samples)}'
        )
    if rank == 2:
        return points(samples, reference)
    return grid(sequences(samples, reference) if rank == 3 else enlarged(samples))


def save_png(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Writes uint8 [H, W], [H, W, 1] or [H, W, 3] as PNG, atomically."""
    from PIL import Image

    array = np.asarray(array)
    if array.dtype != np.uint8:
        raise TypeError(f'a PNG needs uint8, not {array.dtype}: see to_uint8')
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array).save(buffer, 'PNG')
    write_atomically(path, buffer.getvalue())


def _project(cloud: ArrayLike) -> np.ndarray:
    """Projects the finite points to the plane, [N, 2 or 3] -> [n, 2]; in 3D at azimuth -70, elevation 20 degrees."""
    given = np.asarray(cloud, np.float64)
    if given.ndim != 2 or given.shape[1] not in (2, 3):
        raise ValueError(f'points must be [N, 2] or [N, 3], not {given.shape}')
    finite = given[np.isfinite(given).all(1)]
    if finite.shape[1] == 2:
        return finite
    turn, tilt = np.radians(-70), np.radians(20)
    across = (-np.sin(turn), np.cos(turn), 0)
    up = (-np.sin(tilt) * np.cos(turn), -np.sin(tilt) * np.sin(turn), np.cos(tilt))
    return finite @ np.stack([across, up], 1)


def _square(cloud: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lower left and upper right corner, [2] each, of a square around the points.

    The margin on each side is a tenth of the extent. Where one extent is more than 4 times the other, the axes have
    scales of their own, and the corners are those of a rectangle.
    """
    if not len(cloud):
        return np.full(2, -1.0), np.full(2, 1.0)
    low, high = cloud.min(0), cloud.max(0)
    extent = np.maximum(high - low, 1e-6)
    half = (extent if extent.min() > 1e-6 and extent.max() > 4 * extent.min() else extent.max()) / 2 * 1.2
    return (low + high) / 2 - half, (low + high) / 2 + half


def _cover(pixels: np.ndarray, size: int, width: float) -> np.ndarray:
    """Computes the opacity of each pixel under all points.

    A point is a disc with a soft edge. Discs are composited as transparent layers. They are smaller and more
    transparent for larger N.

    Args:
      pixels: [N, 2], (x, y) in pixels.
      size: pixels per side.
      width: diameter of a disc; 1 is about an 80th of the picture.

    Returns:
      [size, size] in [0, 1).
    """
    radius = max(width * size / 160 * min(1, (1000 / max(len(pixels), 1)) ** 0.2), 1.0)
    reach = np.arange(-math.ceil(radius) - 1, math.ceil(radius) + 2)
    pixels = pixels[((pixels > -size) & (pixels < 2 * size)).all(1)]  # avoids overflow for distant points
    x = np.round(pixels[:, :1]) + reach  # [N, K] columns around each point
    y = np.round(pixels[:, 1:]) + reach
    distance = np.hypot((x - pixels[:, :1])[:, None, :], (y - pixels[:, 1:])[:, :, None])
    paint = np.clip(radius + 0.5 - distance, 0, 1)
    inside = ((x >= 0) & (x < size))[:, None, :] & ((y >= 0) & (y < size))[:, :, None]
    place = (y[:, :, None] * size + x[:, None, :])[inside].astype(np.int64)
    coats = np.bincount(place, paint[inside], minlength=size * size).reshape(size, size)
    opacity = np.clip(width**2 * 16 / math.sqrt(max(len(pixels), 1)), 0.12, 0.9)
    return 1 - (1 - opacity) ** coats
