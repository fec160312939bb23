"""The folder of a run: its config, its lock, and the environment it ran in."""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from genlab.config import differences
from genlab.errors import ConfigError
from genlab.run import command
from genlab.run.files import write_atomically

# Keys that may change between two commands on one run: none of them changes the training curve.
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
)


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
    """Writes config.json; raises ConfigError if the folder holds a run of another config."""
    if (path / 'config.json').exists() and (keys := compare(path, config)):
        raise ConfigError(
            f'--workdir={path}: it holds a run of another config; {", ".join(keys)} differ: '
            'use that config, or name another folder'
        )
    write_json(path / 'config.json', plain(config))


def compare(path: pathlib.Path, config: ConfigDict) -> list[str]:
    """Returns the keys in which the run of the folder differs from the config, except those in `FREE`."""
    return differences(read(path), plain(config), FREE)


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


FACTS = 'facts.json'  # dotted key of the config -> value that training measured on its data


def with_facts(folder: pathlib.Path, config: ConfigDict) -> ConfigDict:
    """Returns the config with the facts of the data that the run in a folder has measured, if any."""
    path, config = folder / FACTS, config.copy_and_resolve_references()
    if path.exists():
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
