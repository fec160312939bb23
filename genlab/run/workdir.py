"""The folder of a run: its config, its lock, and the environment it ran in."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

import jax
from ml_collections import ConfigDict

from genlab.config import at, defaults, differences, with_ramp_steps
from genlab.errors import ConfigError
from genlab.run import command, stops
from genlab.run.files import remote, write_json

# Keys that may change between two commands on one run: none of them changes the training curve. `claim` refuses another
# train.steps where it does.
FREE = (
    'placement',
    'tensor',
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
    'train.wandb',
)
PLACES = ('data.dir', 'data.images_dir')  # folders of data, which may move


def create(path: pathlib.Path) -> None:
    """Creates the folder; raises ConfigError with the reason if it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / 'samples').mkdir(exist_ok=True)
        if not remote(path) and not os.access(path, os.W_OK):
            raise PermissionError(13, 'Permission denied')
    except OSError as error:
        raise ConfigError(f'--workdir={path}: cannot write there ({error.strerror}): name another folder') from None


def claim(path: pathlib.Path, config: ConfigDict) -> None:
    """Writes config.json; raises ConfigError if the folder holds a run of another config, or one without a config.

    Folders of the data stay as recorded until `claim_data` has compared the data. A run that stopped before its first
    line of the log and its first checkpoint has nothing to lose: another config replaces it, and what it recorded.
    """
    content = plain(config)
    begun = (path / 'metrics.jsonl').exists() or bool(stops.checkpoints(path))
    if not begun:
        for name in (RECORD, FILES, FACTS):
            (path / name).unlink(missing_ok=True)
    if begun and (path / 'config.json').exists():
        if keys := compare(path, config):
            raise ConfigError(
                f'--workdir={path}: it holds a run of another config (different {", ".join(keys)}): '
                'use that config, or name another folder'
            )
        check_ramps(*_comparable(path, config))
        stops.record_changes(path, read(path), content, (*FREE, *PLACES))
        for key in PLACES:
            content['data'][key.removeprefix('data.')] = at(read(path), key) or ''
    elif steps := stops.checkpoints(path):
        raise ConfigError(
            f'--workdir={path}: it holds checkpoint {steps[-1]} but no config.json: put back the config of the run, '
            'or name another folder'
        )
    write_json(path / 'config.json', content)


def compare(path: pathlib.Path, config: ConfigDict) -> list[str]:
    """Returns the keys in which the run of the folder differs from the config, except those that may change.

    These are the keys in `FREE`. A ramp() without steps equals one that ends with the run of the folder. The
    folders in `PLACES` are free too if the run has a record of its data, with which `check_data` compares. After a stop
    at a number that is not finite, learning rates and clipping are free until there is a later checkpoint.
    """
    free = (*FREE, *PLACES) if (path / RECORD).exists() or not moved(path, config) else FREE
    old, new = _comparable(path, config)
    steps = at(old, 'train.steps') or 0
    return differences(with_ramp_steps(old, steps), with_ramp_steps(new, steps), free)


def _comparable(path: pathlib.Path, config: ConfigDict) -> tuple[dict, dict]:
    """Returns the plain config of the run in the folder, and of `config`, without what a stop makes free."""
    old, new = read(path), plain(config)
    return (stops.without_cures(old), stops.without_cures(new)) if stops.unanswered(path) else (old, new)


def check_ramps(run: dict, config: dict) -> None:
    """Raises ConfigError if another `train.steps` moves a ramp() that lasts to the end of the run.

    run, config: plain values of the run in a folder, and of the config that continues it, which `compare` found equal.
    """
    before, now = (at(one, 'train.steps') or 0 for one in (run, config))
    old = with_ramp_steps(run, before)
    if moved := differences(old, with_ramp_steps(config, now), (*FREE, *PLACES)):
        kept = ' '.join(f'--config.{key}={at(old, key)}' for key in moved if key.endswith('.steps'))
        raise ConfigError(
            f'config.train.steps={now}: {", ".join(key.removesuffix(".steps") for key in moved)} would change, because '
            f'a ramp without steps lasts as long as the run, which was {before}: give {kept or "the ramps steps"}, or '
            'name another folder'
        )


def moved(path: pathlib.Path, config: ConfigDict) -> bool:
    """Returns whether the config names another folder of data than the run does."""

    def place(name: str) -> str:
        return os.path.realpath(os.path.expanduser(name)) if name else ''

    return (path / 'config.json').exists() and any(
        place(at(read(path), key) or '') != place(at(config, key)) for key in PLACES
    )


def read(path: pathlib.Path, flag: str = '--workdir') -> dict:
    """Returns the config of the run in a folder as nested plain values. Errors name the folder by `flag`.

    Common keys that came after that run have their defaults.
    """
    try:
        found = dict(json.loads((path / 'config.json').read_text()))
    except FileNotFoundError:
        raise ConfigError(
            f'{flag}={path}: there is no run (no config.json): train it first, or name its folder'
        ) from None
    except (ValueError, TypeError):
        raise ConfigError(
            f'{path}/config.json is damaged: put the config there as JSON, or name another folder'
        ) from None
    for part, common in plain(defaults(found.get('experiment', ''))).items():
        found[part] = {**common, **found.get(part, {})} if isinstance(common, dict) else found.get(part, common)
    return found


RECORD = 'data.json'  # record of the data: see `genlab.run.record`
FILES = 'data.npz'  # next to it: the files of the data, if they have any
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
        # Raises if this file belongs to no commit: an installation may be inside another checkout.
        git('ls-files', '--error-unmatch', pathlib.Path(__file__).name)
        return git('rev-parse', 'HEAD') + ('+' if git('status', '--porcelain', '--untracked-files=no') else '')
    except (OSError, subprocess.SubprocessError):
        return None
