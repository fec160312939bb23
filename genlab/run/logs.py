"""The logs of a run: metrics.jsonl and pictures in the workdir, and further sinks."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

import numpy as np

from genlab.errors import warn
from genlab.run import images
from genlab.run.files import growing, path_of, write_atomically
from genlab.run.sinks import Sink


def read_metrics(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads metrics.jsonl: dicts with a 'step', in the order of the file. Lines that do not parse are skipped."""
    path = path_of(workdir) / 'metrics.jsonl'
    if not path.exists():
        return []
    with path.open('rb') as file:
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
    """Writes metrics of a run: one flat JSON object per line in metrics.jsonl, and the same to each sink.

    A line is {"step": 500, "generator/adversarial": 0.69, ...}, numbers only. It is on disk when `write` returns; in a
    bucket, when `settle` returns. JSON has no NaN or infinity: they become null, a gap in the curve. Sinks get them as
    they are. If a sink fails, one warning says so, and the log continues without it.

    Args:
      workdir: the folder of the run.
      enabled: False writes nothing; used on every process except the first.
      sinks: what else gets metrics and pictures. They are closed with the log.

    Example:
      with MetricLog(workdir) as log:
          log.truncate(restored_step)
          log.write(500, {'generator/adversarial': 0.69})
    """

    def __init__(self, workdir: str | os.PathLike[str], *, enabled: bool = True, sinks: Sequence[Sink] = ()):
        self._workdir = workdir
        self._enabled = enabled
        self._sinks = list(sinks)
        self._file: IO[bytes] | None = None

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
        self._each(lambda sink: sink.scalars(int(step), metrics))

    def picture(self, step: int, array: np.ndarray, name: str = 'samples') -> None:
        """Saves an image as workdir/<name>/<step>.png and in each sink.

        Args:
          step: step of the run.
          array: uint8 [H, W, 1 or 3].
          name: name of the folder.

        Raises:
          OSError: the PNG cannot be written.
        """
        if not self._enabled:
            return
        images.save_png(os.path.join(self._workdir, name, f'{int(step)}.png'), array)
        self._each(lambda sink: sink.image(int(step), name, array))

    def truncate(self, step: int) -> int:
        """Removes all rows after `step`, the restored step, so that a resumed run writes no row twice.

        Also removes a half-written last line, and lets each sink continue from `step`.

        Returns:
          The last step of the rows that were there; at least `step`.
        """
        if not self._enabled:
            return step
        self._close_file()
        path, rows = path_of(self._workdir) / 'metrics.jsonl', read_metrics(self._workdir)
        self._each(lambda sink: sink.resume(int(step), rows))
        if path.exists():
            kept = [json.dumps(row) + '\n' for row in rows if row['step'] <= step]
            write_atomically(path, ''.join(kept).encode())
        return max([step, *(row['step'] for row in rows)])

    def settle(self) -> None:
        """Uploads what a bucket does not have yet of metrics.jsonl.

        Raises:
          OSError: it cannot be written.
        """
        file, self._file = self._file, None  # the next line opens it again
        if file:
            file.close()

    def close(self, failed: bool = False) -> None:
        """Closes the file and the sinks; `failed` says that the run ends with an error."""
        self._close_file()
        self._each(lambda sink: sink.close(failed))
        self._sinks = []

    def __enter__(self) -> 'MetricLog':
        return self

    def __exit__(self, *error: object) -> None:
        self.close(failed=error[0] is not None)

    def _append(self, line: str) -> None:
        """Appends a line to metrics.jsonl and flushes it."""
        if self._file is None:
            self._file = growing(path_of(self._workdir) / 'metrics.jsonl')
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

    def _each(self, call: Callable[[Sink], None]) -> None:
        """Calls a function with each sink. A sink that fails is dropped, whatever it raises: training continues."""
        for sink in [*self._sinks]:
            try:
                call(sink)
            except Exception as error:
                warn(f'no {sink.name} from here on: {" ".join(str(error).split())}')
                self._sinks.remove(sink)
                with contextlib.suppress(Exception):
                    sink.close(failed=True)
