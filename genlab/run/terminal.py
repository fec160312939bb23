"""Standard streams whose failure never ends a run: a reader that left, a closed stream, or a full disk."""

import atexit
import os
import sys
from typing import TextIO


def prepare() -> None:
    """Prepares the standard streams of the command.

    A closed stream is opened on /dev/null: otherwise the next file of the run takes its descriptor, and messages of
    libraries are written into that file. Names that are not UTF-8 are printed with escapes.
    """
    for descriptor, name, mode in ((0, 'stdin', 'r'), (1, 'stdout', 'w'), (2, 'stderr', 'w')):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))
    reconfigure = getattr(sys.stdout, 'reconfigure', None)
    if reconfigure:
        reconfigure(errors='backslashreplace')
    atexit.register(say, '', sys.stdout)  # the interpreter would report a reader that left, and exit with 120


def say(text: str, stream: TextIO | None = None) -> bool:
    """Writes text and flushes it. A stream that fails is silenced.

    Args:
      text: with its newline.
      stream: None takes stderr.

    Returns:
      Whether the text was written.
    """
    stream = sys.stderr if stream is None else stream
    if stream is None or stream.closed:
        return False
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        _silence(stream)
        return False
    return True


def show(text: str) -> None:
    """Prints the result of a command on stdout, whether or not it is read."""
    say(f'{text}\n', sys.stdout)


def _silence(stream: TextIO) -> None:
    """Redirects a stream to /dev/null, with what its buffer holds and with what libraries write to its descriptor."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):  # it has no descriptor
        pass
