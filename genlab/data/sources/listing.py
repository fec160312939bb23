"""Lists the images of a folder with their splits, labels and captions.

Splits are two folders, one for training (`train`, `training`) and one held out (`test`, `testing`, or else `val`,
`valid`, `validation`), in any case. They may lie in a folder that holds nothing else. Otherwise a tenth is held out by
a hash of the paths. Images that are added later do not change the split of the others.

Labels and captions are read from a table at the top; see `table`. Its columns are `file` (the path from the top), and
`label` or `caption` or both. Without a table of labels, the label is the first folder in which paths differ. Classes
are numbered in alphabetical order. If all their names are whole numbers, they are numbered in numeric order.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from genlab.data.sources import table
from genlab.data.sources.messages import printable, say, some
from genlab.data.sources.walk import EXTENSIONS, OTHER, root_of, walk
from genlab.errors import ConfigError

SPLITS = ('train', 'test')
TRAIN = ('train', 'training')
HELD_OUT = (('test', 'testing'), ('val', 'valid', 'validation'))  # the first that is there
TEST = 0.1
EMPTY = 'folders without images'
SECOND = 'a second table'


class Listing(NamedTuple):
    """The images of a folder."""

    root: Path
    files: list[str]  # paths from root, sorted; only those of the splits
    folders: Mapping[str, str]  # split -> its folder; empty if a hash of the paths divides the images
    classes: tuple[str, ...]  # names; empty unless every image has a label
    labels: Mapping[str, str]  # file -> label; empty unless every image has a label
    captions: Mapping[str, str]  # file -> caption, '' if that image has none; empty if no image has one
    ignored: Mapping[str, Sequence[str]]  # reason -> paths that are skipped


def find(place: str) -> Listing:
    """Lists the images under a folder and reads its table."""
    root, files, splits, *_, ignored = images(place)
    ignored = {**ignored}
    rows = table.read(root, files)
    tables = [name for name in ignored.get(OTHER, ()) if name in table.TABLES]
    ignored[OTHER] = [name for name in ignored.get(OTHER, ()) if name not in table.TABLES]
    ignored[SECOND] = sorted(tables, key=[*table.TABLES].index)[1:]
    absent = sorted(set(rows) - set(files))
    if absent:
        say(f'warning: {root}: {len(absent)} files of the table do not exist, such as {absent[0]}')
    labels = _labels(root, files, rows, splits)
    captions = {file: rows.get(file, {}).get('caption') or '' for file in files}
    return Listing(
        root,
        files,
        splits,
        _classes(root, labels),
        labels,
        captions if any(captions.values()) else {},
        {reason: names for reason, names in ignored.items() if names},
    )


def images(place: str) -> Listing:
    """Lists the images under a folder with their splits, without labels and captions."""
    root = root_of(place)
    files, folders, ignored = walk(root)
    if not files:
        raise ConfigError(
            f'there are no images in {printable(str(place))}{skipped(ignored)}: put {", ".join(EXTENSIONS)} files '
            'there or in folders under it (one folder per class, or labels.csv with the columns file,label,caption)'
        )
    populated = {parent for folder in {file.rpartition('/')[0] for file in files} for parent in _parents(folder)}
    ignored |= {EMPTY: [folder for folder in folders if folder not in populated]}
    splits = _splits(root, folders, files, populated)
    if splits:
        inside = tuple(f'{folder}/' for folder in splits.values())
        ignored[f'outside {" and ".join(inside)}'] = [file for file in files if not file.startswith(inside)]
        files = [file for file in files if file.startswith(inside)]
    return Listing(root, files, splits, (), {}, {}, ignored)


def of_split(listing: Listing, split: str) -> list[str]:
    """Returns the files of 'train' or 'test'. A single image is in both."""
    if split not in SPLITS:
        raise ConfigError(f'a folder has the splits train and test, and {split} is neither: choose one of them')
    if listing.folders:
        folder = f'{listing.folders[split]}/'
        files = [file for file in listing.files if file.startswith(folder)]
        if not files:
            raise ConfigError(
                f'{printable(str(listing.root))} has no images in {printable(folder)}: put some there, or remove that '
                'folder'
            )
        return files
    return part_of(listing.files, split)


def part_of(names: Sequence[str], split: str) -> list[str]:
    """Returns the names in 'train' or 'test', about a tenth held out by a hash. A single name is in both."""
    shares = {name: _share(name) for name in names}
    limit = max(TEST, min(shares.values()))
    test = [name for name in names if shares[name] <= limit]
    train = [name for name in names if shares[name] > limit]
    return test if split == 'test' or not train else train


def fingerprint(root: Path, files: Sequence[str]) -> str:
    """Hashes the paths, sizes and times of files, to detect changes."""
    digest = hashlib.sha256()
    for file in files:
        status = (root / file).stat()
        digest.update(f'{file}\0{status.st_size}\0{status.st_mtime_ns}\n'.encode(errors='surrogateescape'))
    return digest.hexdigest()


def summary(listing: Listing) -> str:
    """Describes in one line what was found: images by split, classes, and what was skipped and why."""
    counts = {split: len(of_split(listing, split)) for split in SPLITS}
    names = [f'{number}: {name}' for number, name in enumerate(listing.classes)]
    classes = f'{len(names)} classes ({some(names)})' if names else 'no classes'
    return (
        f'{listing.root}: {counts["train"]} training and {counts["test"]} held-out images'
        f'{" in " if listing.folders else ""}{" and ".join(f"{folder}/" for folder in listing.folders.values())}, '
        f'{classes}{", captions" if listing.captions else ""}{skipped(listing.ignored)}'
    )


def skipped(ignored: Mapping[str, Sequence[str]]) -> str:
    """Formats what was skipped, by reason: '; skipped: hidden 2 (.a, .b)'; '' if nothing was."""
    reasons = [f'{reason} {len(names)} ({some(names)})' for reason, names in ignored.items() if names]
    return f'; skipped: {", ".join(reasons)}' if reasons else ''


def _parents(folder: str) -> list[str]:
    """Returns a folder and all above it, '' last."""
    parts = folder.split('/')
    return ['/'.join(parts[:end]) for end in range(len(parts), -1, -1)]


def _splits(root: Path, folders: Sequence[str], files: Sequence[str], populated: set[str]) -> dict[str, str]:
    """Returns {split: folder}, {} if there is no folder for training and none held out.

    Args:
        root: the folder, for messages.
        folders: paths of all folders.
        files: paths of the images.
        populated: the folders that hold images at any depth.
    """
    parent, direct = '', {file.rpartition('/')[0] for file in files}
    while True:
        below = [folder for folder in folders if folder and folder.rpartition('/')[0] == parent]
        named = {name: [f for f in below if _name(f) in name] for name in (TRAIN, *HELD_OUT)}
        train, held_out = named[TRAIN], next((named[name] for name in HELD_OUT if named[name]), [])
        filled = [folder for folder in below if folder in populated]
        if train and held_out:
            for same in (train, held_out):
                if len(same) > 1:
                    raise ConfigError(
                        f'{printable(str(root))}: {printable(" and ".join(same))} are the same split: merge them, or '
                        'move one elsewhere'
                    )
            return {'train': train[0], 'test': held_out[0]}
        if len(filled) > 1 and all(_name(folder) in sum(HELD_OUT, ()) for folder in filled):
            raise ConfigError(
                f'{printable(str(root))} has {printable(" and ".join(filled))} and no train/: name the folder of '
                'training images train'
            )
        if len(filled) != 1 or parent in direct:
            return {}
        parent = filled[0]


def _name(folder: str) -> str:
    """Returns the last part of a path in lower case."""
    return PurePosixPath(folder).name.casefold()


def _share(file: str) -> float:
    """Returns a number in [0, 1) that depends on the path alone."""
    return int.from_bytes(hashlib.sha256(file.encode(errors='surrogateescape')).digest()[:8], 'big') / 2**64


def _labels(
    root: Path, files: Sequence[str], rows: Mapping[str, Mapping[str, str]], splits: Mapping[str, str]
) -> dict[str, str]:
    """Returns {file: class} if every image has a class, else {}.

    Args:
        root: the folder, for messages.
        files: paths from root.
        rows: rows of the table.
        splits: the folders of the splits.
    """
    if any(row.get('label') for row in rows.values()):
        labels = {file: rows.get(file, {}).get('label') or '' for file in files}
    else:
        labels = _class_folders(files, splits)
    without = [file for file, label in labels.items() if not label]
    if without and len(without) < len(files):
        say(f'warning: {root}: no labels are used: {len(without)} images have none, such as {without[0]}')
    return {} if without else labels


def _class_folders(files: Sequence[str], splits: Mapping[str, str]) -> dict[str, str]:
    """Returns {file: the first folder in which paths differ}, or '' for an image above it.

    Args:
        files: paths from root.
        splits: the folders of the splits, at one depth; paths are compared below them.
    """
    depth = max((len(PurePosixPath(folder).parts) for folder in splits.values()), default=0)
    folders = {file: PurePosixPath(file).parts[:-1][depth:] for file in files}
    shared = len(os.path.commonprefix(list(folders.values())))
    return {file: printable(parts[shared]) if len(parts) > shared else '' for file, parts in folders.items()}


def _classes(root: Path, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the names of classes in the order of their numbers; warns of names that are nearly the same."""
    names = {*labels.values()}
    whole = all(re.fullmatch('-?[0-9]+', name) for name in names)
    alike: dict[object, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(int(name) if whole else ' '.join(name.casefold().split()), []).append(name)
    for same in alike.values():
        if len(same) > 1:
            say(f'warning: {root}: {" and ".join(same)} are different classes: rename one if they should be the same')
    return tuple(sorted(names, key=lambda name: (int(name) if whole else 0, name)))
