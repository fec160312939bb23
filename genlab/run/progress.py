"""A progress line on the terminal."""

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from genlab.run import terminal


class Progress:
    """Shows the progress of a loop on one line: step, images per second, remaining time, and the metrics that fit.

    On a terminal the line is rewritten in place. Elsewhere (a file, a batch job) a new line is printed at most every
    `interval` seconds, and at the end. A stream that fails, such as a pipe whose reader left, is given up. Speed and
    remaining time are measured from the first update of this process. So they exclude compilation and the steps before
    a resume.

    Args:
      total: steps in all.
      start: the step to start from.
      label: the name of the loop, e.g. 'train'.
      examples: images per step; 0 shows the speed in steps per second.
      stream: where to write; None: stderr.
      interval: seconds between lines if the stream is not a terminal.
      enabled: False prints nothing.
      clock: returns the time in seconds.

    Example:
      with Progress(1000, examples=64) as progress:
          for step in range(1, 1001):
              progress.update(step, {'loss': 0.5})
    """

    def __init__(
        self,
        total: int,
        start: int = 0,
        *,
        label: str = 'train',
        examples: int = 0,
        stream: TextIO | None = None,
        interval: float = 30.0,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total = total
        self._label = label
        self._examples = examples
        self._clock = clock
        self._stream = sys.stderr if stream is None else stream
        self._enabled = enabled and self._stream is not None and not self._stream.closed
        self._live = self._enabled and self._stream.isatty()
        self._interval = 0.1 if self._live else interval
        self._step = start
        self._metrics: Mapping[str, Any] = {}
        self._began = clock()
        self._first: tuple[int, float] | None = None  # (step, time) of the first update
        self._shown: float | None = None  # time of the last line
        self._open = False  # whether the cursor is at the end of a line that may be rewritten

    def update(self, step: int, metrics: Mapping[str, Any] | None = None) -> None:
        """Reports the last finished step, and {name: number} if there are new metrics."""
        if not self._enabled:
            return
        now = self._clock()
        self._first = self._first or (step, now)
        self._step, self._metrics = step, metrics or self._metrics
        if self._shown is None or now - self._shown >= self._interval or step >= self._total:
            self._shown = now
            self._show(self.line(now))

    def line(self, now: float) -> str:
        """Returns the text of the line at time `now`, fitted to the width of the terminal."""
        width, head = self._width(), '  '.join(self._head(now))
        # Full names if they fit, else players by first letter, else fewer metrics.
        for names in (list(self._metrics), _initials(self._metrics)):
            parts = [f'{name} {_brief(value)}' for name, value in zip(names, self._metrics.values())]
            if len('  '.join([head] + parts)) <= width:
                break
        while parts and len('  '.join([head] + parts)) > width:
            parts.pop()
        return '  '.join([head] + parts)[:width]

    def _head(self, now: float) -> list[str]:
        """Returns the parts before the metrics: step, share, speed and remaining time."""
        first_step, first_time = self._first or (self._step, now)
        parts = [f'{self._label} {self._step:,}/{self._total:,}', f'{self._step / max(self._total, 1):.0%}']
        steps, seconds = self._step - first_step, now - first_time
        if steps > 0 and seconds > 0:
            unit = 'images/s' if self._examples else 'steps/s'
            parts.append(f'{_brief(steps / seconds * (self._examples or 1))} {unit}')
            parts.append(f'ETA {_clock_face((self._total - self._step) * seconds / steps)}')
        if self._step >= self._total:
            parts[-1] = f'took {_clock_face(now - self._began)}'
        return parts

    def note(self, text: str) -> None:
        """Prints a separate line above the progress line."""
        if self._enabled:
            self._show(text, keep=True)

    @contextmanager
    def timed(self, text: str) -> Iterator[None]:
        """Announces a slow operation, then prints its duration: `with progress.timed('compiling the step'):`."""
        began = self._clock()
        if self._enabled:
            self._show(f'{text} ...')
        try:
            yield
        finally:
            self.note(f'{text}: {self._clock() - began:.1f} s')

    def close(self) -> None:
        """Ends the line; later output starts on a new one."""
        if self._open:
            terminal.say('\n', self._stream)
        self._open = False

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _show(self, text: str, keep: bool = False) -> None:
        """Prints a line. On a terminal the next line replaces it unless `keep` is set."""
        rewrite = '\r\x1b[K' if self._open else ''  # return, then erase to the end of the line
        self._open = self._live and not keep
        written = terminal.say(rewrite + text + ('' if self._open else '\n'), self._stream)
        self._enabled = self._enabled and written

    def _width(self) -> int:
        """Returns the columns of the terminal minus one, because a full line would wrap; 200 without a terminal."""
        if not self._live:
            return 200
        try:
            return max(os.get_terminal_size(self._stream.fileno()).columns - 1, 20)
        except (OSError, ValueError):
            return 79


def _initials(names: Iterable[str]) -> list[str]:
    """Shortens 'generator/adversarial' to 'g/adversarial' if the names stay distinct."""
    names = list(names)
    short = [name[0] + name[name.index('/') :] if '/' in name[1:] else name for name in names]
    return short if len(set(short)) == len(short) else names


def _brief(number: Any) -> str:
    """Formats a number in about five characters: 0.00012, 0.693, 12.3, 1,234."""
    value = float(number)
    return f'{value:,.0f}' if math.isfinite(value) and abs(value) >= 1000 else f'{value:.3g}'


def _clock_face(seconds: float) -> str:
    """Formats seconds as 0:42, 12:05 or 3:02:11."""
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
