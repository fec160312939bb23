"""Paths on this machine and in buckets, atomic writes, folders that start empty, locks, and names of files."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import pathlib
import re
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

from genlab.errors import ConfigError

PAUSE = 30.0  # seconds between two uploads of a file that grows, at least
SHARE = 20  # its uploads take at most one part in so many of the time


def path_of(name: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path of a file or a folder on this machine, or in a bucket where the name is a URL.

    The path of a URL, such as gs://bucket/runs, is an `etils.epath.Path`. It has the methods of `pathlib.Path` except
    `absolute`, `stat` and patterns with `**`.

    Raises:
      ConfigError: no installed package reads such URLs.
    """
    text = os.fspath(name)
    if not remote(text):
        return pathlib.Path(text).expanduser()
    import fsspec
    from etils import epath

    scheme = text.partition('://')[0]
    try:
        path = epath.Path(text)
        fsspec.get_filesystem_class(scheme)
    except KeyError:
        raise ConfigError(f'{text}: there is no {scheme}://: give a folder, gs://, s3://, az:// or hf://') from None
    except (ImportError, ValueError) as error:
        raise ConfigError(f'{text}: {scheme}:// needs another package: {error}') from None
    # Other processes write there too, and tensorstore does in this one: a list that is kept would be out of date.
    fsspec.config.conf.setdefault(scheme, {}).setdefault('use_listings_cache', False)
    return cast(pathlib.Path, path)


def remote(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is a URL."""
    return '://' in os.fspath(path)


def modified(path: pathlib.Path) -> float:
    """Returns when a file was written, in seconds of the clock that its store has."""
    found: Any = path.stat()
    return found.mtime if remote(path) else found.st_mtime_ns / 1e9


def files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the files of a folder and of those within, sorted."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from files_below(path)
        else:
            yield path


def growing(path: pathlib.Path) -> IO[bytes]:
    """Opens a file for reading and appending; makes its folder."""
    if remote(path):
        return _Uploaded(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, 'ab+')


class _Uploaded(io.BytesIO):
    """A file that grows in a store without appending: it is written again as a whole, now and then and at the end."""

    def __init__(self, path: pathlib.Path):
        super().__init__(path.read_bytes() if path.exists() else b'')
        self.seek(0, io.SEEK_END)
        self._path, self._due = path, time.monotonic() + PAUSE

    def flush(self) -> None:
        if time.monotonic() >= self._due:
            self._upload()

    def close(self) -> None:
        if not self.closed:
            self._upload()
            super().close()

    def _upload(self) -> None:
        began = time.monotonic()
        write_atomically(self._path, self.getvalue())
        ended = time.monotonic()
        self._due = ended + max(PAUSE, SHARE * (ended - began))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    r"""Writes text as UTF-8, atomically. A byte of a file's name that is not UTF-8 becomes e.g. `\udcff`."""
    write_atomically(path, text.encode('utf-8', 'backslashreplace'))


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + '\n').encode())


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to `path` so that a reader sees the old file or the new one, never a part."""
    if remote(path):  # an object appears once it is complete
        path_of(path).write_bytes(data)
        return
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
      patterns: patterns of the names that are removed, e.g. '*.png'.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()


@contextlib.contextmanager
def lock(path: pathlib.Path) -> Iterator[None]:
    """Locks the folder against other processes. The operating system releases the lock when the process ends.

    A bucket has no locks: there nothing is locked.
    """
    if remote(path):
        yield
        return
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
