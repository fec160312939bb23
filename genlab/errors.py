"""Errors that the user can correct: `main` prints one line on stderr and exits with the code of the error."""

import difflib
import functools
from collections.abc import Iterable, Mapping
from typing import TypeVar

from genlab.run import terminal

Value = TypeVar('Value')

PREEMPTED = 42  # exit code of a run that a signal or the end of another process stopped: run the same command again


class UserError(Exception):
    """An error that the user can correct; the message is one line that says what to do."""

    exit_code = 1


class ConfigError(UserError):
    """The config, a flag or the workdir cannot work as given: running the same command again will not help."""

    exit_code = 2


def meant(name: object, known: Iterable[str]) -> str:
    """Returns ' (did you mean ...?)' with the nearest known name, or '' where none is near."""
    near = difflib.get_close_matches(str(name), known, 1)
    return f' (did you mean {near[0]}?)' if near else ''


def choose(table: Mapping[str, Value], name: str, where: str) -> Value:
    """Returns `table[name]`.

    Args:
      table: the values to choose from, by name.
      name: the name given in a config or flag.
      where: the dotted key or flag that gave the name.

    Raises:
      ConfigError: the table has no such name; the message lists the names and hints at a near one.
    """
    if name not in table:
        raise ConfigError(f'{where}={name!r}: choose one of {", ".join(table) or "none"}{meant(name, table)}')
    return table[name]


def warn(message: str) -> None:
    """Prints one line on stderr; the run continues."""
    terminal.say(f'genlab: warning: {message}\n')


@functools.cache
def warn_once(message: str) -> None:
    """Prints one line on stderr, once per process: an experiment is built several times in a run."""
    warn(message)
