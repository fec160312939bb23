"""The record of the data that a run was trained on: `genlab.data.fingerprint` says what is compared and why."""

import contextlib
import io
import json
import pathlib
import zipfile

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import data
from genlab.data import fingerprint
from genlab.errors import ConfigError, UserError, warn
from genlab.run import workdir
from genlab.run.files import write_atomically, write_json


def claim(path: pathlib.Path, config: ConfigDict, train: data.Source, write: bool) -> None:
    """Compares the data with those of the run in a folder, as `check` does, and records them.

    Args:
      path: the folder.
      config: config of the run. Phases may read other data, which are not compared.
      train: the training set of `config.data`.
      write: whether this process writes the record.
    """
    now = fingerprint.record(_splits(config.data, train))
    changes = check(path, config, now)
    if not write:
        return
    before = _read(path)
    history = [*before.facts.get('changes', []), *changes] if before else []
    arrays = {f'{split}.{name}': array for split, files in now.files.items() for name, array in files._asdict().items()}
    if arrays:
        content = io.BytesIO()
        np.savez(content, **arrays)
        write_atomically(path / workdir.FILES, content.getvalue())
    write_json(path / workdir.RECORD, {**now.facts, 'changes': history})
    if (path / 'config.json').exists():
        write_json(path / 'config.json', workdir.plain(config))


def check(path: pathlib.Path, config: ConfigDict, now: fingerprint.Record | None = None) -> list[str]:
    """Compares the data with those that the run in a folder was trained on; `fingerprint` says what is refused and why.

    Args:
      path: the folder. Without a record of the data nothing is compared.
      config: config of the run.
      now: the record of the data as they are; None loads them, and compares nothing if they are missing.

    Returns:
      The differences that were warned of.

    Raises:
      ConfigError: the numbers of classes or words have changed, or another folder does not hold the same data.
    """
    before = _read(path)
    if before is None:
        return []
    if now is None:
        try:
            now = fingerprint.record(_splits(config.data))
        except UserError:  # missing data: a command that needs them says so
            return []
    changes = fingerprint.compare(before, now)
    where = f'config.data.dir={config.data.dir}' if config.data.dir else 'the data'
    if changes.meaning:
        raise ConfigError(
            f'{where}: not the data of the run in {path}: {"; ".join(changes.meaning)}: restore them, or name another '
            '--workdir to train on the new data'
        )
    if changes.images and workdir.moved(path, config):
        raise ConfigError(
            f'{where}: not the data of the run in {path}: {"; ".join(changes.images)}: give a folder with the same '
            'files, or name another --workdir'
        )
    if changes.images and jax.process_index() == 0:
        warn(
            f'{where}: the data have changed since the run in {path} recorded them: {"; ".join(changes.images)}; '
            'figures from before and after do not compare'
        )
    return changes.images


def _splits(config_data: ConfigDict, train: data.Source | None = None) -> dict[str, data.Source]:
    """Returns the training set, and the held-out set if there is one."""
    sources = {'train': data.load(config_data, 'train') if train is None else train}
    with contextlib.suppress(UserError):  # a model can train without one
        sources['test'] = data.load(config_data, 'test')
    return sources


def _read(path: pathlib.Path) -> fingerprint.Record | None:
    """Returns the record of the data in a folder; None if there is none."""
    try:
        facts = json.loads((path / workdir.RECORD).read_text())
        if not {'classes', 'vocabulary', 'fields', 'splits'} <= {*facts}:
            raise ValueError('incomplete')
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise ConfigError(f'{path / workdir.RECORD} is damaged: remove it to record the data as they are now') from None
    files = {}
    try:
        with np.load(io.BytesIO((path / workdir.FILES).read_bytes()), allow_pickle=False) as arrays:
            for split in {name.rpartition('.')[0] for name in arrays}:
                files[split] = fingerprint.Files(*(arrays[f'{split}.{name}'] for name in fingerprint.Files._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        files = {}  # the numbers of changed files are lost, the fingerprints are not
    return fingerprint.Record(facts, files)
