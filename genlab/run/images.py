"""Pictures of samples: grids of images and scatters of points, drawn in numpy, saved as PNG."""

import io
import math

import numpy as np

from genlab.run.files import write_atomically

INK = (31, 95, 209)  # samples
SHADE = (190, 195, 203)  # the reference behind the samples, and the frame


def to_uint8(images):
    """Images in [-1, 1] as bytes: round(127.5 (x + 1)), what lies outside is clipped, NaN is black; bytes stay.

    images: float or uint8, any shape. Returns uint8, the same shape.
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind in 'biu':
        raise TypeError(f'images must be uint8 in [0, 255] or float in [-1, 1], not {images.dtype}')
    images = np.clip(np.nan_to_num(images.astype(np.float32), nan=-1.0), -1, 1)
    return np.round((images + 1) * 127.5).astype(np.uint8)


def grid(images, columns=None, padding=2, *, background=255):
    """Images side by side, row by row, in the nearest to a square unless `columns` is given.

    images: [N, H, W, C], C 1 or 3, uint8 or float in [-1, 1]; padding: pixels between images, none outside.
    Returns uint8 [rows (H + padding) - padding, columns (W + padding) - padding, C].
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


def points(samples, reference=None, limits=None, size=384):
    """A scatter of points: samples in ink over the reference in light grey, deeper where they are dense.

    samples, reference: [N, 2], or [N, 3], which are seen from a fixed place obliquely above; points that are not finite
    are left out. limits: (low, high) of both axes, by default a square around the reference, so that the picture stays
    put while the samples move. size: pixels. Returns uint8 [size, size, 3].
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


def pairs(versions, columns=16):
    """Versions of the same examples below each other, {name: [N, ...]}: images in bands of `columns`, points side by side.

    Versions that are equal are shown once. Returns uint8 [H, W, C]."""
    different = []
    for version in versions.values():
        if not any(np.array_equal(version, other) for other in different):
            different.append(version)
    if np.ndim(different[0]) == 2:
        return grid(
            np.stack([points(version, different[0]) for version in different]), columns=len(different), padding=8
        )
    different = [to_uint8(version) for version in different]
    number, columns = len(different[0]), min(columns, len(different[0]))
    bands = []
    for first in range(0, number - number % columns, columns):
        bands += [grid(np.concatenate([version[first : first + columns] for version in different]), columns)]
    gap = np.full((8, *bands[0].shape[1:]), 255, np.uint8)
    return np.concatenate([row for band in bands for row in (band, gap)][:-1])


def picture(samples, reference=None):
    """The picture that suits the samples: [N, H, W, C] a grid, [N, 2] and [N, 3] a scatter over the reference."""
    rank = np.ndim(samples)
    if rank not in (2, 4):
        raise ValueError(f'samples must be images [N, H, W, C] or points [N, 2 or 3], not {np.shape(samples)}')
    return points(samples, reference) if rank == 2 else grid(samples)


def save_png(path, array):
    """Write uint8 [H, W], [H, W, 1] or [H, W, 3] as PNG; a reader never sees half of it."""
    from PIL import Image

    array = np.asarray(array)
    if array.dtype != np.uint8:
        raise TypeError(f'a PNG wants uint8, not {array.dtype}: see to_uint8')
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array).save(buffer, 'PNG')
    write_atomically(path, buffer.getvalue())


def _project(cloud):
    """Finite points on the plane: [N, 2 or 3] -> [n, 2]; three dimensions are seen at azimuth -70, elevation 20."""
    cloud = np.asarray(cloud, np.float64)
    if cloud.ndim != 2 or cloud.shape[1] not in (2, 3):
        raise ValueError(f'points must be [N, 2] or [N, 3], not {cloud.shape}')
    cloud = cloud[np.isfinite(cloud).all(1)]
    if cloud.shape[1] == 2:
        return cloud
    turn, tilt = np.radians(-70), np.radians(20)
    across = (-np.sin(turn), np.cos(turn), 0)
    up = (-np.sin(tilt) * np.cos(turn), -np.sin(tilt) * np.sin(turn), np.cos(tilt))
    return cloud @ np.stack([across, up], 1)


def _square(cloud):
    """Lower left and upper right corner, [2] each, of a square around the points with a tenth to spare on each side."""
    if not len(cloud):
        return np.full(2, -1.0), np.full(2, 1.0)
    low, high = cloud.min(0), cloud.max(0)
    half = max((high - low).max() / 2, 1e-6) * 1.2
    return (low + high) / 2 - half, (low + high) / 2 + half


def _cover(pixels, size, width):
    """How much of each pixel the points cover: [N, 2] (x, y) in pixels -> [size, size] in [0, 1).

    A point is a disc with a soft edge; discs add up as layers of paint do, smaller and thinner when there are many.
    width: of the disc, 1 for about an 80th of the picture.
    """
    radius = max(width * size / 160 * min(1, (1000 / max(len(pixels), 1)) ** 0.2), 1.0)
    reach = np.arange(-math.ceil(radius) - 1, math.ceil(radius) + 2)
    pixels = pixels[((pixels > -size) & (pixels < 2 * size)).all(1)]  # no overflow where a point is far away
    x = np.round(pixels[:, :1]) + reach  # [N, K] columns around each point
    y = np.round(pixels[:, 1:]) + reach
    distance = np.hypot((x - pixels[:, :1])[:, None, :], (y - pixels[:, 1:])[:, :, None])
    paint = np.clip(radius + 0.5 - distance, 0, 1)
    inside = ((x >= 0) & (x < size))[:, None, :] & ((y >= 0) & (y < size))[:, :, None]
    place = (y[:, :, None] * size + x[:, None, :])[inside].astype(np.int64)
    coats = np.bincount(place, paint[inside], minlength=size * size).reshape(size, size)
    opacity = np.clip(width**2 * 16 / math.sqrt(max(len(pixels), 1)), 0.12, 0.9)
    return 1 - (1 - opacity) ** coats
