"""Named choices: an entry of a table together with the options that belong to it, as plain values of a config.

    config.sample.sampler = named('heun', churn=0.2)

Options that are not given have the defaults of the entry. On the command line `--config.sample.sampler=ddim` switches
to another entry with its own defaults, and `--config.sample.sampler.eta=0.5` sets an option. In a config,
`config.sample.update(sampler=named('ddim'))` does the same.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from genlab.errors import ConfigError, choose, meant


class Choice(ConfigDict):
    """A name and the options that belong to it. Another name replaces it with its options, by `update` too.

    `update` of a ConfigDict merges parts, so the new name would keep options of the old one. Options alone, as in
    `config.model.network.update(width=64)`, change the existing choice.
    """

    def __init__(self, initial_dictionary: Mapping[str, Any] | None = None, type_safe: bool = False, **settings: Any):
        super().__init__(initial_dictionary, type_safe, **settings)

    def update(self, *other: Mapping[str, Any], **changes: Any) -> None:
        for new in (*other, changes):
            if new is self:
                continue
            if 'name' in new:
                for key in self.keys():
                    del self[key]
            super().update(new)


def named(name: str, **options: Any) -> Choice:
    """Returns a name and the options that belong to it."""
    return Choice({'name': name, **options})


def is_named(value: object) -> bool:
    """Returns whether a value of a config is a named choice. A part with typed fields, such as `data`, is none."""
    return isinstance(value, ConfigDict) and not value.is_type_safe and isinstance(value.get('name'), str)


def options(chosen: ConfigDict) -> dict[str, Any]:
    """Returns the options of a choice. Lists, as JSON has them, become tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in chosen.items() if key != 'name'}


def build(table: Mapping[str, Callable], chosen: ConfigDict, where: str) -> Any:
    """Calls the chosen entry of a table with its options.

    Args:
      table: name -> a function or class whose parameters are options.
      chosen: a name and options.
      where: the dotted key of the choice, for errors.

    Raises:
      ConfigError: there is no such entry, it has no such option, or an option without a default is missing.
    """
    function = choose(table, chosen.name, where)
    _check(chosen, [*inspect.signature(function).parameters.values()], where)
    return function(**options(chosen))


def bind(table: Mapping[str, Callable], chosen: ConfigDict, where: str) -> Callable:
    """Returns the chosen entry of a table with its options bound.

    Args:
      table: name -> a function whose keyword-only parameters are options.
      chosen: a name and options.
      where: the dotted key of the choice, for errors.

    Raises:
      ConfigError: there is no such entry, it has no such option, or an option without a default is missing.

    >>> table = {'heun': lambda x, *, churn=0.0: x + churn}
    >>> step = bind(table, named('heun', churn=0.5), 'config.sample.sampler')
    >>> step(1.0)
    1.5
    """
    function = choose(table, chosen.name, where)
    parameters = inspect.signature(function).parameters.values()
    _check(chosen, [entry for entry in parameters if entry.kind is entry.KEYWORD_ONLY], where)
    return functools.partial(function, **options(chosen))


def _check(chosen: ConfigDict, parameters: list[inspect.Parameter], where: str) -> None:
    """Raises ConfigError for an option that is not a parameter, or a missing one without a default."""
    known = [entry.name for entry in parameters]
    for name in sorted({*options(chosen)} - {*known}):
        listed = ', '.join(sorted(known)) or 'none'
        raise ConfigError(f'{where}.{name}: {chosen.name} has no such option; it has {listed}{meant(name, known)}')
    for entry in parameters:
        if entry.default is entry.empty and entry.name not in chosen:
            raise ConfigError(f'{where}: {chosen.name} needs {where}.{entry.name}')


def filled(where: str, defaults: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of a family, `defaults` with `changes`.

    Raises:
      ConfigError: a change is not one of the settings; `where` is their dotted key.
    """
    for name in sorted({*changes} - {*defaults}):
        raise ConfigError(
            f'{where}.{name} is not a setting: choose one of {", ".join(defaults)}{meant(name, defaults)}'
        )
    return defaults | changes
