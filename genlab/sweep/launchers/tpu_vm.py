"""Trials on Cloud TPU VMs: a queued resource of gcloud per attempt, which is deleted when the attempt has ended.

Each host runs the trial in a container, and leaves its exit code in the folder of the trial. A resource that Google
takes back counts as 42.
"""

import pathlib
import shlex
from collections.abc import Sequence

from genlab.errors import PREEMPTED, UserError
from genlab.run.files import write_text
from genlab.sweep import attempts
from genlab.sweep.launchers import FINAL, Job, Status, call, cloud

NEEDS = 'run the sweep where gcloud is installed'
GCLOUD = ['gcloud', 'compute', 'tpus', 'queued-resources']
LOST = ('SUSPENDING', 'SUSPENDED', 'FAILED')  # states of a queued resource
CODES = 'code-{}'  # of an attempt, in the folder of a trial: a folder with a file per host

# TPU VMs run it as root whenever they start. A host that has started again after its exit code runs nothing.
SCRIPT = """#!/bin/bash
attribute() {{
  curl -sf -H 'Metadata-Flavor: Google' "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}}
{mount}
trial={trial}; codes=$trial/{codes}; mkdir -p "$codes"
host=$(attribute agent-worker-number)
first=$(attribute worker-network-endpoints | cut -d , -f 1); first=${{first##*:}}
[ -e "$codes/$host" ] && exit
{run} >> "$trial/output-$host.log" 2>&1
echo $? > "$codes/$host.new" && mv "$codes/$host.new" "$codes/$host"
"""


class TpuVm:
    """Creates a queued resource per trial, all at once: they wait for each other where the quota is used up.

    Args:
      slices: that run the trials. The startup scripts are kept in tpu_vm/ of the folder of the sweep.
    """

    interval = 30.0

    def __init__(self, slices: cloud.Slices):
        self._slices, self._hosts, self._where = slices, slices.shape.hosts, slices.where
        self._jobs: list[Job] = []
        self._status: dict[str, Status] = {}

    def render(self, jobs: Sequence[Job]) -> str:
        """Returns the shell lines of the first attempt at each trial: they write a startup script and use it."""
        return ''.join(
            f"cat > {shlex.quote(str(self._path(job, 0)))} <<'END'\n{self.script(job, 0)}END\n"
            f'{shlex.join(self._create(job, 0))}\n'
            for job in jobs
        )

    def script(self, job: Job, attempt: int) -> str:
        """Returns the startup script of an attempt at a trial."""
        return SCRIPT.format(
            mount=self._slices.mount(),
            trial=shlex.quote(str(job.folder)),
            codes=CODES.format(attempt),
            run=self._slices.run(job, 'tpu_vm', '$first', '$host'),
        )

    def submit(self, jobs: Sequence[Job]) -> None:
        """Creates the queued resources. An attempt whose resource is there already goes on."""
        self._jobs = list(jobs)
        there = call([*GCLOUD, 'list', *self._where, '--format=value(name.basename())'], NEEDS).split()
        for job in jobs:
            if self._name(job, self._attempt(job)) not in there:
                attempts.begin(job.folder)
                self._begin(job)
            self._status[job.id] = Status('waiting')

    def poll(self) -> dict[str, Status]:
        """Reads the exit codes of attempts that have ended, and follows the states of the others."""
        for job in self._jobs:
            if self._status[job.id].state not in FINAL:
                self._status[job.id] = self._follow(job)
        return dict(self._status)

    def cancel(self) -> None:
        """Deletes the queued resources. Their hosts shut down: a trial loses what it did since its last checkpoint."""
        for job in self._jobs:
            if self._status[job.id].state not in FINAL:
                self._delete(job, self._attempt(job))
                self._status[job.id] = Status('stopped')

    def _follow(self, job: Job) -> Status:
        """Returns the status of a trial; begins its next attempt where one is due."""
        attempt = self._attempt(job)
        codes = [job.folder / CODES.format(attempt) / str(host) for host in range(self._hosts)]
        if all(path.exists() for path in codes):
            return self._end(job, attempt, [int(path.read_text()) for path in codes])
        name = self._name(job, attempt)
        state = self._ask('describe', name, '--format=value(state.state)').strip()
        if state in LOST:
            return self._end(job, attempt, [PREEMPTED])
        return Status('running') if state == 'ACTIVE' else Status('waiting', state.lower().replace('_', ' '))

    def _end(self, job: Job, attempt: int, codes: list[int]) -> Status:
        """Notes how an attempt has ended, and deletes its resource; begins the next one where that follows."""
        verdict = attempts.add(job.folder, codes, self._slices.retries, 0.0)
        self._delete(job, attempt)
        if verdict.state != 'again':
            return Status(verdict.state, verdict.reason)
        self._begin(job)
        return Status('waiting', verdict.reason)

    def _begin(self, job: Job) -> None:
        """Creates the resource of the next attempt."""
        attempt = self._attempt(job)
        for path in (job.folder / CODES.format(attempt)).glob('*'):  # of an earlier submission
            path.unlink()
        write_text(self._path(job, attempt), self.script(job, attempt))
        call(self._create(job, attempt), NEEDS)

    def _create(self, job: Job, attempt: int) -> list[str]:
        """Returns the command that creates the resource of an attempt."""
        return [
            *GCLOUD,
            'create',
            self._name(job, attempt),
            f'--node-id={self._name(job, attempt)}',
            *self._where,
            f'--type={self._slices.chip.kind}',
            f'--topology={self._slices.shape.topology}',
            f'--runtime-version={self._slices.chip.runtime}',
            *['--spot'] * self._slices.spot,
            f'--metadata-from-file=startup-script={self._path(job, attempt)}',
        ]

    def _delete(self, job: Job, attempt: int) -> None:
        self._ask('delete', self._name(job, attempt), '--force', '--quiet', '--async')

    def _ask(self, verb: str, name: str, *words: str) -> str:
        """Calls gcloud for a resource and returns its output. A resource that is gone has failed."""
        try:
            return call([*GCLOUD, verb, name, *self._where, *words], NEEDS)
        except UserError as error:
            if 'NOT_FOUND' not in str(error):
                raise
            return 'FAILED'

    def _attempt(self, job: Job) -> int:
        """Returns the number of the attempt that runs, or of the first one."""
        return len(attempts.history(job.folder)[1])

    def _name(self, job: Job, attempt: int) -> str:
        return f'{cloud.unique(self._slices.folder.name, job)}-{attempt}'

    def _path(self, job: Job, attempt: int) -> pathlib.Path:
        return self._slices.folder / 'tpu_vm' / f'{self._name(job, attempt)}.sh'
