"""Loads a folder of images of any sizes and modes, with labels by subfolder or by a table."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from genlab.data import captions
from genlab.data.cache import cached
from genlab.data.images import decode
from genlab.data.source import Field, Source, from_arrays, image_field, label_field
from genlab.data.sources import listing
from genlab.data.sources.decoding import decode_all, fits
from genlab.errors import UserError

NAMED = 3  # corrupt files named in a warning; the rest are counted
WORDS = 64  # longest caption in tokens


def folder(place: str, resolution: int = 32, channels: int = 3, split: str = 'train') -> Source:
    """Returns a source of the images in a folder and its subfolders.

    Images are decoded by `images.decode`. Corrupt files are skipped with a warning. Decoded sets up to 2 GiB are kept
    in memory and cached on disk; larger sets are decoded when read.

    Args:
        place: the folder; see `listing` for splits, labels and captions.
        resolution: R, pixels per side.
        channels: C, 1 or 3.
        split: 'train' or 'test'.

    Returns:
        A source with `image` uint8 [R, R, C], `label` int32 if every image has a label, and `caption` int32 [words] if
        there are captions.
    """
    found = listing.find(place)
    files = listing.of_split(found, split)
    title, keep = f'{found.root.name}/{split}', fits(len(files), resolution, channels)
    decoded = _decoded(title, found.root, files, resolution, channels, keep)
    readable = np.flatnonzero(decoded.pop('readable'))
    _warn(found.root, files, readable)
    files = [files[n] for n in readable]
    fields, arrays, known = _facts(found, files)
    fields = {'image': image_field(resolution, channels)} | fields
    if keep:
        return from_arrays(title, {'image': decoded['image'][readable]} | arrays, fields, **known)

    def rows(indices: np.ndarray) -> dict[str, np.ndarray]:
        images = [decode((found.root / files[index]).read_bytes(), resolution, channels) for index in indices]
        return {'image': np.stack(images)} | {name: array[indices] for name, array in arrays.items()}

    return Source(name=title, fields=fields, length=len(files), rows=rows, in_memory=False, **known)


def _decoded(
    title: str, root: Path, files: Sequence[str], resolution: int, channels: int, keep: bool
) -> dict[str, np.ndarray]:
    """Decodes every file once.

    Args:
        title: name of the cache entry.
        root: the folder.
        files: N paths from the root.
        resolution: R, pixels per side.
        channels: C, 1 or 3.
        keep: whether to return the images.

    Returns:
        {'readable': bool [N]}, and with `keep` also 'image', uint8 [N, R, R, C].
    """

    def block(start: int, stop: int) -> dict[str, np.ndarray]:
        images = np.zeros((stop - start, resolution, resolution, channels), np.uint8)
        readable = np.zeros(stop - start, bool)
        for n, file in enumerate(files[start:stop]):
            try:
                images[n] = decode((root / file).read_bytes(), resolution, channels)
                readable[n] = True
            except Exception:  # Pillow's decoders raise nearly anything on a damaged file
                continue
        return {'readable': readable} | ({'image': images} if keep else {})

    key = [str(root), listing.fingerprint(root, files), resolution, channels, keep]
    return cached(title, key, lambda: decode_all(title, len(files), block))


def _warn(root: Path, files: Sequence[str], readable: np.ndarray) -> None:
    """Warns about unreadable files: names the first ones and counts all."""
    corrupt = sorted(set(files) - {files[n] for n in readable})
    if not corrupt:
        return
    named = ', '.join(corrupt[:NAMED]) + (', ...' if len(corrupt) > NAMED else '')
    if len(corrupt) == len(files):
        raise UserError(f'none of the {len(files)} images in {root} can be read ({named}): put images there that open')
    logging.warning('%s: left out %d of %d images that cannot be read: %s', root, len(corrupt), len(files), named)


def _facts(
    found: listing.Listing, files: Sequence[str]
) -> tuple[dict[str, Field], dict[str, np.ndarray], dict[str, Any]]:
    """Returns labels and captions of files: (fields, arrays {field: [N, ...]}, other fields of `Source`)."""
    fields: dict[str, Field] = {}
    arrays: dict[str, np.ndarray] = {}
    known: dict[str, Any] = {}
    if found.classes:
        number = {name: n for n, name in enumerate(found.classes)}
        fields['label'] = label_field(len(found.classes))
        arrays['label'] = np.array([number[found.labels[file]] for file in files], np.int32)
        known['classes'] = found.classes
    if found.captions:
        texts = [found.captions[file] for file in files]
        vocabulary, length = _words(found.captions.values())
        fields['caption'] = Field((length,), np.dtype(np.int32), 0, len(vocabulary) - 1)
        arrays['caption'] = captions.tokens(texts, vocabulary, length)
        known |= {'vocabulary': vocabulary, 'captions': lambda indices: [texts[n] for n in indices]}
    return fields, arrays, known


def _words(texts: Collection[str]) -> tuple[tuple[str, ...], int]:
    """Returns (the vocabulary, padding first, then in alphabetical order; the number of words of the longest text)."""
    split = [captions.words_of(text) for text in texts]
    longest = max(1, max(map(len, split)))
    return (captions.PADDING, *sorted({word for words in split for word in words})), min(WORDS, longest)
