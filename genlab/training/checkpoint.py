"""Checkpoints: asynchronous and atomic (orbax), with checksums, restored onto any placement."""

import contextlib
import json
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as orbax
from absl import logging

from genlab.errors import UserError
from genlab.training import parallel

MANIFEST = 'checksums.json'
Tree = Any


class Checkpoints:
    """The checkpoints of one run, as a context: leaving it waits until the last one is on disk."""

    def __init__(self, folder: pathlib.Path, keep: int = 1, *, warn: Callable[[str], None], read_only: bool = False):
        """
        Args:
          folder: absolute or relative; `folder/<step>` holds a checkpoint.
          keep: how many of the newest to keep.
          warn: called with one line about each checkpoint that had to be passed over.
          read_only: change nothing in the folder: a run may be writing there.
        """
        self.folder, self.warn, self.read_only = pathlib.Path(folder).absolute(), warn, read_only
        if not read_only:
            self._clear_up()
        if not self.folder.exists():
            raise UserError(f'there are no checkpoints in {self.folder}: train first, or name the folder of a run')
        with _quiet():  # orbax warns of what read_only means
            self.manager = orbax.CheckpointManager(
                self.folder,
                options=orbax.CheckpointManagerOptions(
                    max_to_keep=keep,
                    read_only=read_only,
                    async_options=orbax.AsyncOptions(post_finalization_callback=self._seal),
                ),
            )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.manager.close()

    def save(self, step: int, tree: Tree, notes: dict) -> None:
        """Starts writing arrays and plain notes; the arrays may be donated as soon as this returns."""
        if step in self.manager.all_steps():
            return
        items = orbax.args.Composite(state=orbax.args.StandardSave(tree), notes=orbax.args.JsonSave(notes))
        if not self.manager.save(step, args=items):
            raise UserError(f'checkpoint {step} was not saved: {self.folder} holds a later one; move it away')

    def wait(self) -> None:
        """Until what was saved is on disk."""
        self.manager.wait_until_finished()

    def latest(self) -> int | None:
        """The step of the newest checkpoint."""
        return self.manager.latest_step()

    def restore(self, template: Tree) -> tuple[int, Tree, dict] | None:
        """(step, arrays, notes) of the newest sound checkpoint, laid out like `template` (shapes with shardings), or None.

        A damaged one is passed over for the one before and, unless read-only, set aside as `damaged-<step>`. If there are
        some and none can be read this raises: starting again without a word would be worse."""
        faults = {}
        for step in sorted(self.manager.all_steps(), reverse=True):
            restored = self._restore(step, template, faults)
            if restored is not None:
                self._set_aside(*faults)
                return step, restored['state'], restored['notes']
            self.warn(f'checkpoint {step} cannot be read ({faults[step]}): trying the one before')
        if faults:
            raise UserError(
                f'no checkpoint in {self.folder} can be read (step {max(faults)}: {faults[max(faults)]}): '
                'name another folder, or move them away to start again'
            )
        return None

    def _restore(self, step: int, template: Tree, faults: dict[int, str]) -> Tree | None:
        """The items of one checkpoint; None with its fault noted where it cannot be read."""
        fault = self._fault(step)
        if fault is None:
            try:
                return self.manager.restore(
                    step,
                    args=orbax.args.Composite(
                        state=orbax.args.StandardRestore(template), notes=orbax.args.JsonRestore()
                    ),
                )
            except Exception as error:  # orbax raises bare Exceptions for files and shapes alike
                fault = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        faults[step] = fault
        return None

    def _seal(self) -> None:
        """Writes the checksums into the folder that orbax is about to rename to its final name: they appear together.

        They cover the items, not orbax's own note at the top, into which it still writes the time of the commit."""
        if jax.process_index() == 0:
            for unfinished in self.folder.glob('*.orbax-checkpoint-tmp*'):
                manifest = {
                    str(file.relative_to(unfinished)): checksum(file)
                    for file in sorted(unfinished.glob('*/**/*'))
                    if file.is_file()
                }
                (unfinished / MANIFEST).write_text(json.dumps(manifest))

    def _fault(self, step: int) -> str | None:
        """What is wrong with the files of a checkpoint, the same answer on every process."""
        fault = fault_of(self.folder / str(step)) if jax.process_index() == 0 else None
        return (fault or 'damaged') if parallel.agree(fault is not None) else None

    def _clear_up(self) -> None:
        """Makes the folder. What is named like a checkpoint in it but never became one must not count as the latest."""
        if jax.process_index() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            for folder in self.folder.glob('[0-9]*'):
                if folder.name.isdigit() and not (folder / MANIFEST).exists():
                    self.warn(f'checkpoint {folder.name} is incomplete: set aside')
                    aside(folder)
        parallel.agree(False)  # nobody looks before the first process has cleared up

    def _set_aside(self, *steps: int) -> None:
        """Damaged checkpoints would count as the latest, and orbax refuses to save an earlier one."""
        if steps and not self.read_only:
            for step in steps if jax.process_index() == 0 else ():
                aside(self.folder / str(step))
            parallel.agree(False)
            self.manager.reload()


@contextlib.contextmanager
def _quiet():
    """Lets only errors of the libraries through."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def aside(folder: pathlib.Path) -> None:
    """Renames a folder so that nothing is lost and nothing takes it for a checkpoint."""
    number = 0
    while (target := folder.with_name(f'damaged-{folder.name}{f"-{number}" if number else ""}')).exists():
        number += 1
    folder.rename(target)


def fault_of(folder: pathlib.Path) -> str | None:
    """What is wrong with a checkpoint's files by their checksums; None if they are as they were written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return 'its checksums are missing or unreadable'
    for name, expected in manifest.items():
        file = folder / name
        if not file.exists():
            return f'{name} is missing'
        if checksum(file) != expected:
            return f'the checksum of {name} is wrong'
    return None


def checksum(file: pathlib.Path) -> int:
    """CRC-32 of a file's bytes."""
    value = 0
    with open(file, 'rb') as stream:
        while block := stream.read(1 << 22):
            value = zlib.crc32(block, value)
    return value
