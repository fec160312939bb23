"""What a run writes while it runs: metrics.jsonl and TensorBoard events in the workdir, and a line of progress."""

import json
import math
import os
import sys
import time
from contextlib import contextmanager

from absl import logging


def write_atomically(path, data):
    """Put `data` (bytes) at `path` so that a reader sees the old file or the new one, never a part."""
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f'.{name}.{os.getpid()}.part')
    try:
        with open(temporary, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def read_metrics(workdir):
    """The rows of metrics.jsonl, dicts with a 'step', in the file's order; lines that do not parse are left out."""
    path = os.path.join(workdir, 'metrics.jsonl')
    if not os.path.exists(path):
        return []
    with open(path, 'rb') as file:
        return [row for row in map(_parse, file) if row is not None]


def _parse(line):
    try:
        row = json.loads(line)
    except ValueError:  # half-written when the process died; UnicodeDecodeError is one too
        return None
    valid = isinstance(row, dict) and isinstance(row.get('step'), int)
    return row if valid else None


def _number(value):
    """A plain number for JSON: integers as they are, floats to 8 digits (a float32 has 7), NaN and infinity as None."""
    value = value.item() if hasattr(value, 'item') else value
    if isinstance(value, int):
        return int(value)
    value = float(value)
    return float(f'{value:.8g}') if math.isfinite(value) else None


class MetricLog:
    """Metrics of a run: one flat JSON object a line in metrics.jsonl, and TensorBoard events beside it.

    A line is {"step": 500, "generator/adversarial": 0.69, ...}, numbers only, on disk when `write` returns. NaN and
    infinity, which JSON does not have, become null: the line stays, the curve has a gap. TensorBoard's events go to
    workdir/tensorboard and keep NaN. With enabled=False, on all processes but the main one, nothing is written.
    """

    def __init__(self, workdir, *, enabled=True, tensorboard=True):
        self._workdir, self._enabled, self._tensorboard = workdir, enabled, enabled and tensorboard
        self._file = self._events = self._purge = None

    def write(self, step, metrics):
        """Append {name: number} at a step; numbers may be numpy or JAX scalars."""
        if not self._enabled:
            return
        if 'step' in metrics:
            raise ValueError("a metric cannot be named 'step': that is the row's own number")
        row = {'step': int(step), **{name: _number(value) for name, value in metrics.items()}}
        self._append(json.dumps(row, allow_nan=False) + '\n')
        for name, value in metrics.items() if self._writer() else ():
            self._events.add_scalar(name, float(value), int(step))

    def picture(self, step, array, name='samples'):
        """Save an image (uint8 [H, W, 1 or 3]) as workdir/<name>/<step>.png and in TensorBoard."""
        if not self._enabled:
            return
        from genlab import images
        images.save_png(os.path.join(self._workdir, name, f'{int(step)}.png'), array)
        if self._writer():
            self._events.add_image(name, array, int(step), dataformats='HWC')

    def truncate(self, step):
        """Forget what was written after `step`, the step that was restored, so that a resumed run writes nothing twice.

        A half-written last line goes too. TensorBoard is told to ignore its later events.
        """
        if not self._enabled:
            return
        self._close_file()
        self._purge = int(step) + 1
        path = os.path.join(self._workdir, 'metrics.jsonl')
        if os.path.exists(path):
            kept = [json.dumps(row) + '\n' for row in read_metrics(self._workdir) if row['step'] <= step]
            write_atomically(path, ''.join(kept).encode())

    def close(self):
        self._close_file()
        if self._events:
            self._events.close()
        self._events = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _append(self, line):
        if self._file is None:
            os.makedirs(self._workdir, exist_ok=True)
            self._file = open(os.path.join(self._workdir, 'metrics.jsonl'), 'ab+')
            if self._file.tell() and self._half_a_line():
                line = '\n' + line
        self._file.write(line.encode())
        self._file.flush()

    def _half_a_line(self):
        """Whether the file ends without a newline; what is written next goes to its end all the same."""
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1) != b'\n'

    def _close_file(self):
        if self._file:
            self._file.close()
        self._file = None

    def _writer(self):
        """TensorBoard's writer, opened at the first use; None where there is none."""
        if self._tensorboard and self._events is None:
            try:
                from tensorboardX import SummaryWriter
            except ImportError as error:
                logging.warning('No TensorBoard events: %s (pip install tensorboardX).', error)
                self._tensorboard = False
                return None
            folder = os.path.join(self._workdir, 'tensorboard')
            self._events = SummaryWriter(folder, purge_step=self._purge, flush_secs=10)
        return self._events


class Progress:
    """How far a loop is, on one line: step, images per second, time to go, and the metrics that fit.

    On a terminal the line rewrites itself; elsewhere (a file, a batch job) a plain line appears at most every
    `interval` seconds, and at the end. Speed and time to go are measured on this process alone: from its first update,
    so that neither the steps before a resume nor the compilation count.
    total, start: steps; examples: images a step, 0 to leave the speed in steps; label: what the loop does.
    """

    def __init__(self, total, start=0, *, label='train', examples=0, stream=None, interval=30.0, enabled=True,
                 clock=time.monotonic):
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
    short = [name[0] + name[name.index('/'):] if '/' in name[1:] else name for name in names]
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
