"""Pictures of the results: the newest samples and the pictures of the evaluation, small enough for the repository."""

import io
import math
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from genlab.reporting.comparison_tables import Run, unused
from genlab.reporting.samples import Picture, load, pictures_of
from genlab.run.files import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image as Raster

BYTES = 150_000  # most bytes of one picture
LEGIBLE = 256  # pixels; smaller pictures are enlarged by whole numbers


def pictures(run: Run) -> list[tuple[str, Picture]]:
    """Returns [(name, picture of at most `BYTES`)]: the newest samples of a run, and evaluation/*.png."""
    return [(name, Picture(picture.label, small(picture.data))) for name, _, picture in files(run)]


def in_place(run: Run, base: str) -> list[tuple[str, str]]:
    """Returns [(caption, link)] of the pictures that lie below a folder and have at most `BYTES`: those of a kept run.

    Args:
      run: the run.
      base: the folder, which links are relative to.
    """
    return [
        (picture.label, link_to(path, base))
        for _, path, picture in files(run)
        if len(picture.data) <= BYTES and pathlib.Path(path).resolve().is_relative_to(pathlib.Path(base).resolve())
    ]


def files(run: Run) -> list[tuple[str, str, Picture]]:
    """Returns [(name, path, picture)]: the newest samples of a run, and evaluation/*.png."""
    drawn = [
        path for path in pictures_of(str(run.folder / 'samples')) if stem(path).isdecimal() and path.endswith('.png')
    ]
    found = [('samples', drawn[-1], Picture(f'samples, {picture.label}', picture.data)) for picture in load(drawn[-1:])]
    for path in pictures_of(str(run.folder / 'evaluation')):
        if path.endswith('.png'):
            found += [(stem(path), path, picture) for picture in load([path])]
    return found


def link_to(path: str, base: str) -> str:
    """Returns the path of a file as a link on a page in the folder `base`."""
    return quote(os.fsencode(os.path.relpath(os.path.abspath(path), base).replace(os.sep, '/')))


def stem(path: str) -> str:
    """Returns the file name without its extension."""
    return os.path.splitext(os.path.basename(path))[0]


def save(
    shown: Mapping[str, Iterable[tuple[str, Picture]]], folder: str, base: str
) -> dict[str, list[tuple[str, str]]]:
    """Writes pictures as <run>-<name>.png.

    Args:
      shown: run -> [(name, picture)].
      folder: where to write.
      base: the folder that links are relative to.

    Returns:
      run -> [(caption, link)].
    """
    taken: set[str] = set()
    links: dict[str, list[tuple[str, str]]] = {}
    for run, found in shown.items():
        for name, picture in found:
            file = unused(re.sub(r'[^\w.-]+', '-', f'{run}-{name}'), taken)
            taken.add(file)
            path = os.path.join(folder, f'{file}.png')
            write_atomically(path, picture.data)
            links.setdefault(run, []).append((picture.label, link_to(path, base)))
    return links


def small(data: bytes, limit: int = BYTES) -> bytes:
    """Recompresses a PNG to at most `limit` bytes: without loss if possible, else with fewer pixels.

    Pictures below `LEGIBLE` pixels are enlarged. All metadata is dropped.
    """
    from PIL import Image

    original: Raster = Image.open(io.BytesIO(data))
    if original.mode != 'L':
        cover = original.convert('RGBA')
        original = Image.alpha_composite(Image.new('RGBA', cover.size, 'white'), cover).convert('RGB')
    if (times := -(-LEGIBLE // max(original.size))) > 1:
        original = original.resize([times * side for side in original.size], Image.Resampling.NEAREST)
    found, scale = encode(original), 1.0
    while len(found) > limit:
        scale *= min(0.9, math.sqrt(limit / len(found)))
        size = [max(1, round(side * scale)) for side in original.size]
        found = encode(original.resize(size, Image.Resampling.LANCZOS))
    return found


def encode(picture: 'Raster') -> bytes:
    """Returns the shorter lossless PNG: direct, or by a palette if there are at most 256 colors."""
    kinds = [picture, *palette(picture)]
    return min((png(kind) for kind in kinds), key=len)


def palette(picture: 'Raster') -> list['Raster']:
    """Returns [the picture with its exact colors as a palette], or [] if it has more than 256."""
    from PIL import Image

    pixels = np.asarray(picture.convert('RGB'), np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, indices = np.unique(pixels, return_inverse=True)
    if len(colours) > 256:
        return []
    indexed = Image.fromarray(indices.reshape(pixels.shape).astype(np.uint8))
    indexed.putpalette((colours[:, None] >> np.array([16, 8, 0], np.uint32) & 255).astype(np.uint8).tobytes())
    return [indexed]


def png(picture: 'Raster') -> bytes:
    """Encodes a picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, 'PNG', optimize=True)
    return buffer.getvalue()
