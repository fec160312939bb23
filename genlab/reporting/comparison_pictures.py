"""Pictures for the results: the newest samples and those of the evaluation, small enough to keep beside the source."""

import io
import math
import os
import re
from urllib.parse import quote

import numpy as np

from genlab.reporting.comparison_tables import unused
from genlab.reporting.samples import load, pictures_of
from genlab.run.files import write_atomically

BYTES = 150_000  # of one picture
LEGIBLE = 256  # pixels; smaller pictures are enlarged by whole numbers


def pictures(run):
    """[(name, caption as HTML, PNG of at most `BYTES`)] of a run: its newest samples, and evaluation/*.png."""
    drawn = [
        path for path in pictures_of(str(run.folder / 'samples')) if stem(path).isdecimal() and path.endswith('.png')
    ]
    found = [('samples', f'samples, {label}', data) for label, data in load(drawn[-1:])]
    for path in pictures_of(str(run.folder / 'evaluation')):
        if path.endswith('.png'):
            found += [(stem(path), label, data) for label, data in load([path])]
    return [(name, caption, small(data)) for name, caption, data in found]


def stem(path):
    return os.path.splitext(os.path.basename(path))[0]


def save(shown, folder, base):
    """Writes {run: [(name, caption, PNG)]} as <run>-<name>.png -> {run: [(caption, link)]}, relative to the folder `base`."""
    taken, links = set(), {}
    for run, found in shown.items():
        for name, caption, data in found:
            file = unused(re.sub(r'[^\w.-]+', '-', f'{run}-{name}'), taken)
            taken.add(file)
            path = os.path.join(folder, f'{file}.png')
            write_atomically(path, data)
            link = quote(os.path.relpath(os.path.abspath(path), base).replace(os.sep, '/'))
            links.setdefault(run, []).append((caption, link))
    return links


def small(data, limit=BYTES):
    """The same PNG, legible and of few bytes: without loss if that is enough, otherwise with fewer pixels. Nothing but pixels
    is kept."""
    from PIL import Image

    original = Image.open(io.BytesIO(data))
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


def encode(picture):
    """The shortest of its lossless encodings: as it is, and as a palette where it has at most 256 colours."""
    kinds = [picture, *palette(picture)]
    return min((png(kind) for kind in kinds), key=len)


def palette(picture):
    """The picture with exactly its own colours as a palette, if there are at most 256: [picture] or []."""
    from PIL import Image

    pixels = np.asarray(picture.convert('RGB'), np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, indices = np.unique(pixels, return_inverse=True)
    if len(colours) > 256:
        return []
    indexed = Image.fromarray(indices.reshape(pixels.shape).astype(np.uint8))
    indexed.putpalette((colours[:, None] >> np.array([16, 8, 0], np.uint32) & 255).astype(np.uint8).tobytes())
    return [indexed]


def png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, 'PNG', optimize=True)
    return buffer.getvalue()
