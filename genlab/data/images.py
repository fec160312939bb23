"""Converts any image file or array to uint8 [R, R, C] on the host, one image at a time (numpy and Pillow)."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's convert('L')


def decode(data: bytes | IO[bytes], resolution: int, channels: int) -> np.ndarray:
    """Decodes an image file.

    Applies the EXIF orientation, composites transparent pixels over white, converts the channels, crops to the central
    square and resizes.

    Args:
        data: the bytes of the file, or the file opened in binary mode.
        resolution: R, pixels per side.
        channels: C, 1 or 3.

    Returns:
        uint8 [R, R, C].
    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
        flat = plain(ImageOps.exif_transpose(image), channels)
    return np.asarray(fit(flat, resolution)).reshape(resolution, resolution, channels)


def plain(image: Picture, channels: int) -> Picture:
    """Converts a Pillow image of any mode -> mode L (1 channel) or RGB (3 channels)."""
    from PIL import Image

    if image.mode[0] in 'IF':
        image = Image.fromarray(eight_bits(np.asarray(image)))
    if 'A' in image.getbands() or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    if image.mode not in ('L', 'RGB'):
        image = image.convert('RGB')
    return image.convert('L' if channels == 1 else 'RGB')


def eight_bits(array: np.ndarray) -> np.ndarray:
    """Converts grey values of 16-bit integers (0..65535) or floats (0..1) -> uint8 0..255, of the same shape."""
    scale = 255 if np.issubdtype(array.dtype, np.floating) else 1 / 257
    return np.clip(np.rint(array * scale), 0, 255).astype(np.uint8)


def fit(image: Picture, resolution: int) -> Picture:
    """Crops a Pillow image to its central square and resizes it to resolution x resolution.

    Pillow's bilinear filter is antialiased: when it shrinks an image, its triangle widens to cover all source pixels.
    """
    from PIL import Image

    if image.size == (resolution, resolution):
        return image
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.resize((resolution, resolution), Image.Resampling.BILINEAR, (left, top, left + side, top + side))


def resize(array: np.ndarray, resolution: int) -> np.ndarray:
    """Resizes uint8 [H, W, C], C 1 or 3 -> uint8 [resolution, resolution, C], as `fit`."""
    from PIL import Image

    image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    return np.asarray(fit(image, resolution)).reshape(resolution, resolution, array.shape[-1])


def to_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Converts uint8 [..., C] with C 1 or 3 -> uint8 [..., channels]: grey is repeated, colour becomes luma."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    return np.rint(images @ LUMA).astype(np.uint8)[..., None]
