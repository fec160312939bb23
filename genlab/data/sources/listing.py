"""Lists the images of a folder with their splits, labels and captions.

Splits are the folders train/ and test/ if both exist. Otherwise a tenth is held out by a hash of the paths. Images that
are added later do not change the split of the others.

Labels and captions are read from labels.csv or captions.tsv at the top. Its columns are `file` (the path from the top),
and `label` or `caption` or both. Without a table of labels, the label is the first folder in which paths differ.
"""

import csv
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from absl import logging

from genlab.errors import UserError

ENDINGS = ('png', 'jpg', 'jpeg', 'webp', 'bmp', 'gif', 'tif', 'tiff', 'ppm', 'pgm')
TABLES = {'labels.csv': ',', 'captions.tsv': '\t'}
SPLITS = ('train', 'test')
TEST = 0.1


class Listing(NamedTuple):
    """The images of a folder."""

    root: Path
    files: list[str]  # paths from root, sorted
    classes: tuple[str, ...]  # names; empty unless every image has a label
    labels: Mapping[str, str]  # file -> label; empty unless every image has a label
    captions: Mapping[str, str]  # file -> caption, '' if that image has none; empty if no image has one


def find(place: str) -> Listing:
    """Lists the images under a folder and reads its table."""
    root = Path(place).expanduser()
    if not place or not root.is_dir():
        raise UserError(f'config.data.dir={place} is no folder: set it to a folder of images')
    files = sorted(_files(root))
    if not files:
        raise UserError(
            f'there are no images in {place}: put {", ".join(ENDINGS)} files there or in folders under it '
            '(one folder per class, or labels.csv with the columns file,label,caption)'
        )
    table = _table(root)
    absent = sorted(set(table) - set(files))
    if absent:
        logging.warning('%s: %d files of the table are not there, such as %s', root, len(absent), absent[0])
    labels = _labels(root, files, table)
    captions = {file: table.get(file, {}).get('caption') or '' for file in files}
    return Listing(root, files, tuple(sorted(set(labels.values()))), labels, captions if any(captions.values()) else {})


def of_split(listing: Listing, split: str) -> list[str]:
    """Returns the files of 'train' or 'test'. A single image is in both."""
    if split not in SPLITS:
        raise UserError(f'a folder has the splits train and test, and {split} is neither: choose one of them')
    if _divided(listing.root):
        files = [file for file in listing.files if file.startswith(f'{split}/')]
        if not files:
            raise UserError(f'{listing.root} has no images in {split}/: put some there, or remove that folder')
        return files
    shares = {file: _share(file) for file in listing.files}
    limit = max(TEST, min(shares.values()))
    test = [file for file in listing.files if shares[file] <= limit]
    train = [file for file in listing.files if shares[file] > limit]
    return test if split == 'test' or not train else train


def fingerprint(root: Path, files: Sequence[str]) -> str:
    """Hashes the paths, sizes and times of files, to detect changes."""
    digest = hashlib.sha256()
    for file in files:
        status = (root / file).stat()
        digest.update(f'{file}\0{status.st_size}\0{status.st_mtime_ns}\n'.encode(errors='surrogateescape'))
    return digest.hexdigest()


def _files(root: Path) -> Iterator[str]:
    """Yields paths from root of all image files; skips hidden files and folders."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(('.', '__MACOSX'))]
        for name in names:
            if not name.startswith('.') and name.lower().rpartition('.')[2] in ENDINGS:
                yield (Path(folder) / name).relative_to(root).as_posix()


def _divided(root: Path) -> bool:
    """Returns whether the folder has a subfolder per split."""
    return all((root / split).is_dir() for split in SPLITS)


def _share(file: str) -> float:
    """Returns a number in [0, 1) that depends on the path alone."""
    return int.from_bytes(hashlib.sha256(file.encode(errors='surrogateescape')).digest()[:8], 'big') / 2**64


def _table(root: Path) -> dict[str, dict[str, str]]:
    """Reads {file: row} of the table at the top of a folder, empty if there is none."""
    for name, delimiter in TABLES.items():
        if not (root / name).exists():
            continue
        with open(root / name, newline='', encoding='utf-8-sig') as lines:
            reader = csv.DictReader(lines, delimiter=delimiter)
            columns = reader.fieldnames or []
            if 'file' not in columns or not {'label', 'caption'} & set(columns):
                raise UserError(
                    f'{root / name} has the columns {", ".join(columns)}: it needs file, and label or '
                    f'caption or both, separated by {"a tab" if delimiter != "," else "a comma"}; or '
                    'move it elsewhere'
                )
            return {PurePosixPath(row['file']).as_posix(): row for row in reader}
    return {}


def _labels(root: Path, files: Sequence[str], table: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Returns {file: class} if every image has a class, else {}."""
    if any(row.get('label') for row in table.values()):
        labels = {file: table.get(file, {}).get('label') or '' for file in files}
    else:
        labels = _class_folders(files, _divided(root))
    without = [file for file, label in labels.items() if not label]
    if without and len(without) < len(files):
        logging.warning('%s: no labels are used: %d images have none, such as %s', root, len(without), without[0])
    return {} if without else labels


def _class_folders(files: Sequence[str], divided: bool) -> dict[str, str]:
    """Returns {file: the first folder in which paths differ}, or '' for an image above it.

    Args:
        files: paths from root.
        divided: whether the paths begin with train/ or test/, which is ignored.
    """
    folders = {file: PurePosixPath(file).parts[:-1][int(divided) :] for file in files}
    shared = len(os.path.commonprefix(list(folders.values())))
    return {file: parts[shared] if len(parts) > shared else '' for file, parts in folders.items()}
