"""A folder of a person's own images: any sizes and modes, labels by subfolder or by a table."""

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


def folder(place, resolution=32, channels=3, split='train'):
    """`image` uint8 [R, R, C]; `label` int32 if every image has one; `caption` int32 [words] if there are captions.

    place: searched with all its subfolders, see `listing` for splits, labels and captions. Images are turned by their
    EXIF orientation, laid over white, cut to the central square and resized. Corrupt files are named in a warning and
    left out. Up to 2 GiB, decoded, is held in memory and cached on disk; more is decoded as it is read.
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

    def rows(indices):
        images = [decode((found.root / files[index]).read_bytes(), resolution, channels) for index in indices]
        return {'image': np.stack(images)} | {name: array[indices] for name, array in arrays.items()}

    return Source(name=title, fields=fields, length=len(files), rows=rows, in_memory=False, **known)


def _decoded(title, root, files, resolution, channels, keep):
    """{'readable': bool [N]}, and 'image' [N, R, R, C] if they are to be kept; every file is decoded once for it."""

    def block(start, stop):
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


def _warn(root, files, readable):
    """Names the first files that could not be read, and counts them."""
    corrupt = sorted(set(files) - {files[n] for n in readable})
    if not corrupt:
        return
    named = ', '.join(corrupt[:NAMED]) + (', ...' if len(corrupt) > NAMED else '')
    if len(corrupt) == len(files):
        raise UserError(f'none of the {len(files)} images in {root} can be read ({named}): put images there that open')
    logging.warning('%s: left out %d of %d images that cannot be read: %s', root, len(corrupt), len(files), named)


def _facts(found, files):
    """Labels and captions of files: (fields, arrays {field: [N, ...]}, what Source is told beside)."""
    fields, arrays, known = {}, {}, {}
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


def _words(texts):
    """The vocabulary of texts in the order of the alphabet, padding first, and the length of the longest in words."""
    split = [captions.words_of(text) for text in texts]
    longest = max(1, max(map(len, split)))
    return (captions.PADDING, *sorted({word for words in split for word in words})), min(WORDS, longest)
