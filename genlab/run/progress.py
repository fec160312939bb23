"""How far a loop is, on one line of the terminal."""

import math
import os
import sys
import time
from contextlib import contextmanager


class Progress:
    """How far a loop is, on one line: step, images per second, time to go, and the metrics that fit.

    On a terminal the line rewrites itself; elsewhere (a file, a batch job) a plain line appears at most every
    `interval` seconds, and at the end. Speed and time to go are measured on this process alone: from its first update,
    so that neither the steps before a resume nor the compilation count.
    total, start: steps; examples: images a step, 0 to leave the speed in steps; label: what the loop does.
    """

    def __init__(
        self,
        total,
        start=0,
        *,
        label='train',
        examples=0,
        stream=None,
        interval=30.0,
        enabled=True,
        clock=time.monotonic,
    ):
        self._total, self._label, self._examples, self._clock = total, label, examples, clock
        self._stream = sys.stderr if stream is None else stream
        self._enabled = enabled
        self._live = self._stream.isatty()
        self._interval = 0.1 if self._live else interval
        self._step, self._metrics = start, {}
        self._began, self._first, self._shown = clock(), None, None  # times; first: (step, time) of the first update
        self._open = False  # whether the cursor stands behind a line that may be rewritten

    def update(self, step, metrics=None):
        """Tell the step that has been done, and {name: number} when there are new ones."""
        if not self._enabled:
            return
        now = self._clock()
        self._first = self._first or (step, now)
        self._step, self._metrics = step, metrics or self._metrics
        if self._shown is None or now - self._shown >= self._interval or step >= self._total:
            self._shown = now
            self._show(self.line(now))

    def line(self, now):
        """The text of the line at a time of the clock, fitted to the width of the terminal."""
        width, head = self._width(), '  '.join(self._head(now))
        for names in (list, _initials):  # in full if that fits, else the player by its first letter, else fewer
            parts = [f'{name} {_brief(value)}' for name, value in zip(names(self._metrics), self._metrics.values())]
            if len('  '.join([head] + parts)) <= width:
                break
        while parts and len('  '.join([head] + parts)) > width:
            parts.pop()
        return '  '.join([head] + parts)[:width]

    def _head(self, now):
        parts = [f'{self._label} {self._step:,}/{self._total:,}', f'{self._step / max(self._total, 1):.0%}']
        steps, seconds = self._step - self._first[0], now - self._first[1]
        if steps > 0 and seconds > 0:
            unit = 'images/s' if self._examples else 'steps/s'
            parts.append(f'{_brief(steps / seconds * (self._examples or 1))} {unit}')
            parts.append(f'ETA {_clock_face((self._total - self._step) * seconds / steps)}')
        if self._step >= self._total:
            parts[-1] = f'took {_clock_face(now - self._began)}'
        return parts

    def note(self, text):
        """A line of its own, above the line of progress."""
        if self._enabled:
            self._show(text, keep=True)

    @contextmanager
    def timed(self, text):
        """`with progress.timed('compiling the step'):` says what takes so long, then how long it took."""
        began = self._clock()
        if self._enabled:
            self._show(f'{text} ...')
        try:
            yield
        finally:
            self.note(f'{text}: {self._clock() - began:.1f} s')

    def close(self):
        """Leave the line behind; what comes next starts on a new one."""
        if self._open:
            self._stream.write('\n')
            self._stream.flush()
        self._open = False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _show(self, text, keep=False):
        rewrite = '\r\x1b[K' if self._open else ''  # return, then erase to the end of the line
        self._open = self._live and not keep
        self._stream.write(rewrite + text + ('' if self._open else '\n'))
        self._stream.flush()

    def _width(self):
        """Columns of the terminal less one, where a full line would wrap; 200 where there is no terminal."""
        if not self._live:
            return 200
        try:
            return max(os.get_terminal_size(self._stream.fileno()).columns - 1, 20)
        except (OSError, ValueError):
            return 79


def _initials(names):
    """'generator/adversarial' -> 'g/adversarial', as long as that leaves the names distinct."""
    short = [name[0] + name[name.index('/') :] if '/' in name[1:] else name for name in names]
    return short if len(set(short)) == len(short) else list(names)


def _brief(value):
    """A number in about five characters: 0.00012, 0.693, 12.3, 1,234."""
    value = float(value)
    return f'{value:,.0f}' if math.isfinite(value) and abs(value) >= 1000 else f'{value:.3g}'


def _clock_face(seconds):
    """Seconds as 0:42, 12:05 or 3:02:11."""
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
