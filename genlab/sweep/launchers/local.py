"""Trials on this machine, several at a time, each on cores of its own."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from genlab.run.files import locked
from genlab.sweep import attempts
from genlab.sweep.launchers import Job, Status

GRACE = 120.0  # seconds that the other processes of a trial have to end once one of them has failed
LOG = 'output-{}.log'  # of process i, in the folder of a trial


class Running(NamedTuple):
    """An attempt in progress."""

    processes: list[subprocess.Popen]
    slot: int


class Local:
    """Runs at most `parallel` trials at a time. Each attempt appends what it prints to output-0.log in its folder.

    Where this process is killed, Linux asks its trials to stop. Where one still runs when the sweep is run again, the
    lock of its folder says so, and the trial waits.

    Args:
      parallel: the number of trials at a time.
      retries: crashes after which a trial is tried again.
      backoff: seconds before the first retry.
      clock: returns the time in seconds.
    """

    interval = 0.2

    def __init__(self, parallel: int, retries: int, backoff: float, clock: Callable[[], float] = time.monotonic):
        self._retries, self._backoff, self._clock = retries, backoff, clock
        self._cores = shares(parallel)
        self._free = list(range(parallel))
        self._due: dict[str, float] = {}  # the time of the next attempt of a waiting job
        self._jobs: dict[str, Job] = {}
        self._running: dict[str, Running] = {}
        self._lost: dict[str, float] = {}  # when the first process of a running trial failed
        self._status: dict[str, Status] = {}
        self._stops = 0

    def render(self, jobs: Sequence[Job]) -> str:
        """Returns the commands, one line per process."""
        return ''.join(f'{command.shell()}\n' for job in jobs for command in job.commands)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queues jobs; `poll` starts them."""
        for job in jobs:
            attempts.begin(job.folder)
            self._jobs[job.id], self._due[job.id] = job, self._clock()
            self._status[job.id] = Status('waiting')

    def poll(self) -> dict[str, Status]:
        """Ends what has finished, and starts what is due."""
        for name in list(self._running):
            self._reap(name)
        for name in [name for name, due in self._due.items() if due <= self._clock()]:
            if not self._free:
                break
            self._start(name)
        return dict(self._status)

    def cancel(self) -> None:
        """Asks all processes to stop by SIGTERM; a second call sends SIGINT, which interrupts them."""
        self._stops += 1
        for running in self._running.values():
            for process in running.processes:
                _send(process, signal.SIGTERM if self._stops == 1 else signal.SIGINT)
        for name in self._due:
            self._status[name] = Status('stopped')
        self._due.clear()

    def _start(self, name: str) -> None:
        job = self._jobs[name]
        if locked(job.folder):
            self._status[name] = Status('waiting', 'another process writes in its folder')
            return
        del self._due[name]
        slot = self._free.pop(0)
        processes = [self._process(job, number, self._cores[slot]) for number in range(len(job.commands))]
        self._running[name] = Running(processes, slot)
        self._status[name] = Status('running')

    def _process(self, job: Job, number: int, cores: list[int]) -> subprocess.Popen:
        command, parent = job.commands[number], os.getpid()
        share = cores[number :: len(job.commands)] or cores

        def prepare() -> None:  # in the child, before the command replaces it
            with contextlib.suppress(OSError):
                if share:
                    os.sched_setaffinity(0, share)
            if sys.platform.startswith('linux'):
                ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
                if os.getppid() != parent:
                    os._exit(attempts.PREEMPTED)

        with open(job.folder / LOG.format(number), 'ab') as log:
            return subprocess.Popen(
                command.words,
                env={**os.environ, **command.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the sweep alone, which asks its trials once
                preexec_fn=prepare,
            )

    def _reap(self, name: str) -> None:
        processes, slot = self._running[name]
        codes = [process.poll() for process in processes]
        if None in codes:
            if any(codes):
                self._give_up_on(name, processes)
            return
        del self._running[name]
        self._lost.pop(name, None)
        self._free.append(slot)
        ended = [128 - code if code < 0 else code for code in codes if code is not None]  # as a shell counts signals
        verdict = attempts.add(self._jobs[name].folder, ended, self._retries, self._backoff)
        if self._stops and verdict.state in ('again', 'failed'):  # a signal ends a run that has not begun, without 42
            self._status[name] = Status('stopped', verdict.reason)
        elif verdict.state != 'again':
            self._status[name] = Status(verdict.state, verdict.reason)
        else:
            self._status[name] = Status('waiting', verdict.reason)
            self._due[name] = self._clock() + verdict.delay

    def _give_up_on(self, name: str, processes: list[subprocess.Popen]) -> None:
        """Kills the processes of a trial that go on long after another one of it has failed."""
        if self._clock() - self._lost.setdefault(name, self._clock()) > GRACE:
            for process in processes:
                _send(process, signal.SIGKILL)


def shares(parts: int) -> list[list[int]]:
    """Divides the cores of this process among trials.

    Returns:
      One list of cores per trial; empty lists where there are fewer cores than trials, or cores cannot be chosen.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
    size = len(cores) // parts
    return [cores[part * size : (part + 1) * size] for part in range(parts)]


def _send(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
