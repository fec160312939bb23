"""Where the trials of a sweep run: on this machine, under Slurm, or as JobSets on Kubernetes. One small protocol."""

import pathlib
import subprocess
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from genlab.errors import ConfigError, UserError
from genlab.sweep.trials import Command

FINAL = ('done', 'failed', 'refused', 'stopped')


class Job(NamedTuple):
    """A trial as it is launched, or a group of trials that are trained as one program."""

    id: str
    folder: pathlib.Path  # of the trial or the group
    commands: list[Command]  # one per process
    members: tuple[str, ...] = ()  # the ids of a group


class Status(NamedTuple):
    """What has become of a job."""

    state: str  # 'waiting', 'running', or one of `FINAL`
    reason: str = ''


class Launcher(Protocol):
    """Runs jobs to the end, retries included: `genlab.sweep.attempts` says what follows from an exit code."""

    interval: float  # seconds between two polls

    def render(self, jobs: Sequence[Job]) -> str:
        """Returns what `submit` would run, as text."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Starts or queues jobs, once."""

    def poll(self) -> dict[str, Status]:
        """Returns id -> status of all submitted jobs, and does what is due. It does not wait."""

    def cancel(self) -> None:
        """Asks all jobs to stop. They save, and become `stopped`. A second call interrupts them."""


def call(words: Sequence[str], needs: str, stdin: str | None = None) -> str:
    """Runs a program of a scheduler and returns its output.

    Args:
      words: of the command.
      needs: what to do where there is no such program.
      stdin: its input.

    Raises:
      ConfigError: there is no such program.
      UserError: it failed.
    """
    try:
        return subprocess.run(words, input=stdin, capture_output=True, text=True, check=True, timeout=120).stdout
    except FileNotFoundError:
        raise ConfigError(f'there is no {words[0]} on this machine: {needs}; --dry-run prints what would run') from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        text = ' '.join(str(getattr(error, 'stderr', '') or error).split())
        raise UserError(f'{" ".join(words[:2])}: {text[:300]}') from None
