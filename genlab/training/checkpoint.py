"""Checkpoints by orbax: written asynchronously and atomically, with checksums, and restored onto any placement."""

import contextlib
import hashlib
import json
import pathlib
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as orbax
from absl import logging
from etils import epath

from genlab.errors import ConfigError, UserError
from genlab.run.files import files_below, path_of, remote, write_json
from genlab.training import parallel

MANIFEST = 'checksums.json'
BEST = 'best.json'  # next to the checkpoints: which one is the best, as `Best`
NEWEST = 'newest'  # the checkpoint that is restored if no other is named
TEMPORARY = '*.orbax-checkpoint-tmp*'  # folders that orbax is writing
COMMITTED = 'commit_success.txt'  # on gs:// orbax writes under the final name, and this file last
LITTLE = 2**20  # bytes; a disk with less free space counts as full
Tree = Any


class Best(NamedTuple):
    """The best checkpoint by a figure of the evaluations in training."""

    step: int
    figure: str  # its name
    value: float
    protocol: str  # the id of the conditions that the figure was measured under


class Checkpoints:
    """The checkpoints of one run, a context manager: its exit waits until the last checkpoint is on disk."""

    def __init__(
        self,
        folder: pathlib.Path,
        keep: int = 1,
        *,
        warn: Callable[[str], None],
        read_only: bool = False,
        alone: bool = False,
    ):
        """
        Args:
          folder: absolute or relative; `folder/<step>` holds a checkpoint.
          keep: number of newest checkpoints to keep. The best one is kept too.
          warn: called with one line per checkpoint that was skipped.
          read_only: change nothing in the folder, because a run may be writing there.
          alone: read in this process without waiting for the others, onto devices of its own; needs `read_only`.
        """
        self.alone = alone
        self.folder, self.warn, self.read_only = path_of(folder), warn, read_only
        if not remote(folder):
            self.folder = self.folder.absolute()
        if not read_only:
            self._clear_up()
        if (read_only or not remote(self.folder)) and not self.folder.exists():  # a bucket has no empty folder
            raise UserError(f'there are no checkpoints in {self.folder}: train first, or name the folder of a run')
        self.recorded = read_best(self.folder)
        among: dict[str, Any] = {}
        if alone and jax.process_count() > 1:
            among = {'primary_host': jax.process_index(), 'active_processes': {jax.process_index()}}
        with _quiet():  # orbax warns about the effects of read_only
            self.manager = orbax.CheckpointManager(
                self.folder,
                options=orbax.CheckpointManagerOptions(
                    preservation_policy=_Kept(keep, lambda: self.recorded),
                    read_only=read_only,
                    multiprocessing_options=orbax.options.MultiprocessingOptions(**among),
                    async_options=orbax.AsyncOptions(post_finalization_callback=self._seal),
                ),
            )

    def __enter__(self) -> 'Checkpoints':
        # The threads that write log each error with its traceback, and then it is raised here.
        self.verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.FATAL)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            with self._room():
                self.manager.close()
        finally:
            logging.set_verbosity(self.verbosity)

    def save(self, step: int, tree: Tree, notes: dict) -> None:
        """Starts to write a checkpoint. The arrays may be donated as soon as this returns.

        Args:
          step: the number of the checkpoint. A step that is already saved is skipped.
          tree: a state, whose field `step` has the same number.
          notes: plain JSON values.
        """
        if step in self.manager.all_steps():
            return
        items = orbax.args.Composite(state=orbax.args.StandardSave(tree), notes=orbax.args.JsonSave(notes))
        with self._room():
            saved = self.manager.save(step, args=items)
        if not saved:
            raise UserError(f'checkpoint {step} was not saved: {self.folder} holds a later one; move it away')

    def wait(self) -> None:
        """Waits until all saved checkpoints are on disk."""
        with self._room():
            self.manager.wait_until_finished()

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        """Turns an error of a full disk into one line. Saving is asynchronous: the error may be of an earlier step."""
        try:
            yield
        except Exception as error:
            text = str(error)
            full = not remote(self.folder) and shutil.disk_usage(self.folder).free < LITTLE
            if 'No space left' in text or full:
                step = self.latest()
                good = 'no checkpoint yet' if step is None else f'step {step} is saved'
                raise UserError(
                    f'the disk of {self.folder} is full; {good}: make room, and run the same command again'
                ) from error
            raise

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, or None if there is none."""
        return self.manager.latest_step()

    def best(self) -> Best | None:
        """Returns the best checkpoint that was recorded, or None if there is none, or if it is gone."""
        there = self.recorded is not None and self.recorded.step in self.manager.all_steps()
        return self.recorded if there else None

    def record_best(self, best: Best) -> None:
        """Keeps a saved checkpoint in addition to the newest ones, in place of the best one so far.

        It waits until the checkpoint is on disk, so that the record never names a missing one. The checkpoint that was
        the best before is removed with the next save, unless it is among the newest.
        """
        self.wait()
        if jax.process_index() == 0:
            write_json(self.folder / BEST, best._asdict())
        self.recorded = best

    def named(self, which: str) -> int:
        """Returns the step of a checkpoint that a user names.

        Args:
          which: 'best', or a step.

        Raises:
          ConfigError: there is no such checkpoint; the message lists those that are there.
        """
        steps, best = sorted(self.manager.all_steps()), self.best()
        if which == 'best' and best:
            return best.step
        if which.isdecimal() and int(which) in steps:
            return int(which)
        there = f'{self.folder} holds {", ".join(map(str, steps)) or "none"}'
        there += f'; the best is {best.step}, by {best.figure}' if best else ''
        if which == 'best':
            raise ConfigError(
                f'--checkpoint=best: no best checkpoint is recorded; {there}: train with '
                'config.checkpoint.best=FIGURE, or name a step'
            )
        what = 'there is no such step' if which.isdecimal() else f'choose {NEWEST}, best or a step'
        raise ConfigError(f'--checkpoint={which}: {what}; {there}')

    def restore(self, template: Tree, which: str = NEWEST) -> tuple[int, Tree, dict] | None:
        """Restores the newest undamaged checkpoint, or the one that is named.

        A damaged checkpoint is skipped in favour of the previous one. Unless read-only, it is renamed to
        `damaged-<step>`. If a run replaces its checkpoints meanwhile, the reader starts again with the newest.
        A checkpoint that is named has no substitute.

        Args:
          template: the shapes of the state, with shardings.
          which: 'newest', 'best', or a step.

        Returns:
          (step, arrays in the layout of `template`, notes), or None if there are no checkpoints.

        Raises:
          UserError: there are checkpoints, but none can be read. A silent restart would lose the run.
          ConfigError: there is no checkpoint of that name.
        """
        if which != NEWEST:
            step = self.named(which)
            found: dict[int, str] = {}
            restored = self._restore(step, template, found)
            if restored is None:
                raise UserError(
                    f'--checkpoint={which}: checkpoint {step} in {self.folder} cannot be read ({found[step]})'
                )
            return step, restored['state'], restored['notes']
        faults: dict[int, str] = {}
        while steps := [step for step in sorted(self.manager.all_steps(), reverse=True) if step not in faults]:
            restored = self._restore(steps[0], template, faults)
            if restored is not None:
                self._set_aside(*faults)
                return steps[0], restored['state'], restored['notes']
            if self._replaced(steps[0]):
                del faults[steps[0]]
            else:
                self.warn(f'checkpoint {steps[0]} cannot be read ({faults[steps[0]]}): trying the one before')
        if faults:
            raise UserError(
                f'no checkpoint in {self.folder} can be read (step {max(faults)}: {faults[max(faults)]}): '
                'name another folder, or move them away to start again'
            )
        return None

    def _restore(self, step: int, template: Tree, faults: dict[int, str]) -> Tree | None:
        """Returns the items of one checkpoint; if it cannot be read, None, and adds the reason to `faults`.

        Args:
          step: step of the checkpoint.
          template: a pytree of shapes with shardings.
          faults: step -> reason.
        """
        fault = self._fault(step)
        if fault is None:
            try:
                restored = self.manager.restore(
                    step,
                    args=orbax.args.Composite(
                        state=orbax.args.StandardRestore(template), notes=orbax.args.JsonRestore()
                    ),
                )
                own = int(restored['state'].step)
                if own == step:
                    return restored
                fault = f'it holds step {own}'
            except Exception as error:  # orbax raises a bare Exception for both files and shapes
                fault = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        faults[step] = fault
        return None

    def _replaced(self, step: int) -> bool:
        """Returns whether a run that trains at the same time has replaced a checkpoint since it was listed."""
        if not self.read_only:
            return False
        known = {*self.manager.all_steps()}
        self.manager.reload()
        found = {*self.manager.all_steps()}
        replaced = step not in found or max(found) > max(known)  # the newest may be half deleted
        return replaced if self.alone else parallel.agree(replaced)

    def _seal(self) -> None:
        """Writes the checksums just before orbax renames the folder to its final name, so that both appear together.

        They cover the items only. Orbax writes the commit time to its metadata at the top of the folder afterwards.
        """
        if jax.process_index() == 0:
            for folder in unfinished(self.folder):
                files = (file for file in files_below(folder) if file.parent != folder)
                manifest = {str(file.relative_to(folder)): checksum(file) for file in files}
                (folder / MANIFEST).write_text(json.dumps(manifest))

    def _fault(self, step: int) -> str | None:
        """Returns the fault of a checkpoint's files, or None. All processes return a fault, or none does."""
        if self.alone:
            return fault_of(self.folder / str(step))
        fault = fault_of(self.folder / str(step)) if jax.process_index() == 0 else None
        return (fault or 'damaged') if parallel.agree(fault is not None) else None

    def _clear_up(self) -> None:
        """Creates the folder, removes what a killed run was writing, and renames incomplete checkpoints.

        None of them then counts as the latest."""
        if jax.process_index() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            for folder in unfinished(self.folder):
                with contextlib.suppress(OSError):
                    epath.Path(folder).rmtree()
            for folder in self.folder.glob('[0-9]*'):
                if folder.name.isdigit() and not (folder / MANIFEST).exists():
                    self.warn(f'checkpoint {folder.name} is incomplete: set aside')
                    aside(folder)
        parallel.agree(False)  # waits for the first process

    def _set_aside(self, *steps: int) -> None:
        """Renames damaged checkpoints. They would count as the latest, and orbax refuses to save an earlier one."""
        if steps and not self.read_only:
            for step in steps if jax.process_index() == 0 else ():
                aside(self.folder / str(step))
            parallel.agree(False)
            self.manager.reload()


class _Kept(orbax.checkpoint_managers.PreservationPolicy):
    """Preserves the newest checkpoints and the best one.

    Orbax's own policy reads figures from the checkpoint. It does not apply, because the figures of a step are known
    only after its checkpoint was saved.
    """

    def __init__(self, keep: int, best: Callable[[], Best | None]):
        self.newest, self.best = orbax.checkpoint_managers.LatestN(keep), best

    def should_preserve(
        self,
        checkpoints: Sequence[orbax.checkpoint_managers.PolicyCheckpointInfo],
        *,
        context: orbax.checkpoint_managers.PreservationContext,
    ) -> Sequence[bool]:
        best, newest = self.best(), self.newest.should_preserve(checkpoints, context=context)
        return [kept or (best is not None and one.step == best.step) for kept, one in zip(newest, checkpoints)]


def unfinished(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders that orbax is writing among checkpoints, or was writing when a run was killed."""
    if str(folder).startswith('gs://'):
        steps = (path for path in folder.glob('[0-9]*') if path.name.isdigit())
        return [path for path in steps if not (path / COMMITTED).exists()]
    return [*folder.glob(TEMPORARY)]


def read_best(folder: pathlib.Path) -> Best | None:
    """Returns the record of the best checkpoint in a folder of checkpoints; None if it is missing or damaged."""
    try:
        best = Best(**json.loads((folder / BEST).read_text()))
        return best if isinstance(best.step, int) and isinstance(best.value, (int, float)) else None
    except (OSError, ValueError, TypeError):
        return None


def newest(folder: pathlib.Path) -> tuple[int, str] | None:
    """Returns the step of the newest complete checkpoint and a digest of its checksums, or None if there is none.

    Nothing but the checksums is read: two checkpoints with the same digest hold the same arrays.
    """
    steps = sorted((int(path.name) for path in folder.glob('[0-9]*') if path.name.isdecimal()), reverse=True)
    for step in steps:
        with contextlib.suppress(OSError):  # a run that trains at the same time replaces its checkpoints
            return step, hashlib.sha256((folder / str(step) / MANIFEST).read_bytes()).hexdigest()[:16]
    return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the log messages of libraries below the level of errors."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def aside(folder: pathlib.Path) -> None:
    """Renames a folder to damaged-<name>, so that it is kept but does not count as a checkpoint."""
    number = 0
    while (target := folder.with_name(f'damaged-{folder.name}{f"-{number}" if number else ""}')).exists():
        number += 1
    folder.rename(target)


def fault_of(folder: pathlib.Path) -> str | None:
    """Compares a checkpoint's files with their checksums; returns the first fault, or None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict):
        return 'its checksums are missing or unreadable'
    for name, expected in manifest.items():
        try:
            if checksum(folder / name) != expected:
                return f'the checksum of {name} is wrong'
        except OSError as error:
            return f'{name} is missing' if isinstance(error, FileNotFoundError) else f'{name}: {error.strerror}'
    return None


def checksum(file: pathlib.Path) -> int:
    """Returns the CRC-32 of a file."""
    value = 0
    with file.open('rb') as stream:
        while block := stream.read(1 << 22):
            value = zlib.crc32(block, value)
    return value
