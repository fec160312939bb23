"""Pictures in a report, embedded in the page: an even selection over training that includes the last one."""

import base64
import os
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from genlab.run.files import path_of

Item = TypeVar('Item')

KINDS = ('.png', '.gif')
PICTURES = 24
PICTURE_BYTES = 16_000_000  # most bytes of all embedded samples together, so that the page can be sent by mail


class Picture(NamedTuple):
    """A PNG or a GIF with its caption."""

    label: str
    data: bytes

    @property
    def size(self) -> tuple[int, int]:
        """The width and the height in pixels."""
        if self.is_gif:
            return int.from_bytes(self.data[6:8], 'little'), int.from_bytes(self.data[8:10], 'little')
        return int.from_bytes(self.data[16:20], 'big'), int.from_bytes(self.data[20:24], 'big')

    @property
    def is_gif(self) -> bool:
        """Whether it is a GIF."""
        return self.data.startswith(b'GIF8')

    @property
    def source(self) -> str:
        """The picture as a URL."""
        return f'data:image/{"gif" if self.is_gif else "png"};base64,{base64.b64encode(self.data).decode()}'


def samples(folder: str) -> list[Picture]:
    """Returns at most `PICTURES` samples in the order of training, including the first and the last."""
    return load(_evenly(pictures_of(folder), PICTURES))


def pictures_of(folder: str) -> list[str]:
    """Returns the paths of the pictures in a folder, sorted by the first number in their names."""
    try:
        names = [path.name for path in path_of(folder).iterdir()]
    except OSError:
        return []
    order = lambda name: (int((re.search(r'\d+', name) or [0])[0]), name)
    names = [name for name in names if name.endswith(KINDS) and not name.startswith('.')]
    return [os.path.join(folder, name) for name in sorted(names, key=order)]


def _evenly(items: Sequence[Item], count: int) -> Sequence[Item]:
    """Selects at most `count` items, evenly spaced, including the first and the last."""
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def load(paths: Sequence[str]) -> list[Picture]:
    """Reads the complete pictures. If they are large, reads fewer, including the last.

    A picture that cannot be read is left out.
    """
    found = [(path, data) for path in paths if _whole(data := _read(path))]
    while len(found) > 2 and sum(len(data) for _, data in found) > PICTURE_BYTES:
        found = [*_evenly(found, max(len(found) * 3 // 4, 2))]
    loaded = []
    for path, data in found:
        name = os.path.splitext(os.path.basename(path))[0]
        loaded.append(Picture(f'step {int(name):,}' if name.isdecimal() else name.replace('_', ' '), data))
    return loaded


def _read(path: str) -> bytes:
    """Returns the content of a file, nothing if it is gone."""
    try:
        return path_of(path).read_bytes()
    except OSError:
        return b''


def _whole(data: bytes) -> bool:
    """Returns whether a PNG or a GIF is complete."""
    return data.startswith(b'\x89PNG') and b'IEND' in data[-12:] or data.startswith(b'GIF8') and data.endswith(b';')


def figures_of(folder: str) -> list[tuple[str, Picture]]:
    """Returns the pictures in a folder for a gallery, without the name of a run."""
    return [('', picture) for picture in load(pictures_of(folder))]
