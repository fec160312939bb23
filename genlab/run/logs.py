"""What a run writes while it runs: metrics.jsonl, TensorBoard events and pictures in the workdir."""

import json
import math
import os

from absl import logging

from genlab.run import images
from genlab.run.files import write_atomically


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
