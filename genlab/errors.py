"""Errors that a person can act on: `main` prints one line on stderr and exits with the code of the error."""

import difflib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

PREEMPTED = 42  # exit code of a run that saved and stopped because it was asked to: run the same command again


class UserError(Exception):
    """Something a person can put right; the message is one line that says what to do."""

    exit_code = 1


class ConfigError(UserError):
    """The config, a flag or the workdir cannot work as given: running the same command again will not help."""

    exit_code = 2


def meant(name: object, known: Iterable[str]) -> str:
    """' (did you mean ...?)' with the nearest of the names known; nothing where none is near."""
    near = difflib.get_close_matches(str(name), known, 1)
    return f' (did you mean {near[0]}?)' if near else ''


def choose(table: Mapping[str, Any], name: str, where: str) -> Any:
    """Returns table[name]. Raises ConfigError, with the names that there are, for an unknown name that `where` holds."""
    if name not in table:
        raise ConfigError(f'{where}={name!r}: choose one of {", ".join(table)}{meant(name, table)}')
    return table[name]


def warn(message: str) -> None:
    """One line on stderr; the run goes on."""
    print(f'genlab: warning: {message}', file=sys.stderr)
