"""Stops at numbers that are not finite: what a run records of them, and what it may change afterwards."""

import contextlib
import json
import pathlib
from typing import Any

from genlab.config import at, differences
from genlab.run.files import write_json

STOPS = 'nan.json'  # in the folder of a run: the stops, and what was changed after them


def record(path: pathlib.Path, step: int, reason: str) -> None:
    """Adds a stop at a number that is not finite to nan.json; a disk that is full does not hide the reason."""
    with contextlib.suppress(OSError):
        write_json(path / STOPS, {'stops': [*_stops(path), {'step': step, 'reason': reason}]})


def _stops(path: pathlib.Path) -> list[dict]:
    """Returns the recorded stops, none if the file is missing or damaged."""
    try:
        return [stop for stop in json.loads((path / STOPS).read_text())['stops'] if isinstance(stop['step'], int)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def unanswered(path: pathlib.Path) -> dict | None:
    """Returns the last stop, if there is no later checkpoint yet."""
    stops = _stops(path)
    return stops[-1] if stops and max(checkpoints(path), default=0) <= stops[-1]['step'] else None


def without_cures(config: dict) -> dict:
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


def record_changes(path: pathlib.Path, old: dict, new: dict, free: tuple[str, ...]) -> None:
    """Records in nan.json which values change after a stop: key -> [before, after].

    Args:
      path: the folder.
      old: plain config of the run.
      new: plain config that continues it.
      free: keys that may change at any time.
    """
    stop = unanswered(path)
    if stop and (keys := differences(old, new, free)):
        before = stop.get('changes', {})
        changes = {key: [before.get(key, [at(old, key)])[0], at(new, key)] for key in keys}
        write_json(path / STOPS, {'stops': [*_stops(path)[:-1], {**stop, 'changes': {**before, **changes}}]})


def checkpoints(path: pathlib.Path) -> list[int]:
    """Returns the steps of the checkpoints in the folder of a run, in order."""
    return sorted(int(folder.name) for folder in path.glob('checkpoints/[0-9]*') if folder.name.isdecimal())
