"""Pictures of paths through a code space: strips, tables and animations."""

import io
from pathlib import Path

import numpy as np

from genlab.run import images
from genlab.run.files import write_atomically


def strip(decoded: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """Draws one row per path: [rows, columns, ...] -> uint8 [H, W, C].

    decoded: images [rows, columns, H, W, C] in [-1, 1], sequences [rows, columns, T, D], or points [rows, columns, 2 or
    3], which share one plot; reference: points [M, 2 or 3] to draw behind them, or sequences for their scale.
    """
    flat = decoded.reshape(-1, *decoded.shape[2:])
    if flat.ndim == 3:
        flat = images.sequences(flat, reference)
    return images.points(flat, reference) if flat.ndim == 2 else images.grid(images.enlarged(flat), decoded.shape[1])


def frames(decoded: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """Animates all paths together, forwards and backwards, so that the animation loops seamlessly.

    decoded: [rows, T, ...], as for `strip`. Returns uint8 [2 T - 2, H, W, C].
    """
    shown = np.stack([images.picture(decoded[:, number], reference) for number in range(decoded.shape[1])])
    return np.concatenate([shown, shown[-2:0:-1]])


def table(mixed: np.ndarray, above: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Draws a table of images with margins: uint8 [H, W, C].

    Args:
      mixed: [rows, columns, H, W, C].
      above: [columns, H, W, C], the top margin.
      left: [rows, H, W, C], the left margin.
    """
    corner = np.ones_like(above[:1])
    rows = [np.concatenate([corner, above])] + [np.concatenate([side[None], row]) for side, row in zip(left, mixed)]
    return images.grid(images.enlarged(np.concatenate(rows)), len(rows[0]))


def save_gif(path: str | Path, pictures: np.ndarray, per_second: float = 12) -> None:
    """Writes frames as a GIF that loops.

    It has 32 levels per channel, which take a quarter of the bytes of 256 levels.

    Args:
      path: path of the file.
      pictures: uint8 [T, H, W, 1 or 3].
      per_second: frames per second.
    """
    from PIL import Image

    pictures = pictures & 0xF8 | pictures >> 5  # keeps black and white exact
    sheets = [Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture) for picture in pictures]
    buffer = io.BytesIO()
    sheets[0].save(
        buffer, 'GIF', save_all=True, append_images=sheets[1:], duration=round(1000 / per_second), loop=0, optimize=True
    )
    write_atomically(path, buffer.getvalue())
