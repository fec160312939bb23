"""The vocabulary of sweeps: pure functions over lists of trials, as scenic and big_vision have them.

A trial is a dict from dotted key of the config to value. A config file defines `get_hyper(hyper)`, or generators by
name, `sweep_NAME(hyper)`, which `--sweep=NAME,NAME` combines by `product`. `hyper` is this module:

    def get_hyper(hyper):
        return hyper.product([hyper.sweep('seed', range(8)), hyper.sweep('model.width', (32, 64))])

A key may begin with `config.`, which is dropped.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from genlab.errors import ConfigError

Trial = dict[str, Any]  # dotted key of the config -> value
Trials = list[Trial]


def sweep(key: str, values: Iterable[Any]) -> Trials:
    """Returns one trial per value of a key."""
    return [{bare(key): value} for value in values]


def fixed(key: str, value: Any, length: int = 1) -> Trials:
    """Returns `length` trials with the same value of a key: 1 for a product, more for a zip."""
    return [{bare(key): value} for _ in range(length)]


def product(parts: Iterable[Trials]) -> Trials:
    """Returns each combination of one trial per part. The last part varies fastest; no parts give one empty trial.

    Raises:
      ConfigError: two parts set the same key.
    """
    return [merged(trials) for trials in itertools.product(*parts)]


def zipit(parts: Iterable[Trials]) -> Trials:
    """Returns trial i of all parts merged, for each i.

    Raises:
      ConfigError: the parts differ in length, or two of them set the same key.
    """
    parts = [list(part) for part in parts]
    if len({len(part) for part in parts}) > 1:
        sizes = ', '.join(f'{len(part)} of {" and ".join(part[0]) if part else "nothing"}' for part in parts)
        raise ConfigError(f'zipit: the parts differ in length ({sizes}): give each the same number of trials')
    return [merged(trials) for trials in zip(*parts)]


def chainit(parts: Iterable[Trials]) -> Trials:
    """Returns the trials of all parts, one part after the other."""
    return [dict(trial) for part in parts for trial in part]


def merged(trials: Sequence[Mapping[str, Any]]) -> Trial:
    """Returns one trial with the keys of all. Raises ConfigError where two of them set the same key."""
    result: Trial = {}
    for trial in trials:
        for key, value in trial.items():
            if bare(key) in result:
                raise ConfigError(f'config.{bare(key)} is set twice: set it in one part of the sweep only')
            result[bare(key)] = value
    return result


def bare(key: str) -> str:
    """Returns a dotted key without its `config.`."""
    if not isinstance(key, str):
        raise ConfigError(f'{key!r}: name a key of the config by a string, such as "train.steps"')
    return key.removeprefix('config.')
