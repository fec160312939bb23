"""The folder of a run: its config, its data, its lock, and the environment it ran in."""

import contextlib
import datetime
import fcntl
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import data
from genlab.config import at, differences, with_ramp_steps
from genlab.data import fingerprint
from genlab.errors import ConfigError, UserError, warn
from genlab.run import command
from genlab.run.files import write_atomically

# Keys that may change between two commands on one run: none of them changes the training curve. `claim` refuses another
# train.steps where it does.
FREE = (
    'placement',
    'checkpoint',
    'sample',
    'evaluate',
    'explore',
    'data.resident',
    'data.workers',
    'train.steps',
    'train.log_every',
    'train.sample_every',
    'train.evaluate_every',
    'train.steps_per_call',
    'train.on_nan',
    'train.heartbeat',
)

STOPS = 'nan.json'  # stops at numbers that are not finite, and what was changed after them


def create(path: pathlib.Path) -> None:
    """Creates the folder; raises ConfigError with the reason if it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / 'samples').mkdir(exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, 'Permission denied')
    except OSError as error:
        raise ConfigError(f'--workdir={path}: cannot write there ({error.strerror}): name another folder') from None


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


def claim(path: pathlib.Path, config: ConfigDict) -> None:
    """Writes config.json; raises ConfigError if the folder holds a run of another config, or one without a config.

    The folder of the data stays as recorded until `claim_data` has compared the data.
    """
    content = plain(config)
    if (path / 'config.json').exists():
        if keys := compare(path, config):
            raise ConfigError(
                f'--workdir={path}: it holds a run of another config; {", ".join(keys)} differ: '
                'use that config, or name another folder'
            )
        check_ramps(*_comparable(path, config))
        _record_changes(path, config)
        content['data']['dir'] = at(read(path), 'data.dir') or ''
    elif steps := _checkpoints(path):
        raise ConfigError(
            f'--workdir={path}: it holds checkpoint {steps[-1]} but no config.json: put that of the run back, '
            'or name another folder'
        )
    write_json(path / 'config.json', content)


def compare(path: pathlib.Path, config: ConfigDict) -> list[str]:
    """Returns the keys in which the run of the folder differs from the config, except those that may change.

    These are the keys in `FREE`. A ramp() without steps equals one that ends with the run of the folder. The folder of
    the data is free too if the run has a record of its data, with which `check_data` compares. After a stop at a number
    that is not finite, learning rates and clipping are free until a checkpoint lies behind that step.
    """
    free = (*FREE, 'data.dir') if (path / DATA).exists() or not _moved(path, config) else FREE
    old, new = _comparable(path, config)
    steps = at(old, 'train.steps') or 0
    return differences(with_ramp_steps(old, steps), with_ramp_steps(new, steps), free)


def _comparable(path: pathlib.Path, config: ConfigDict) -> tuple[dict, dict]:
    """Returns the plain config of the run in the folder, and of `config`, without what a stop makes free."""
    old, new = read(path), plain(config)
    return (_without_cures(old), _without_cures(new)) if _open_stop(path) else (old, new)


def check_ramps(run: dict, config: dict) -> None:
    """Raises ConfigError if another `train.steps` moves a ramp() that lasts to the end of the run.

    run, config: plain values of the run in a folder, and of the config that continues it, which `compare` found equal.
    """
    before, now = (at(one, 'train.steps') or 0 for one in (run, config))
    old = with_ramp_steps(run, before)
    if moved := differences(old, with_ramp_steps(config, now), FREE):
        kept = ' '.join(f'--config.{key}={at(old, key)}' for key in moved if key.endswith('.steps'))
        raise ConfigError(
            f'config.train.steps={now}: {", ".join(key.removesuffix(".steps") for key in moved)} would change, because '
            f'a ramp without steps lasts as long as the run, which was {before}: give {kept or "the ramps steps"}, or '
            'name another folder'
        )


def record_stop(path: pathlib.Path, step: int, reason: str) -> None:
    """Adds a stop at a number that is not finite to nan.json; a disk that is full does not hide the reason."""
    with contextlib.suppress(OSError):
        write_json(path / STOPS, {'stops': [*_stops(path), {'step': step, 'reason': reason}]})


def _stops(path: pathlib.Path) -> list[dict]:
    """Returns the recorded stops, none if the file is missing or damaged."""
    try:
        return [stop for stop in json.loads((path / STOPS).read_text())['stops'] if isinstance(stop['step'], int)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _open_stop(path: pathlib.Path) -> dict | None:
    """Returns the last stop, if no checkpoint lies behind its step yet."""
    stops = _stops(path)
    return stops[-1] if stops and max(_checkpoints(path), default=0) <= stops[-1]['step'] else None


def _checkpoints(path: pathlib.Path) -> list[int]:
    """Returns the steps of the checkpoints in the folder of a run, in order."""
    return sorted(int(folder.name) for folder in path.glob('checkpoints/[0-9]*') if folder.name.isdecimal())


def _without_cures(config: dict) -> dict:
    """Returns a plain config without what may change after a stop.

    A learning rate keeps its kind, a number or a ramp: the state of the optimizer depends on it.
    """

    def cured(key: str, value: Any) -> Any:
        if key.endswith('.clip'):
            return None
        kind = sorted(value) if isinstance(value, dict) else 'number'
        return kind if key.endswith('.learning_rate') else value

    def cure(values: dict, prefix: str = '') -> dict:
        return {key: cured(f'{prefix}.{key}', value) for key, value in values.items()}

    phases = [cure(overlay) if isinstance(overlay, dict) else overlay for overlay in config.get('phases') or ()]
    optimizer = {player: cure(options, player) for player, options in config.get('optimizer', {}).items()}
    return {**config, 'phases': phases, 'optimizer': optimizer}


def _record_changes(path: pathlib.Path, config: ConfigDict) -> None:
    """Records in nan.json which values change after a stop: key -> [before, after]."""
    old, new, stop = read(path), plain(config), _open_stop(path)
    if stop and (keys := differences(old, new, (*FREE, 'data.dir'))):
        before = stop.get('changes', {})
        changes = {key: [before.get(key, [at(old, key)])[0], at(new, key)] for key in keys}
        write_json(path / STOPS, {'stops': [*_stops(path)[:-1], {**stop, 'changes': {**before, **changes}}]})


def read(path: pathlib.Path, flag: str = '--workdir') -> dict:
    """Returns the config of the run in a folder as nested plain values. Errors name the folder by `flag`."""
    try:
        return dict(json.loads((path / 'config.json').read_text()))
    except FileNotFoundError:
        raise ConfigError(
            f'{flag}={path}: there is no run (no config.json): train it first, or name its folder'
        ) from None
    except (ValueError, TypeError):
        raise ConfigError(
            f'{path}/config.json is damaged: put the config there as JSON, or name another folder'
        ) from None


DATA, DATA_FILES = 'data.json', 'data.npz'  # the record of the data, and its files if it has any


def claim_data(path: pathlib.Path, config: ConfigDict, train: data.Source, write: bool) -> None:
    """Compares the data with those of the run in a folder, as `check_data`, and records them.

    Args:
      path: the folder.
      config: of the run. Phases may read other data, which are not compared.
      train: the training set of `config.data`.
      write: whether this process writes the record.
    """
    now = fingerprint.record(_splits(config.data, train))
    changes = check_data(path, config, now)
    if not write:
        return
    before = _record(path)
    history = [*before.facts.get('changes', []), *changes] if before else []
    arrays = {f'{split}.{name}': array for split, files in now.files.items() for name, array in files._asdict().items()}
    if arrays:
        content = io.BytesIO()
        np.savez(content, **arrays)
        write_atomically(path / DATA_FILES, content.getvalue())
    write_json(path / DATA, {**now.facts, 'changes': history})
    if (path / 'config.json').exists():
        write_json(path / 'config.json', plain(config))


def check_data(path: pathlib.Path, config: ConfigDict, now: fingerprint.Record | None = None) -> list[str]:
    """Compares the data with those that the run in a folder was trained on; `fingerprint` says what is refused and why.

    Args:
      path: the folder. Without a record of the data nothing is compared.
      config: of the run.
      now: the record of the data as they are; None loads them, and compares nothing if they are not there.

    Returns:
      The differences that were warned of.

    Raises:
      ConfigError: the numbers of classes or words have changed, or another folder does not hold the same data.
    """
    before = _record(path)
    if before is None:
        return []
    if now is None:
        try:
            now = fingerprint.record(_splits(config.data))
        except UserError:  # data that are not there: a command that needs them says so
            return []
    changes = fingerprint.compare(before, now)
    where = f'config.data.dir={config.data.dir}' if config.data.dir else 'the data'
    if changes.meaning:
        raise ConfigError(
            f'{where}: not the data of the run in {path}: {"; ".join(changes.meaning)}: restore them, or name another '
            '--workdir to train on the new data'
        )
    if changes.images and _moved(path, config):
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


def _record(path: pathlib.Path) -> fingerprint.Record | None:
    """Returns the record of the data in a folder; None if there is none."""
    try:
        facts = json.loads((path / DATA).read_text())
        if not {'classes', 'vocabulary', 'fields', 'splits'} <= {*facts}:
            raise ValueError('incomplete')
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise ConfigError(f'{path / DATA} is damaged: remove it to record the data as they are now') from None
    files = {}
    try:
        with np.load(path / DATA_FILES, allow_pickle=False) as arrays:
            for split in {name.rpartition('.')[0] for name in arrays}:
                files[split] = fingerprint.Files(*(arrays[f'{split}.{name}'] for name in fingerprint.Files._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        files = {}  # the numbers of changed files are lost, the fingerprints are not
    return fingerprint.Record(facts, files)


def _moved(path: pathlib.Path, config: ConfigDict) -> bool:
    """Returns whether the config names another folder of data than the run does."""

    def place(name: str) -> str:
        return os.path.realpath(os.path.expanduser(name)) if name else ''

    return (path / 'config.json').exists() and place(at(read(path), 'data.dir') or '') != place(config.data.dir)


FACTS = 'facts.json'  # dotted key of the config -> value that training took from its data


def with_facts(folder: pathlib.Path, config: ConfigDict) -> ConfigDict:
    """Returns the config with the facts of the data that the run in a folder has found, if any."""
    path, config = folder / FACTS, config.copy_and_resolve_references()
    if path.exists():
        with config.ignore_type():  # a number takes the place of 'auto'
            config.update_from_flattened_dict(json.loads(path.read_text()))
    return config


def plain(config: ConfigDict) -> dict:
    """Converts a config to plain values as read back from JSON: tuples become lists."""
    return json.loads(config.to_json_best_effort())


def environment() -> dict[str, Any]:
    """Returns versions, devices, the commit and the command, which the figures of this run depend on."""
    packages = ('genlab', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
    versions = {package: version for package in packages if (version := _version(package))}
    return {
        'python': platform.python_version(),
        'platform': platform.platform(),
        'cores': os.cpu_count(),
        'versions': versions,
        'backend': jax.default_backend(),
        'devices': [str(device) for device in jax.devices()],
        'device_kind': jax.devices()[0].device_kind,
        'processes': jax.process_count(),
        'git_commit': _commit(),
        'command': command.given('genlab.main', sys.orig_argv),
        'started': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    }


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + '\n').encode())


def _version(package: str) -> str | None:
    """Returns the version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Returns the commit of the source tree, with a + if tracked files differ from it; None outside a checkout."""

    def git(*words: str) -> str:
        return subprocess.run(
            ('git', '-C', str(pathlib.Path(__file__).parent), *words),
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()

    try:
        return git('rev-parse', 'HEAD') + ('+' if git('status', '--porcelain', '--untracked-files=no') else '')
    except (OSError, subprocess.SubprocessError):
        return None
