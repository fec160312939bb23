"""Groups of trials that are trained as one program (`--vmap`): which trials they hold, and their folders."""

import contextlib
import json
import pathlib
import sys
from collections.abc import Sequence

from genlab.run.files import name_of, write_json
from genlab.sweep.launchers import Job, Status
from genlab.sweep.trials import Command, Sweep, Trial, newest

FOLDER = 'vmapped'  # of the groups, in the folder of a sweep
MEMBERS = 'trials.json'  # the ids of a group, in its folder
FAILURES = 'failures.json'  # id -> reason, of the trials that failed, once all have been trained


def plan(folder: pathlib.Path, found: Sequence[Trial], left: Sequence[Trial], size: int) -> list[list[Trial]]:
    """Divides the missing trials of a sweep into groups of at most `size`; a group of one is trained alone.

    A group that has begun stays as it is, with its finished trials. A trial that has begun alone goes on alone.

    Args:
      folder: of the sweep.
      found: all trials.
      left: those that are missing.
      size: trials per group.
    """
    known, missing = {trial.id: trial for trial in found}, {trial.id for trial in left}
    begun = [ids for ids in _begun(folder) if set(ids) <= set(known) and missing & set(ids)] if size > 1 else []
    grouped = {name for ids in begun for name in ids}
    rest = [trial for trial in left if trial.id not in grouped]
    alone = [trial for trial in rest if size == 1 or newest(folder / trial.id) >= 0]
    fresh = [trial for trial in rest if trial not in alone]
    groups = [[known[name] for name in ids] for ids in begun]
    groups += [fresh[first : first + size] for first in range(0, len(fresh), size)]
    return [*groups, *([trial] for trial in alone)]


def _begun(folder: pathlib.Path) -> list[list[str]]:
    """Returns the ids of the groups that have a checkpoint."""
    found = []
    for path in sorted((folder / FOLDER).glob(f'*/{MEMBERS}')):
        if newest(path.parent) >= 0:
            found.append(list(json.loads(path.read_text())))
    return found


def job(sweep: Sweep, group: Sequence[Trial]) -> Job:
    """Returns a group of trials as it is launched. Its name depends on its trials alone."""
    members = tuple(trial.id for trial in group)
    name = name_of(f'{len(group)} trials', members)
    content, folder = json.dumps({trial.id: trial.overrides for trial in group}), sweep.folder / FOLDER / name
    words = [sys.executable, '-m', 'genlab.sweep.vmapped', f'--config={sweep.config}', f'--workdir={folder}']
    return Job(name, folder, [Command([*words, f'--trials={content}', *sweep.arguments], {})], members)


def note(job: Job) -> None:
    """Writes which trials a group holds into its folder."""
    if job.members:
        write_json(job.folder / MEMBERS, job.members)


def outcomes(job: Job, status: Status) -> dict[str, Status]:
    """Returns id -> status of the trials of a job that has ended. Where a group has failed, some may be done."""
    if not job.members:
        return {job.id: status}
    with contextlib.suppress(OSError, ValueError):
        failures = json.loads((job.folder / FAILURES).read_text())
        return {name: Status('failed', failures[name]) if name in failures else Status('done') for name in job.members}
    return dict.fromkeys(job.members, status)
