"""Fingerprints of data sets: what a run was trained on, and whether data have changed since.

A fingerprint is a digest of everything that the examples, their labels and their order depend on:

- a folder: the path of each file below the folder, its contents, its label and caption;
- a set of TFDS: its name, version, split and the sizes of its files;
- generated data (toy, scenes): their settings;
- anything else in memory: the arrays.

The path of the folder is not a part of it, so a folder may move. Names of classes and the vocabulary are a part,
because they number the labels and the words.

Contents of files are hashed where decoding reads them anyway, and the hashes are kept in the cache of decoded sets. A
file that was not read counts by its size and time in the digest: a cache then computes too often, never too rarely.
Between two commands on one run, times alone are ignored, because copying a folder changes them. So a picture that
changes and keeps its size is noticed only if contents were read.

`compare` decides how another command on a run treats changed data:

- refused: other classes, words, or shapes and ranges of fields, or codes by other weights of a tokenizer. The numbers
  of labels, words and codes would mean something else to the trained networks, and nothing in the results would show
  it.
- a warning with the numbers: images that were added, removed or changed, and corrected labels. They do not harm the
  networks, and collections grow. But figures before and after the change refer to different data.
- silent: other times, another place.

Cost: one `stat` and two short hashes per file, of its path and of its label and caption, in each command that compares.
A record takes 40 bytes per file: a million files take 40 MB in memory and in `data.npz` of the run, and no read beyond
those of decoding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from genlab.data.source import Source

BLOCK = 1024  # rows that are hashed at a time
NAMED = 3  # classes and words in a message; the rest are counted


class Files(NamedTuple):
    """The files of a split in the order of its examples, N each."""

    names: np.ndarray  # uint64, hashes of the paths below the folder
    contents: np.ndarray  # uint64, hashes of the bytes; 0 where they were not read
    sizes: np.ndarray  # int64, bytes
    times: np.ndarray  # int64, nanoseconds, of the last modification
    notes: np.ndarray  # uint64, hashes of label and caption


class Fingerprint(NamedTuple):
    """The digest of a data set, and its files if it has any."""

    digest: str  # 16 hexadecimal digits
    files: Files | None = None


class Record(NamedTuple):
    """What a run keeps of its data."""

    # Plain values: 'classes', 'vocabulary', 'checkpoint', 'fields', and 'splits': name -> digest, examples.
    facts: Mapping[str, Any]
    files: Mapping[str, Files]  # split -> files


class Changes(NamedTuple):
    """The differences between two records, as lines; both are empty if the data are equal."""

    meaning: list[str]  # the numbers of labels and words, or the shape of examples
    images: list[str]  # examples


def of(source: Source) -> Fingerprint:
    """Returns the fingerprint of a source; without `source.fingerprint` all its rows are read."""
    known = bare(source)
    return known._replace(digest=of_values([known.digest, source.classes, source.vocabulary]))


def bare(source: Source) -> Fingerprint:
    """Returns the fingerprint of the examples of a source, without the names of its classes and words."""
    return Fingerprint(of_rows(source)) if source.fingerprint is None else source.fingerprint()


def of_values(values: Any) -> str:
    """Returns the digest of plain JSON values, such as the settings of generated data."""
    return _digest([json.dumps(values, sort_keys=True).encode()])


def of_rows(source: Source) -> str:
    """Returns the digest of all rows of a source."""

    def parts() -> Iterable[bytes]:
        for first in range(0, len(source), BLOCK):
            rows = source.rows(np.arange(first, min(first + BLOCK, len(source))))
            for name in sorted(rows):
                yield f'{name} {rows[name].dtype} {rows[name].shape}'.encode()
                yield np.ascontiguousarray(rows[name]).tobytes()

    return _digest(parts())


def of_bytes(content: bytes) -> int:
    """Hashes the content of a file to 1..2**64-1; 0 is for a file that was not read."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), 'little') or 1


def of_files(root: Path, files: Sequence[str], notes: Sequence[str], contents: np.ndarray | None = None) -> Fingerprint:
    """Returns the fingerprint of files.

    Args:
        root: the folder.
        files: N paths from root, in the order of the examples.
        notes: N texts that name the label and the caption of a file.
        contents: uint64 [N], `of_bytes` of each file; None if they were not read.
    """
    status = [(root / file).stat() for file in files]
    found = Files(
        np.array([_short(file) for file in files], np.uint64),
        np.zeros(len(files), np.uint64) if contents is None else np.asarray(contents, np.uint64),
        np.array([entry.st_size for entry in status], np.int64),
        np.array([entry.st_mtime_ns for entry in status], np.int64),
        np.array([_short(note) for note in notes], np.uint64),
    )
    unread = found.contents == 0
    parts = found._replace(sizes=found.sizes * unread, times=found.times * unread)
    return Fingerprint(_digest(part.tobytes() for part in parts), found)


def subset(whole: Fingerprint, indices: np.ndarray) -> Fingerprint:
    """Returns the fingerprint of the examples `indices`, int64 [N]."""
    files = None if whole.files is None else Files(*(part[indices] for part in whole.files))
    return Fingerprint(_digest([whole.digest.encode(), np.asarray(indices, np.int64).tobytes()]), files)


def joined(parts: Sequence[Fingerprint]) -> Fingerprint:
    """Returns the fingerprint of a set that consists of parts; equal parts are fields of the same examples."""
    if len({part.digest for part in parts}) == 1:
        return parts[0]
    files = [part.files for part in parts if part.files is not None]
    together = Files(*(np.concatenate(arrays) for arrays in zip(*files))) if len(files) == len(parts) else None
    return Fingerprint(of_values([part.digest for part in parts]), together)


def side_by_side(first: Fingerprint, second: Fingerprint) -> Fingerprint:
    """Returns the fingerprint of examples of two files each, given the fingerprints of first and second files."""
    assert first.files is not None and second.files is not None
    one, two = first.files, second.files
    mixed = lambda a, b: a * np.uint64(0x9E3779B97F4A7C15) ^ b  # the order counts; arithmetic of arrays wraps around
    unread = (one.contents == 0) | (two.contents == 0)
    files = Files(
        mixed(one.names, two.names),
        np.where(unread, np.uint64(0), np.maximum(mixed(one.contents, two.contents), np.uint64(1))),
        one.sizes + two.sizes,
        np.maximum(one.times, two.times),
        mixed(one.notes, two.notes),
    )
    return Fingerprint(of_values([first.digest, second.digest]), files)


def record(sources: Mapping[str, Source]) -> Record:
    """Returns the record of a run's data.

    Args:
        sources: split -> source. All splits have the same classes, vocabulary and fields.
    """
    found = {split: of(source) for split, source in sources.items()}
    one = next(iter(sources.values()))
    fields = {
        name: [list(field.shape), str(field.dtype), str(field.low), str(field.high)]
        for name, field in one.fields.items()
    }
    facts = {
        'classes': list(one.classes),
        'vocabulary': list(one.vocabulary),
        'checkpoint': one.checkpoint,
        'fields': fields,
        'splits': {
            split: {'examples': len(sources[split]), 'fingerprint': digest} for split, (digest, _) in found.items()
        },
    }
    return Record(facts, {split: files for split, (_, files) in found.items() if files is not None})


def compare(old: Record, new: Record) -> Changes:
    """Compares the data of a run, `old`, with the data as they are, `new`."""
    meaning = []
    for name, word in (('classes', 'class'), ('vocabulary', 'word')):
        if old.facts[name] != new.facts[name]:
            meaning.append(_names(word, old.facts[name], new.facts[name]))
    was, now = (record.facts.get('checkpoint', '') for record in (old, new))
    if was != now:
        meaning.append(f'the tokenizer was at {was or "no checkpoint"}, now at {now or "none"}')
    if not meaning:  # ranges of labels and words follow from the names
        before, after = old.facts['fields'], new.facts['fields']
        both = [name for name in before if name in after]
        meaning += [
            f'the field {name} was {before[name]}, now {after[name]}' for name in both if before[name] != after[name]
        ]
        meaning += [f'there is no field {name} now' for name in before if name not in after]
    images = []
    for split, was in old.facts['splits'].items():
        now = new.facts['splits'].get(split)
        if now is None:
            images.append(f'{split}: no examples now')
        elif was['fingerprint'] != now['fingerprint']:
            images += _images(split, was, now, old.files.get(split), new.files.get(split))
    return Changes(meaning, images)


def _images(
    split: str, was: Mapping[str, Any], now: Mapping[str, Any], old: Files | None, new: Files | None
) -> list[str]:
    """Returns the line about a split whose fingerprint differs; none if times alone differ."""
    if old is None or new is None:
        return [f'{split}: other data ({was["examples"]:,} examples, now {now["examples"]:,})']
    _, one, two = np.intersect1d(old.names, new.names, return_indices=True)
    before, after = Files(*(part[one] for part in old)), Files(*(part[two] for part in new))
    read = (before.contents > 0) & (after.contents > 0)
    changed = np.where(read, before.contents != after.contents, before.sizes != after.sizes)
    counts = {
        'added': len(new.names) - len(two),
        'removed': len(old.names) - len(one),
        'changed': int(changed.sum()),
        'with another label or caption': int((before.notes != after.notes).sum()),
    }
    return (
        [f'{split}: ' + ', '.join(f'{count:,} {word}' for word, count in counts.items())]
        if any(counts.values())
        else []
    )


def _names(word: str, old: Sequence[str], new: Sequence[str]) -> str:
    """Describes a change of names whose places are the numbers of labels or words."""

    def some(names: Sequence[str]) -> str:
        return ', '.join(map(repr, names[:NAMED])) + (f' and {len(names) - NAMED:,} more' if len(names) > NAMED else '')

    added, removed = ([name for name in one if name not in {*other}] for one, other in ((new, old), (old, new)))
    parts = [f'{verb} {some(names)}' for verb, names in (('added', added), ('removed', removed)) if names]
    numbers = f'{word} {"names" if word == "class" else "numbers"}'
    return f'{numbers} differ: {" and ".join(parts) or "their order changed"}'


def _short(text: str) -> int:
    """Hashes a text to 64 bits. Paths may hold bytes that are not UTF-8."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors='surrogateescape'), digest_size=8).digest(), 'little')


def _digest(parts: Iterable[bytes]) -> str:
    """Hashes parts with their lengths, so that different lists of parts have different digests."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, 'little'))
        digest.update(part)
    return digest.hexdigest()
