"""Atomic writes of files, folders that start empty, locks of folders, and names of files."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from genlab.errors import ConfigError


def write_text(path: str | os.PathLike[str], text: str) -> None:
    r"""Writes text as UTF-8, atomically. A byte of a file's name that is not UTF-8 becomes e.g. `\udcff`."""
    write_atomically(path, text.encode('utf-8', 'backslashreplace'))


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + '\n').encode())


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to `path` so that a reader sees the old file or the new one, never a part."""
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f'.{name}.{os.getpid()}.part')
    try:
        with open(temporary, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def start_empty(folder: pathlib.Path, patterns: Iterable[str]) -> None:
    """Makes a folder, and removes what an earlier command has written there. Other files in it stay.

    Args:
      folder: its path.
      patterns: of the names that are removed, e.g. '*.png'.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()


@contextlib.contextmanager
def lock(path: pathlib.Path) -> Iterator[None]:
    """Locks the folder against other processes. The operating system releases the lock when the process ends."""
    with open(path / '.lock', 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f'--workdir={path}: another run is writing there: wait for it, or name another folder'
            ) from None
        yield


def locked(path: pathlib.Path) -> bool:
    """Returns whether a process holds the lock of a folder."""
    try:
        with lock(path):
            return False
    except FileNotFoundError:
        return False
    except ConfigError:
        return True


def name_of(words: str, depends: Any, limit: int = 40) -> str:
    """Returns a name for a folder: readable words and a hash, different for different `depends`.

    The words alone are not enough: they lose punctuation, and some file systems do not tell upper from lower case.

    Args:
      words: what a reader looks for. Anything but letters and digits becomes a hyphen.
      depends: plain JSON values, all that the content of the folder depends on.
      limit: characters of words that are kept.
    """
    readable = '-'.join(re.findall(r'\w+', words))[:limit].strip('-')
    return f'{readable}-{hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:8]}'.lstrip('-')
