"""Sinks get the metrics and pictures of a run in addition to its files: TensorBoard, and wandb if requested."""

import contextlib
import json
import os
import pathlib
import secrets
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from genlab.errors import ConfigError
from genlab.run.files import growing, remote, write_json

Rows = Sequence[Mapping[str, Any]]  # rows of metrics.jsonl: metric -> number or None, with the 'step'


class Sink(Protocol):
    """Gets the metrics and pictures of a run, in the order of its steps. A sink whose method raises is dropped."""

    name: str  # as warnings call it

    def resume(self, step: int, rows: Rows) -> None:
        """Prepares to continue after a step.

        Args:
          step: the last one that is kept, of the restored checkpoint; 0 at the start.
          rows: rows of metrics.jsonl as the process before left it, those after `step` included.
        """

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes {name: number} at a step; numbers may be numpy or JAX scalars."""

    def image(self, step: int, name: str, array: np.ndarray) -> None:
        """Writes an image, uint8 [H, W, 1 or 3], at a step."""

    def close(self, failed: bool = False) -> None:
        """Ends the sink; `failed` says that the run ends with an error."""


class TensorBoard:
    """Writes TensorBoard events in the thread of the caller. An error is raised there, and what is written is flushed.

    The library's own writer has a queue and a thread. If the thread dies of a full disk, the queue blocks the run.

    Args:
      folder: where to write one new file, with the first event.

    Raises:
      ImportError: tensorboardX is not installed.
      OSError: the file cannot be written.
    """

    name = 'TensorBoard events'

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._purge: int | None = None  # the first step whose earlier events TensorBoard drops

    def resume(self, step: int, rows: Rows) -> None:
        self._purge = step + 1

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        file = self._opened()
        for name, value in values.items():
            self._write(file, step, summary=self._summary.scalar(name, float(value)))
        file.flush()

    def image(self, step: int, name: str, array: np.ndarray) -> None:
        file = self._opened()
        self._write(file, step, summary=self._summary.image(name, array, dataformats='HWC'))
        file.flush()

    def close(self, failed: bool = False) -> None:
        if self._file:
            self._file.close()

    def _opened(self) -> IO[bytes]:
        """Returns the file, opened at first use."""
        if self._file is None:
            try:
                from tensorboardX import record_writer, summary
                from tensorboardX.proto import event_pb2
            except ImportError as error:
                raise ImportError(f'{error} (pip install tensorboardX)') from None
            self._summary, self._proto, self._checksum = summary, event_pb2, record_writer.masked_crc32c
            name = f'events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}'
            self._file = growing(self._folder / name)
            self._write(self._file, 0, file_version='brain.Event:2')
            if self._purge is not None:
                start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                self._write(self._file, self._purge, session_log=start)
        return self._file

    def _write(self, file: IO[bytes], step: int, **content: Any) -> None:
        """Writes a record: the length of the event, its checksum, the event, its checksum."""
        event = self._proto.Event(wall_time=time.time(), step=step, **content).SerializeToString()
        length = struct.pack('<Q', len(event))
        for part in (length, event):
            file.write(part + struct.pack('<I', self._checksum(part)))


WANDB = 'wandb.json'  # in the folder of a run: project -> the id of its run there


class Wandb:
    """Writes to a run of Weights & Biases, named after the folder. WANDB_MODE, WANDB_ENTITY etc. are wandb's own.

    The folder keeps the id, so that a continued run writes to the same one. A new run gets the rows that
    metrics.jsonl already has. wandb takes no step twice: the steps between the checkpoint and the end of the process
    before are left out, because they repeat the same numbers. What comes late to a step only enters the summary.

    Args:
      folder: folder of the run.
      project: its project.
      config: plain values, which wandb shows.

    Raises:
      ConfigError: wandb is not installed, or does not start.
    """

    name = 'wandb'

    def __init__(self, folder: pathlib.Path, project: str, config: Mapping[str, Any]):
        self._wandb = _package()
        ids = _ids(folder)
        self._known = project in ids
        self._first = 0  # the first step that is not in the run yet
        settings = {} if self._known else {'name': folder.resolve().name}  # a name that was changed there stays
        try:
            self._run = self._wandb.init(
                project=project,
                id=ids.setdefault(project, secrets.token_hex(4)),
                resume='allow',
                dir=None if remote(folder) else str(folder),
                config=dict(config),
                allow_val_change=True,  # what a continued run may change
                **settings,
            )
            write_json(folder / WANDB, ids)
        except Exception as error:
            reason = ' '.join(str(error).split())[:200]
            raise ConfigError(
                f'config.train.wandb={project!r}: wandb does not start ({reason}): run wandb login, set '
                'WANDB_MODE=offline, or leave the key empty'
            ) from error

    def resume(self, step: int, rows: Rows) -> None:
        if self._run.resumed:
            self._first = int(self._run.step)  # the server knows what has arrived
        elif self._known:  # offline
            self._first = max((row['step'] + 1 for row in rows), default=0)
        for row in rows:
            if self._first <= row['step'] <= step:
                self.scalars(row['step'], {name: row[name] for name in row if name != 'step' and row[name] is not None})

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        numbers = {name: float(value) for name, value in values.items()}
        if step < self._first:
            self._run.summary.update(numbers)
        else:
            self._run.log(numbers, step=step)

    def image(self, step: int, name: str, array: np.ndarray) -> None:
        if step >= self._first:
            self._run.log({name: self._wandb.Image(array)}, step=step)

    def close(self, failed: bool = False) -> None:
        self._run.finish(exit_code=int(failed))


def check(config: ConfigDict) -> None:
    """Raises ConfigError if a sink of the config is not installed, before anything is written."""
    if config.train.wandb:
        _package()


def of_run(config: ConfigDict, folder: pathlib.Path) -> list[Sink]:
    """Opens the sinks of a run: TensorBoard, and wandb if the config names a project.

    Raises:
      ConfigError: wandb is not installed, or does not start.
    """
    found: list[Sink] = [TensorBoard(folder / 'tensorboard')]
    if project := config.train.wandb:
        found.append(Wandb(folder, project, json.loads(config.to_json_best_effort())))
    return found


def _package() -> Any:
    """Returns the module wandb."""
    with contextlib.suppress(ImportError):
        import wandb

        if hasattr(wandb, 'init'):  # a folder wandb/, of earlier runs, can be imported too
            return wandb
    raise ConfigError("config.train.wandb needs the package wandb: pip install 'genlab[wandb]', or leave the key empty")


def _ids(folder: pathlib.Path) -> dict[str, str]:
    """Returns project -> id of the run in a folder; {} without a record that can be read."""
    try:
        return dict(json.loads((folder / WANDB).read_text()))
    except (OSError, ValueError, TypeError):
        return {}
