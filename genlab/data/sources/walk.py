"""Walks a folder of images: what counts as an image, and what is skipped and why. Opens no file."""

import errno
import os
import stat
from collections import deque
from pathlib import Path
from typing import NamedTuple

from genlab.data.sources.messages import printable
from genlab.errors import ConfigError

# Formats that Pillow decodes by itself: no documents, vector graphics, or stubs for other readers.
EXTENSIONS = (
    *('png', 'apng', 'jpg', 'jpeg', 'jpe', 'jfif', 'mpo', 'webp', 'avif', 'gif', 'bmp', 'dib', 'tif', 'tiff'),
    *('ppm', 'pgm', 'pbm', 'pnm', 'pfm', 'jp2', 'j2k', 'j2c', 'jpc', 'jpf', 'jpx', 'tga', 'ico', 'pcx', 'sgi', 'rgb'),
    *('rgba', 'bw', 'ras', 'qoi', 'dds', 'psd', 'xbm', 'xpm'),
)
HIDDEN = 'hidden'
OTHER = 'other file types'
DANGLING = 'dangling links'
CIRCLE = 'links to themselves'
REPEATED = 'links to folders above or listed already'
SPECIAL = 'pipes, sockets or devices'
CLOSED = 'not accessible'


class Tree(NamedTuple):
    """The contents of a folder. Paths are relative to it, with slashes."""

    files: list[str]  # images, sorted
    folders: list[str]  # all folders, '' is the root
    ignored: dict[str, list[str]]  # reason -> paths


def root_of(place: str) -> Path:
    """Returns the folder `config.data.dir`; raises ConfigError if it is not set or not a folder."""
    root = Path(place).expanduser()
    if not place or not root.is_dir():
        fault = f'={printable(str(place))} is not a folder' if place else ' is empty'
        raise ConfigError(f'config.data.dir{fault}: set it to a folder of images')
    return root


def walk(root: Path) -> Tree:
    """Lists the images under a folder. Follows links to folders, and lists each folder once.

    Real folders come first, and a link to a folder listed already is left out. So no image is in two classes or splits.
    A link to a folder above the root would list everything next to the root, and is left out too.
    """
    real = os.path.realpath(root)
    files: list[str] = []
    folders: list[str] = []
    ignored: dict[str, list[str]] = {}
    seen = {str(parent) for parent in Path(real).parents}
    pending, links = deque([('', real)]), deque[tuple[str, str]]()
    while pending or links:
        folder, target = (pending or links).popleft()
        if target in seen:
            ignored.setdefault(REPEATED, []).append(folder)
            continue
        seen.add(target)
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise ConfigError(f'config.data.dir={root} cannot be opened: {error.strerror}') from error
            ignored.setdefault(CLOSED, []).append(folder)
            continue
        folders.append(folder)
        for entry in entries:
            path = f'{folder}/{entry.name}' if folder else entry.name
            reason, mode = _judge(entry)
            if reason:
                ignored.setdefault(reason, []).append(path)
            elif not stat.S_ISDIR(mode):
                files.append(path)
            elif entry.is_symlink():
                links.append((path, os.path.realpath(entry.path)))
            else:
                pending.append((path, os.path.join(target, entry.name)))
    return Tree(sorted(files), folders, ignored)


def _judge(entry: os.DirEntry[str]) -> tuple[str, int]:
    """Returns (why an entry is skipped, or '', the mode of what it links to)."""
    if entry.name.startswith(('.', '__MACOSX')):
        return HIDDEN, 0
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        dangling = CIRCLE if error.errno == errno.ELOOP else DANGLING
        return dangling if entry.is_symlink() else CLOSED, 0
    if stat.S_ISDIR(mode):
        return '', mode
    if not stat.S_ISREG(mode):
        return SPECIAL, mode
    return '' if entry.name.lower().rpartition('.')[2] in EXTENSIONS else OTHER, mode
