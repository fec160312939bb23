"""The logs of a run: metrics.jsonl, TensorBoard events and pictures in the workdir."""

import contextlib
import json
import math
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from genlab.errors import warn
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


class Events:
    """Writes TensorBoard events in the thread of the caller. An error is raised there, and what is written is flushed.

    The library's own writer has a queue and a thread. If the thread dies of a full disk, the queue blocks the run.

    Args:
      folder: where to write one new file.
      purge: the first step whose earlier events TensorBoard drops; None for none.

    Raises:
      ImportError: tensorboardX is not installed.
      OSError: the file cannot be written.
    """

    def __init__(self, folder: str, purge: int | None = None):
        from tensorboardX import record_writer, summary
        from tensorboardX.proto import event_pb2

        self._summary, self._proto, self._checksum = summary, event_pb2, record_writer.masked_crc32c
        os.makedirs(folder, exist_ok=True)
        name = f'events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}'
        self._file = open(os.path.join(folder, name), 'ab')
        self._write(0, file_version='brain.Event:2')
        if purge is not None:
            self._write(purge, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes {name: number} at a step."""
        for name, value in values.items():
            self._write(step, summary=self._summary.scalar(name, float(value)))
        self._file.flush()

    def image(self, step: int, name: str, array: np.ndarray) -> None:
        """Writes an image, uint8 [H, W, 1 or 3], at a step."""
        self._write(step, summary=self._summary.image(name, array, dataformats='HWC'))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, step: int, **content: Any) -> None:
        """Writes a record: the length of the event, its checksum, the event, its checksum."""
        event = self._proto.Event(wall_time=time.time(), step=step, **content).SerializeToString()
        length = struct.pack('<Q', len(event))
        for part in (length, event):
            self._file.write(part + struct.pack('<I', self._checksum(part)))


class MetricLog:
    """Writes metrics of a run: one flat JSON object per line in metrics.jsonl, and TensorBoard events.

    A line is {"step": 500, "generator/adversarial": 0.69, ...}, numbers only. It is on disk when `write` returns. JSON
    has no NaN or infinity: they become null, a gap in the curve. TensorBoard events go to workdir/tensorboard and keep
    NaN. If they cannot be written, one warning says so, and the log goes on without them.

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
        self._events: Events | None = None
        self._purge: int | None = None

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Appends {name: number} at a step; numbers may be numpy or JAX scalars.

        Raises:
          OSError: metrics.jsonl cannot be written.
        """
        if not self._enabled:
            return
        if 'step' in metrics:
            raise ValueError("a metric cannot be named 'step': the row holds its step there")
        row = {'step': int(step), **{name: _number(value) for name, value in metrics.items()}}
        self._append(json.dumps(row, allow_nan=False) + '\n')
        self._to_events(lambda events: events.scalars(int(step), metrics))

    def picture(self, step: int, array: np.ndarray, name: str = 'samples') -> None:
        """Saves an image as workdir/<name>/<step>.png and in TensorBoard.

        Args:
          step: of the run.
          array: uint8 [H, W, 1 or 3].
          name: of the folder.

        Raises:
          OSError: the PNG cannot be written.
        """
        if not self._enabled:
            return
        images.save_png(os.path.join(self._workdir, name, f'{int(step)}.png'), array)
        self._to_events(lambda events: events.image(int(step), name, array))

    def truncate(self, step: int) -> int:
        """Removes all rows after `step`, the restored step, so that a resumed run writes no row twice.

        Also removes a half-written last line. TensorBoard ignores its events after `step`.

        Returns:
          The last step of the rows that were there; at least `step`.
        """
        if not self._enabled:
            return step
        self._close_file()
        self._purge = int(step) + 1
        path = os.path.join(self._workdir, 'metrics.jsonl')
        if os.path.exists(path):
            rows = read_metrics(self._workdir)
            kept = [json.dumps(row) + '\n' for row in rows if row['step'] <= step]
            write_atomically(path, ''.join(kept).encode())
            return max([step, *(row['step'] for row in rows)])
        return step

    def close(self) -> None:
        """Closes the files."""
        self._close_file()
        self._close_events()

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
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError:
            self._close_file()  # or its buffer would raise again
            raise

    def _close_file(self) -> None:
        if self._file:
            with contextlib.suppress(OSError):  # each line was flushed: what is left is one that failed
                self._file.close()
        self._file = None

    def _close_events(self) -> None:
        if self._events:
            with contextlib.suppress(OSError):
                self._events.close()
        self._events = None

    def _to_events(self, write: Callable[[Events], None]) -> None:
        """Calls `write` with the TensorBoard events, opened at first use. If that fails, they are given up."""
        if not self._tensorboard:
            return
        try:
            self._events = self._events or Events(os.path.join(self._workdir, 'tensorboard'), self._purge)
            write(self._events)
        except (ImportError, OSError) as error:
            advice = ' (pip install tensorboardX)' if isinstance(error, ImportError) else ''
            warn(f'no TensorBoard events from here on: {error}{advice}')
            self._tensorboard = False
            self._close_events()
