"""Decoded sets on disk, so that the second run starts at once: ~/.cache/genlab/data, or $GENLAB_CACHE.

An entry is a folder of .npy files and a manifest with their checksums. It is written beside its place and renamed, so
it is there whole or not at all; an entry that is damaged is made anew. An empty $GENLAB_CACHE turns the cache off.
"""

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np
from absl import logging

VERSION = 1  # of what is decoded and how: a change of the resize makes the old entries useless


def cached(name, key, make):
    """The arrays {field: [N, ...]} that make() gives, kept under a name and a key of plain values."""
    folder = root()
    if folder is None:
        return make()
    digest = hashlib.sha256(json.dumps([VERSION, key], sort_keys=True).encode()).hexdigest()[:16]
    place = folder / f'{name.replace("/", "-")}-{digest}'
    arrays = _read(place)
    if arrays is None:
        arrays = make()
        _write(place, arrays)
    return arrays


def root():
    """The folder of the cache, or None where $GENLAB_CACHE is empty."""
    chosen = os.environ.get('GENLAB_CACHE')
    if chosen is None:
        return Path.home() / '.cache' / 'genlab' / 'data'
    return Path(chosen).expanduser() if chosen else None


def _read(place):
    """The arrays of an entry, or None where there is none or it is damaged."""
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


def _write(place, arrays):
    """Writes an entry; a disk that is full or read-only costs the cache, not the run."""
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


def _checksum(array):
    return zlib.crc32(np.ascontiguousarray(array))
