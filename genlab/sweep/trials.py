"""Trials of a sweep: their ids, their folders, their commands, and the record of the sweep."""

import json
import os
import pathlib
import re
import shlex
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from genlab.errors import ConfigError
from genlab.run.files import modified, name_of, write_json
from genlab.sweep import hyper

RECORD = 'sweep.json'  # in the folder of a sweep
WORDS = 60  # characters of an id that are readable


class Trial(NamedTuple):
    """One run of a sweep."""

    id: str  # the name of its folder
    overrides: dict[str, Any]  # dotted key -> value, sorted by key
    steps: int  # train.steps of its config
    evaluated: bool  # whether its last step is evaluated
    before: dict[str, Any]  # the values of the same keys without the sweep
    call: int = 1  # train.steps_per_call of its config
    stretched: bool = False  # whether a ramp() lasts to the end of the run


class Layout(NamedTuple):
    """How the processes of one trial run."""

    processes: int = 1
    devices: int = 0  # virtual devices per process on a CPU; 0: as the platform has them
    vmap: int = 1  # most trials that are trained as one program


class Sweep(NamedTuple):
    """What the trials of a sweep share."""

    config: str  # the value of --config
    names: str  # the value of --sweep
    arguments: list[str]  # --config.key=value of all trials
    folder: pathlib.Path
    layout: Layout = Layout()


class Command(NamedTuple):
    """A process as it is started: `env NAME=value ... word word ...`."""

    words: list[str]
    environment: dict[str, str]  # what is added

    def shell(self) -> str:
        """Returns the command quoted for a shell."""
        added = [f'{name}={shlex.quote(value)}' for name, value in self.environment.items()]
        return ' '.join([*added, shlex.join(self.words)])


def number(overrides: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns id -> overrides sorted by key, in the given order.

    Raises:
      ConfigError: two trials are equal, or there is none.
    """
    found: dict[str, dict[str, Any]] = {}
    for trial in overrides:
        trial = dict(sorted(hyper.merged([trial]).items()))
        if (name := identify(trial)) in found:
            raise ConfigError(f'the trial {describe(trial)} occurs twice in the sweep: give each trial once')
        found[name] = trial
    if not found:
        raise ConfigError('the sweep has no trials: give each part at least one value')
    return found


def identify(overrides: Mapping[str, Any]) -> str:
    """Returns the id of a trial: readable words, and a hash of the overrides. Their order does not matter."""
    content = {key: overrides[key] for key in sorted(overrides)}
    words = dict.fromkeys(f'{key.rpartition(".")[2]} {_readable(value)}' for key, value in content.items())
    return name_of(' '.join(words) or 'base', content, WORDS)


def _readable(value: Any) -> str:
    return value.replace('.', '_') if isinstance(value, str) else re.sub(r'\.(?=\d)', '_', repr(value))


def describe(overrides: Mapping[str, Any]) -> str:
    """Formats overrides as one line."""
    return ' '.join(f'{key}={value}' for key, value in overrides.items()) or '(no overrides)'


def argument(key: str, value: Any) -> str:
    """Returns the argument of the command that sets a key: --config.key=value."""
    return f'--config.{key}={value if isinstance(value, str) else repr(value)}'


def port(name: str) -> int:
    """Returns the port of the first process of a trial, the same each time."""
    return 20_000 + zlib.crc32(name.encode()) % 10_000


def commands(sweep: Sweep, trial: Trial) -> list[Command]:
    """Returns the command of each process of a trial on this machine."""
    layout, words = sweep.layout, [sys.executable, '-m', 'genlab.main', f'--config={sweep.config}']
    words += [f'--workdir={sweep.folder / trial.id}', *sweep.arguments]
    words += [argument(key, value) for key, value in trial.overrides.items()]
    environment = {}
    if layout.devices:
        flags = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={layout.devices}'
        environment['XLA_FLAGS'] = flags.strip()
    if layout.processes == 1:
        return [Command(words, environment)]
    return [
        Command([*words, *together('localhost', port(trial.id), layout.processes, str(number))], environment)
        for number in range(layout.processes)
    ]


def together(host: str, port: int, processes: int, number: str) -> list[str]:
    """Returns the arguments by which the processes of a run find each other."""
    return [f'--coordinator={host}:{port}', f'--processes={processes}', f'--process_id={number}']


def newest(folder: pathlib.Path) -> int:
    """Returns the step of the newest checkpoint of a run, -1 without one."""
    steps = (int(path.name) for path in folder.glob('checkpoints/[0-9]*') if path.name.isdecimal())
    return max(steps, default=-1)


def complete(folder: pathlib.Path, trial: Trial) -> bool:
    """Returns whether the folder of a run holds all that its command writes.

    It holds the checkpoint of the last step, the evaluation of that step if there is one, and a report, which is
    written last. A report older than the metrics belongs to a shorter run.
    """
    try:
        if newest(folder) != trial.steps:
            return False
        if trial.evaluated and json.loads((folder / 'evaluation.json').read_text()).get('step') != trial.steps:
            return False
        return modified(folder / 'report.html') >= modified(folder / 'metrics.jsonl')
    except (OSError, ValueError, AttributeError):
        return False


def check(sweep: Sweep) -> None:
    """Raises ConfigError where the folder holds a sweep of another config, or with other shared arguments."""
    before, folder = read(sweep.folder), sweep.folder
    for name, value in {'config': sweep.config, 'arguments': sweep.arguments}.items():
        if before and before.get(name) != value:
            raise ConfigError(
                f'--workdir={folder}: it holds a sweep with {name} {before.get(name)!r}, not {value!r}: give the same, '
                'or name another folder'
            )


def record(sweep: Sweep, trials: Sequence[Trial]) -> None:
    """Writes sweep.json. Trials of an earlier command that this one does not name stay in the record."""
    entries = dict(read(sweep.folder).get('trials', {}))
    for trial in trials:
        old = entries.get(trial.id, {})
        entries[trial.id] = {
            'overrides': trial.overrides,
            'before': trial.before,
            'steps': trial.steps,
            'commands': [command.shell() for command in commands(sweep, trial)],
            'state': old.get('state', 'missing'),
            'reason': old.get('reason', ''),
        }
    shared = {'config': sweep.config, 'arguments': sweep.arguments, 'sweep': sweep.names, **sweep.layout._asdict()}
    write_json(sweep.folder / RECORD, {**shared, 'trials': entries})


def note(folder: pathlib.Path, states: Mapping[str, tuple[str, str]]) -> None:
    """Writes the states of trials into sweep.json: id -> (state, reason)."""
    content = read(folder)
    for name, (state, reason) in states.items():
        content['trials'][name] |= {'state': state, 'reason': reason}
    write_json(folder / RECORD, content)


def read(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the content of sweep.json, {} without one."""
    try:
        return dict(json.loads((folder / RECORD).read_text()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError):
        raise ConfigError(f'{folder / RECORD} is damaged: remove it; the runs next to it stay') from None
