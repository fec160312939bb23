"""The logs of a run: metrics.jsonl, TensorBoard events and pictures in the workdir."""

import json
import math
import os
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from absl import logging

from genlab.run import images
from genlab.run.files import write_atomically


def read_metrics(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads metrics.jsonl: dicts with a 'step', in the order of the file. Lines that do not parse are skipped."""
    path = os.path.join(workdir, 'metrics.jsonl')
    if not os.path.exists(path):
        return []
    with open(path, 'rb') as file:
        return [row for row in map(_parse, file) if row is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    """Parses one line; returns None unless it is an object with an integer step."""
    try:
        row = json.loads(line)
    except ValueError:  # half-written when the process died; includes UnicodeDecodeError
        return None
    valid = isinstance(row, dict) and isinstance(row.get('step'), int)
    return row if valid else None


def _number(value: Any) -> int | float | None:
    """Converts a scalar for JSON: floats to 8 significant digits (a float32 has 7), NaN and infinity to None."""
    value = value.item() if hasattr(value, 'item') else value
    if isinstance(value, int):
        return int(value)
    value = float(value)
    return float(f'{value:.8g}') if math.isfinite(value) else None


def _half_a_line(file: IO[bytes]) -> bool:
    """Returns whether the file ends without a newline. The file is in append mode: writes still go to its end."""
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b'\n'


class MetricLog:
    """Writes metrics of a run: one flat JSON object per line in metrics.jsonl, and TensorBoard events.

    A line is {"step": 500, "generator/adversarial": 0.69, ...}, numbers only. It is on disk when `write` returns. JSON
    has no NaN or infinity: they become null, a gap in the curve. TensorBoard events go to workdir/tensorboard and keep
    NaN.

    Args:
      workdir: the folder of the run.
      enabled: False writes nothing; used on every process except the first.
      tensorboard: whether to write TensorBoard events.

    Example:
      with MetricLog(workdir) as log:
          log.truncate(restored_step)
          log.write(500, {'generator/adversarial': 0.69})
    """

    def __init__(self, workdir: str | os.PathLike[str], *, enabled: bool = True, tensorboard: bool = True):
        self._workdir = workdir
        self._enabled = enabled
        self._tensorboard = enabled and tensorboard
        self._file: IO[bytes] | None = None
        self._events: Any = None
        self._purge: int | None = None

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Appends {name: number} at a step; numbers may be numpy or JAX scalars."""
        if not self._enabled:
            return
        if 'step' in metrics:
            raise ValueError("a metric cannot be named 'step': the row holds its step there")
        row = {'step': int(step), **{name: _number(value) for name, value in metrics.items()}}
        self._append(json.dumps(row, allow_nan=False) + '\n')
        for name, value in metrics.items() if self._writer() else ():
            self._events.add_scalar(name, float(value), int(step))

    def picture(self, step: int, array: np.ndarray, name: str = 'samples') -> None:
        """Saves an image as workdir/<name>/<step>.png and in TensorBoard.

        Args:
          step: of the run.
          array: uint8 [H, W, 1 or 3].
          name: of the folder.
        """
        if not self._enabled:
            return
        images.save_png(os.path.join(self._workdir, name, f'{int(step)}.png'), array)
        if self._writer():
            self._events.add_image(name, array, int(step), dataformats='HWC')

    def truncate(self, step: int) -> None:
        """Removes all rows after `step`, the restored step, so that a resumed run writes no row twice.

        Also removes a half-written last line. TensorBoard ignores its events after `step`.
        """
        if not self._enabled:
            return
        self._close_file()
        self._purge = int(step) + 1
        path = os.path.join(self._workdir, 'metrics.jsonl')
        if os.path.exists(path):
            kept = [json.dumps(row) + '\n' for row in read_metrics(self._workdir) if row['step'] <= step]
            write_atomically(path, ''.join(kept).encode())

    def close(self) -> None:
        """Closes the files."""
        self._close_file()
        if self._events:
            self._events.close()
        self._events = None

    def __enter__(self) -> 'MetricLog':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _append(self, line: str) -> None:
        """Appends a line to metrics.jsonl and flushes it."""
        if self._file is None:
            os.makedirs(self._workdir, exist_ok=True)
            self._file = open(os.path.join(self._workdir, 'metrics.jsonl'), 'ab+')
            if self._file.tell() and _half_a_line(self._file):
                line = '\n' + line
        self._file.write(line.encode())
        self._file.flush()

    def _close_file(self) -> None:
        if self._file:
            self._file.close()
        self._file = None

    def _writer(self) -> Any:
        """Returns the writer of TensorBoard events, opened at first use; None without tensorboardX or if disabled."""
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
