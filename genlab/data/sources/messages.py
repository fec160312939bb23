"""Messages on stderr about files: each line once per process, because a run loads a folder many times."""

import functools
import sys
from collections.abc import Sequence

NAMED = 3  # files named in a line; the rest are counted


@functools.cache
def say(line: str) -> None:
    """Prints a line on stderr unless this process has printed it before."""
    print(f'genlab: {printable(line)}', file=sys.stderr)


def printable(name: str) -> str:
    r"""Escapes the bytes of a file name that are not UTF-8, as in `\xff`, so that any log or table can hold it."""
    return name.encode(errors='surrogateescape').decode(errors='backslashreplace')


def some(names: Sequence[str]) -> str:
    """Joins the first names: 'a, b, c, ...'."""
    return printable(', '.join(names[:NAMED]) + (', ...' if len(names) > NAMED else ''))
