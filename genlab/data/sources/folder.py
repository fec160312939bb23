"""Loads a folder of images of any sizes and modes, with labels by subfolder or by a table."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genlab.data import captions, fingerprint
from genlab.data.cache import cached
from genlab.data.images import decode, decode_halves, refusal
from genlab.data.source import Field, Source, declaration, from_arrays, image_field, label_field
from genlab.data.sources import listing
from genlab.data.sources.decoding import decode_all, fits
from genlab.data.sources.messages import NAMED, printable, say
from genlab.errors import ConfigError, UserError, warn_once

WORDS = 64  # longest caption in tokens
LOOKED_AT = 16  # files, to learn whether a set has colours
TINT = 24  # difference of channels, of 255, that is seen as a colour and not an artefact of compression
SPLITS = {'train': 'training', 'test': 'held-out'}


class Decoder(NamedTuple):
    """Decodes a file: to one picture, or to the two halves of one."""

    resolution: int  # R, pixels per side
    channels: int  # C, 1 or 3
    halves: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a decoded file: [R, R, C], or [2, R, R, C]."""
        return (2,) * self.halves + (self.resolution, self.resolution, self.channels)

    def __call__(self, content: bytes) -> np.ndarray:
        """Returns uint8, see `shape`."""
        return (decode_halves if self.halves else decode)(content, self.resolution, self.channels)


class Part(NamedTuple):
    """The images of a split that can be read."""

    files: list[str]
    contents: np.ndarray  # uint64 [N], hashes of the files
    images: np.ndarray | None  # uint8 [N, R, R, C] or [N, 2, R, R, C]; None if they are decoded when read


def folder(place: str, resolution: int = 32, channels: int = 3, split: str = 'train') -> Source:
    """Returns a source of the images in a folder and its subfolders.

    Images are decoded by `images.decode`. Files that it cannot read are left out, with a warning that says why. Decoded
    splits up to 2 GiB are kept in memory and cached on disk; larger ones are decoded when read. Loading the training
    split also reads the held-out images once, so that a run notices faults in them before its first step.

    Args:
        place: the folder; see `listing` for splits, labels and captions.
        resolution: R, pixels per side.
        channels: C, 1 or 3.
        split: 'train' or 'test'.

    Returns:
        A source with `image` uint8 [R, R, C], `label` int32 if every image has a label, and `caption` int32 [words] if
        there are captions.

    Raises:
        ConfigError: there is no such folder, no image that can be read in a split, or a table with faults.
    """
    found, decoder = listing.find(place), Decoder(resolution, channels)
    if split == 'train':
        say(listing.summary(found))
        if channels == 1 and coloured(found.root, listing.of_split(found, split)):
            warn_once(
                f'{printable(str(place))}: there are images in colour, and config.data.channels=1 makes them grey: '
                '--config.data.channels=3 keeps the colours'
            )
        readable(found.root, listing.of_split(found, 'test'), 'test', decoder)
    part = readable(found.root, listing.of_split(found, split), split, decoder)
    files, title = part.files, f'{printable(found.root.name)}/{split}'
    fields, arrays, known = _facts(found, files)
    fields = {'image': image_field(resolution, channels)} | fields

    def identity() -> fingerprint.Fingerprint:
        notes = [f'{found.labels.get(file, "")}\0{found.captions.get(file, "")}' for file in files]
        return fingerprint.of_files(found.root, files, notes, part.contents)

    known['fingerprint'] = identity
    if part.images is not None:
        return from_arrays(title, {'image': part.images} | arrays, fields, **known)

    def rows(indices: np.ndarray) -> dict[str, np.ndarray]:
        images = np.stack([read(found.root, files[index], decoder) for index in indices])
        return {'image': images} | {name: array[indices] for name, array in arrays.items()}

    return Source(name=title, fields=fields, length=len(files), rows=rows, in_memory=False, **known)


def coloured(root: Path, files: Sequence[str]) -> bool:
    """Returns whether any of a few files, spread over the list, shows colours and not only greys."""
    for file in files[:: -(-len(files) // LOOKED_AT) or 1]:
        try:
            image = decode((root / file).read_bytes(), 16, 3).astype(int)
        except Exception:  # `readable` says what is wrong with a file
            continue
        if (np.ptp(image, axis=-1) > TINT).mean() > 0.01:
            return True
    return False


def readable(root: Path, files: Sequence[str], split: str, decoder: Decoder) -> Part:
    """Decodes a split and warns about files that cannot be read.

    Files that could not be read before are tried again, because a repair need not change their size or time.

    Args:
        root: the folder.
        files: paths from the folder.
        split: 'train' or 'test'.
        decoder: decoder of a file.
    """
    keep = fits(len(files) * (1 + decoder.halves), decoder.resolution, decoder.channels)
    decoded = _decoded(f'{printable(root.name)}/{split}', root, files, decoder, keep)
    contents = decoded['content'].copy()
    repaired: dict[int, np.ndarray] = {}
    refused: dict[str, str] = {}
    for n in np.flatnonzero(~decoded['readable']).tolist():
        try:
            data = (root / files[n]).read_bytes()
            repaired[n], contents[n] = decoder(data), fingerprint.of_bytes(data)
        except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
            refused[files[n]] = refusal(error)
    if refused:
        _warn(root, split, len(files), refused)
    left = [n for n, file in enumerate(files) if file not in refused]
    images = decoded.get('image')
    if images is not None and (repaired or refused):
        images = images.copy()
        for n, image in repaired.items():
            images[n] = image
        images = images[left]
    return Part([files[n] for n in left], contents[left], images)


def read(root: Path, file: str, decoder: Decoder) -> np.ndarray:
    """Decodes a file of a set that is not in memory, uint8 [R, R, C] or [2, R, R, C]."""
    try:
        return decoder((root / file).read_bytes())
    except Exception as error:
        raise UserError(
            f'{printable(str(root / file))} could be read at the start and cannot be now ({refusal(error)}): put it '
            'back and run the same command again'
        ) from error


def _decoded(title: str, root: Path, files: Sequence[str], decoder: Decoder, keep: bool) -> dict[str, np.ndarray]:
    """Decodes every file once.

    Args:
        title: name of the cache entry.
        root: the folder.
        files: N paths from the root.
        decoder: decoder of a file.
        keep: whether to return the images.

    Returns:
        {'readable': bool [N], 'content': uint64 [N], hashes of the files}, and with `keep` also 'image', uint8
        [N, *decoder.shape].
    """

    def block(start: int, stop: int) -> dict[str, np.ndarray]:
        images = np.zeros((stop - start, *decoder.shape), np.uint8)
        readable, content = np.zeros(stop - start, bool), np.zeros(stop - start, np.uint64)
        for n, file in enumerate(files[start:stop]):
            try:
                data = (root / file).read_bytes()
                images[n] = decoder(data)
                readable[n], content[n] = True, fingerprint.of_bytes(data)
            except Exception:  # Pillow's decoders raise nearly anything on a damaged file
                continue
        return {'readable': readable, 'content': content} | ({'image': images} if keep else {})

    key = [str(root), listing.fingerprint(root, files), decoder.resolution, decoder.channels, keep, 'content']
    key += ['halves'] * decoder.halves
    return cached(title, key, lambda: decode_all(title, len(files), block))


def _warn(root: Path, split: str, count: int, refused: dict[str, str]) -> None:
    """Warns about files that cannot be read; raises if no other is left.

    Args:
        root: the folder.
        split: 'train' or 'test'.
        count: the number of files in the split.
        refused: file -> why it cannot be read.
    """
    first = [f'{file} ({reason})' for file, reason in [*refused.items()][:NAMED]]
    named = printable(', '.join(first) + (', ...' if len(refused) > NAMED else ''))
    if len(refused) == count:
        raise ConfigError(
            f'none of the {count} {SPLITS[split]} images in {printable(str(root))} can be read: {named}: put images '
            'there that open, or move these elsewhere'
        )
    say(f'warning: {root}: left out {len(refused)} of {count} {SPLITS[split]} images that cannot be read: {named}')


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
        known |= {'classes': found.classes, 'labels': arrays['label']}
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


def header(place: str, resolution: int = 32, channels: int = 3, split: str = 'train') -> Source | None:
    """Returns the source of `folder` with images of zeros, because it decodes none; None if the folder is missing."""
    if not place or not Path(place).expanduser().is_dir():
        return None
    found = listing.find(place)
    files = listing.of_split(found, split)
    fields, arrays, known = _facts(found, files)
    fields = {'image': image_field(resolution, channels)} | fields
    return declaration(f'{printable(found.root.name)}/{split}', fields, len(files), arrays, **known)
