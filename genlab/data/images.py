"""Converts an image file or array to uint8 [R, R, C] on the host, one image at a time (numpy and Pillow)."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's convert('L')
RANGES = (255, 1023, 4095, 16383, 65535)  # whites of 8, 10, 12, 14 and 16 bits
OVERSHOOT = 2  # floats up to here count as 0..1: filters exceed 1, and 2 levels of 255 are a black image
LARGE = 1 << 24  # pixels; larger images are decoded one at a time, JPEGs at reduced size
BAND = 256  # rows that are scaled at a time
_large = threading.Lock()


def decode(data: bytes | IO[bytes], resolution: int, channels: int) -> np.ndarray:
    """Decodes an image file; of several frames the first.

    Applies the EXIF orientation, composites transparent pixels over white, converts the channels, crops to the central
    square and resizes. Values of more than 8 bits are scaled by `eight_bits`.

    Images of more than LARGE pixels are decoded one at a time in each process. Of those, a JPEG is decoded at 1/2,
    1/4 or 1/8 of its size, at least twice the resolution. Pillow refuses more than 179 million pixels.

    Args:
        data: the bytes of the file, or the file opened in binary mode.
        resolution: R, pixels per side.
        channels: C, 1 or 3.

    Returns:
        uint8 [R, R, C].

    Raises:
        ValueError: the range of values is unknown.
        Exception: Pillow cannot read the file; `refusal` says why.
    """
    return _decode(data, resolution, channels, lambda image: [image])[0]


def decode_halves(data: bytes | IO[bytes], resolution: int, channels: int) -> np.ndarray:
    """Decodes an image file that holds two pictures of the same size side by side, each as `decode` does.

    Returns:
        uint8 [2, R, R, C], the left one first.

    Raises:
        ValueError: the image is not wider than high, or its width is odd.
    """
    return np.stack(_decode(data, resolution, channels, _halves))


def _halves(image: Picture) -> list[Picture]:
    """Cuts a Pillow image into its left and right half."""
    width, height = image.size
    if width % 2 or width <= height:
        raise ValueError(f'{width} x {height} pixels are not two pictures side by side')
    return [image.crop((left, 0, left + width // 2, height)) for left in (0, width // 2)]


def _decode(
    data: bytes | IO[bytes], resolution: int, channels: int, cut: Callable[[Picture], list[Picture]]
) -> list[np.ndarray]:
    """Decodes an image file as `decode` does, and cuts it into pictures before they are cropped and resized."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
        large = image.width * image.height > LARGE
        with _large if large else contextlib.nullcontext():
            if large:
                image.draft(None, (2 * resolution, 2 * resolution))
            halved = image.mode[0] not in 'IF' and any(';16' in str(tile[3]) for tile in image.tile)
            ImageOps.exif_transpose(image, in_place=True)
            if halved:
                _check_high_bytes(image)
            flat = [np.asarray(fit(part, resolution)) for part in cut(plain(image, channels))]
    return [part.reshape(resolution, resolution, channels) for part in flat]


def class_numbers(data: bytes, resolution: int) -> np.ndarray:
    """Decodes a map of classes: the grey values of a picture, or the numbers of its palette, unchanged.

    Crops to the central square and resizes by the nearest pixel.

    Args:
        data: the bytes of the file.
        resolution: R, pixels per side.

    Returns:
        uint8 [R, R, 1].

    Raises:
        ValueError: the picture is in colour, or has more than 8 bits.
        Exception: Pillow cannot read the file; `refusal` says why.
    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data)) as image:
        if image.mode not in ('L', 'P', '1'):
            raise ValueError(f'a map of classes is grey or has a palette, and this picture is {image.mode}')
        square = ImageOps.fit(image, (min(image.size),) * 2, Image.Resampling.NEAREST)
        return np.asarray(square.resize((resolution, resolution), Image.Resampling.NEAREST), np.uint8)[..., None]


def refusal(error: Exception) -> str:
    """Says in a few words why an image cannot be read, from the error that `decode` or reading the file raised."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return 'no format that Pillow reads'
    if isinstance(error, Image.DecompressionBombError):
        return f'more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels: make it smaller'
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return ' '.join(str(error).split())[:100] or type(error).__name__


def plain(image: Picture, channels: int) -> Picture:
    """Converts a Pillow image of any mode -> mode L (1 channel) or RGB (3 channels)."""
    from PIL import Image

    if image.mode[0] in 'IF':
        image = Image.fromarray(eight_bits(np.asarray(image), _stated(image)))
    if 'A' in image.getbands() or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    if image.mode not in ('L', 'RGB'):
        image = image.convert('RGB')
    mode = 'L' if channels == 1 else 'RGB'
    return image if image.mode == mode else image.convert(mode)


def eight_bits(array: np.ndarray, white: int = 0) -> np.ndarray:
    """Scales grey values of more than 8 bits to uint8, 0..255.

    White is what the file states. Otherwise it is found: the least of RANGES that no value exceeds, because cameras
    and scanners store 10, 12 or 14 bits in 16. Floats that do not exceed OVERSHOOT have white at 1; larger ones are
    scaled as integers are.

    Args:
        array: integers or floats [H, W].
        white: the value that becomes 255; 0 if it is not stated.

    Returns:
        uint8 [H, W].

    Raises:
        ValueError: values that are negative, NaN, infinite, or larger than 16 bits.
    """
    low, high = array.min(), array.max()
    if not np.isfinite([low, high]).all():
        raise ValueError('values that are NaN or infinite')
    if not white:
        if low < 0 or high > RANGES[-1]:
            raise ValueError(f'values in {low:g}..{high:g}, a range that is neither 0..1 nor 0..255 to 0..65535')
        floats = np.issubdtype(array.dtype, np.floating) and high <= OVERSHOOT
        white = 1 if floats else next(limit for limit in RANGES if high <= limit)
    out = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), BAND):
        out[start : start + BAND] = np.clip(np.rint(array[start : start + BAND] * (255 / white)), 0, 255)
    return out


def _stated(image: Picture) -> int:
    """Returns the white that the format of a grey image states, 0 if it does not.

    TIFF states fewer than 16 bits; 16 may be more than are used. Pillow scales PGM and JPEG 2000 to 16 bits itself.
    """
    if image.format in ('PPM', 'JPEG2000') and image.mode[0] == 'I':
        return RANGES[-1]
    bits = getattr(image, 'tag_v2', {}).get(258, (16,))[0]  # BitsPerSample of TIFF
    return 2**bits - 1 if bits < 16 else 0


def _check_high_bytes(image: Picture) -> None:
    """Raises ValueError if a colour image of 16 bits uses only the low ones: Pillow keeps the high bytes alone."""
    bands = zip(image.getbands(), image.split())
    high = int(np.max([band.getextrema() for name, band in bands if name != 'A']))
    if high < 64:
        raise ValueError(f'16 bits per channel that reach {256 * high + 255} of 65535 at most: save it with 8 bits')


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
