"""Pictures of paths through a code space: strips, tables and animations."""

import io

import numpy as np

from genlab.run import images
from genlab.run.files import write_atomically


def strip(decoded: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """A row for each path: [rows, columns, ...] -> uint8 [H, W, C]. Paths of points are drawn together, over real ones.

    decoded: images [rows, columns, H, W, C] in [-1, 1], or points [rows, columns, 2 or 3]; reference: points [M, 2 or 3]."""
    flat = decoded.reshape(-1, *decoded.shape[2:])
    return images.points(flat, reference) if flat.ndim == 2 else images.grid(flat, decoded.shape[1])


def frames(decoded: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """All paths at once, there and back: [rows, T, ...] -> uint8 [2 T - 2, H, W, C], which can be repeated for ever."""
    shown = np.stack([images.picture(decoded[:, number], reference) for number in range(decoded.shape[1])])
    return np.concatenate([shown, shown[-2:0:-1]])


def table(mixed: np.ndarray, above: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """A cross table of images [rows, columns, H, W, C]: `above` [columns, ...] and `beside` [rows, ...] are its margins."""
    corner = np.ones_like(above[:1])
    rows = [np.concatenate([corner, above])] + [np.concatenate([side[None], row]) for side, row in zip(beside, mixed)]
    return images.grid(np.concatenate(rows), len(rows[0]))


def save_gif(path, pictures: np.ndarray, per_second: float = 12) -> None:
    """uint8 [T, H, W, 1 or 3] as a GIF that repeats for ever, in 32 levels, a quarter of the bytes that 256 would take."""
    from PIL import Image

    pictures = pictures & 0xF8 | pictures >> 5  # black and white stay what they are
    sheets = [Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture) for picture in pictures]
    buffer = io.BytesIO()
    sheets[0].save(
        buffer, 'GIF', save_all=True, append_images=sheets[1:], duration=round(1000 / per_second), loop=0, optimize=True
    )
    write_atomically(path, buffer.getvalue())
