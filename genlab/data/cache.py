"""Caches decoded sets on disk, in ~/.cache/genlab/data or $GENLAB_CACHE, so that later runs start faster.

An entry is a folder of .npy files and a manifest with their checksums. It is written to a temporary
folder and renamed, so no entry is incomplete. A damaged entry is decoded again. An empty $GENLAB_CACHE turns the
cache off.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

VERSION = 2  # version of the decoding: increase it when the pixels change, to invalidate old entries


def cached(name: str, key: Any, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the arrays of make() from the cache, or computes and stores them.

    Of several processes that need an entry, one computes it and the others wait. So runs that start together share one
    classifier of evaluation, although a GPU would train a slightly different one each time.

    Args:
        name: start of the entry's name.
        key: plain JSON values that identify the entry.
        make: computes {field: [N, ...]}.

    Returns:
        {field: [N, ...]}.
    """
    folder = root()
    if folder is None:
        return dict(make())
    digest = hashlib.sha256(json.dumps([VERSION, key], sort_keys=True).encode()).hexdigest()[:16]
    place = folder / f'{name.replace("/", "-")}-{digest}'
    arrays = _read(place)
    if arrays is None:
        with _turn(place):
            arrays = _read(place)
            if arrays is None:
                arrays = dict(make())
                _write(place, arrays)
    return arrays


@contextlib.contextmanager
def _turn(place: Path) -> Iterator[None]:
    """Waits until no other process computes an entry. The lock of a process that dies is released.

    Where the folder takes no lock, nothing waits: each process then computes the entry.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(place.parent / f'.{place.name}.lock', 'w'))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def root() -> Path | None:
    """Returns the folder of the cache, or None if $GENLAB_CACHE is empty."""
    chosen = os.environ.get('GENLAB_CACHE')
    if chosen is None:
        return Path.home() / '.cache' / 'genlab' / 'data'
    return Path(chosen).expanduser() if chosen else None


def _read(place: Path) -> dict[str, np.ndarray] | None:
    """Returns the arrays of an entry, or None if it is absent or damaged."""
    try:
        sums = json.loads((place / 'manifest.json').read_text())
        arrays = {field: np.load(place / f'{field}.npy', allow_pickle=False) for field in sums}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        logging.warning('decoding again: the cached %s cannot be read (%s)', place, error)
        return None
    wrong = [field for field in sums if _checksum(arrays[field]) != sums[field]]
    if wrong:
        logging.warning('decoding again: the cached %s has a wrong checksum of %s', place, wrong[0])
        return None
    return arrays


def _write(place: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an entry; a full or read-only disk causes a warning, not an error."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix='.writing-') as parent:
            folder = Path(parent) / 'entry'
            folder.mkdir()
            for field, array in arrays.items():
                np.save(folder / f'{field}.npy', array, allow_pickle=False)
            sums = {field: _checksum(array) for field, array in arrays.items()}
            (folder / 'manifest.json').write_text(json.dumps(sums))
            shutil.rmtree(place, ignore_errors=True)
            folder.rename(place)
    except OSError as error:
        if not place.exists():  # another process may have been faster
            logging.warning('the decoded data is not kept: %s (set GENLAB_CACHE to a folder with room)', error)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)
