"""Trials as managed jobs of SkyPilot on Cloud TPU VMs: one task per trial.

Fields as in the schema of its YAML. SkyPilot recovers a job after 42 and where its slice is taken back.
"""

import pathlib
import re
import tempfile
from collections.abc import Sequence
from typing import Any

from genlab.errors import PREEMPTED, ConfigError
from genlab.run.files import remote, write_text
from genlab.sweep.launchers import FINAL, Job, Status, call, cloud
from genlab.sweep.launchers.jobset import yaml

NEEDS = 'run the sweep where SkyPilot is installed'
STATES = {  # of managed jobs
    'SUCCEEDED': 'done',
    'CANCELLED': 'stopped',
    'FAILED': 'failed',
    'FAILED_SETUP': 'failed',
    'FAILED_PRECHECKS': 'failed',
    'FAILED_NO_RESOURCE': 'failed',
    'FAILED_CONTROLLER': 'failed',
    'RUNNING': 'running',
}
WAITING = ('PENDING', 'SUBMITTED', 'STARTING', 'RECOVERING', 'CANCELLING')


class SkyPilot:
    """Launches one managed job per trial.

    Args:
      slices: that run the trials. The tasks are kept in skypilot/ of the folder of the sweep, or of the folder for
        temporary files where it is a URL.
    """

    interval = 30.0

    def __init__(self, slices: cloud.Slices):
        if slices.zone and not re.fullmatch(r'[a-z0-9-]+', slices.zone):
            raise ConfigError(f'--zone={slices.zone}: give the name of a zone, such as us-west4-a')
        self._slices, self._type = slices, cloud.accelerator_type(slices.topology)
        self._kept = pathlib.Path(tempfile.gettempdir()) if remote(slices.folder) else slices.folder
        self._jobs: list[Job] = []

    def render(self, jobs: Sequence[Job]) -> str:
        """Returns the tasks as YAML."""
        return ''.join(f'---\n{yaml(self.task(job))}' for job in jobs)

    def task(self, job: Job) -> dict[str, Any]:
        """Returns the task of a trial. SkyPilot runs it on each host of a slice."""
        slices = self._slices
        run = slices.run(job, 'skypilot', '$first', '$SKYPILOT_NODE_RANK')
        return {
            'name': self._name(job),
            'resources': {
                'infra': f'gcp/*/{slices.zone}' if slices.zone else 'gcp',
                'accelerators': f'tpu-{self._type}',
                'accelerator_args': {'runtime_version': slices.chip.runtime},
                'use_spot': slices.spot,
                'job_recovery': {'max_restarts_on_errors': slices.retries, 'recover_on_exit_codes': [PREEMPTED]},
            },
            'setup': f"sudo bash -c '{slices.mount()}'\n",
            'run': f'first=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)\nexec sudo {run}\n',
        }

    def submit(self, jobs: Sequence[Job]) -> None:
        """Writes the tasks and launches those that SkyPilot does not have."""
        self._jobs = list(jobs)
        known = self._states()
        for job in jobs:
            if known.get(self._name(job), Status('failed')).state in FINAL:
                path = self._kept / 'skypilot' / f'{self._name(job)}.yaml'
                write_text(path, yaml(self.task(job)))
                call(['sky', 'jobs', 'launch', f'--name={self._name(job)}', '--detach-run', '--yes', str(path)], NEEDS)

    def poll(self) -> dict[str, Status]:
        """Reads the states of the managed jobs."""
        states = self._states()
        return {job.id: states.get(self._name(job), Status('waiting')) for job in self._jobs}

    def cancel(self) -> None:
        """Cancels the jobs. Their slices are deleted: a trial loses what it did since its last checkpoint."""
        for job in self._jobs:
            call(['sky', 'jobs', 'cancel', f'--name={self._name(job)}', '--yes'], NEEDS)

    def _states(self) -> dict[str, Status]:
        """Returns name -> status of the managed jobs: of those with one name, the newest, which is listed first."""
        found: dict[str, Status] = {}
        for line in call(['sky', 'jobs', 'queue', '--all'], NEEDS).splitlines():
            words = line.split()
            for state in (word for word in words if word in STATES or word in WAITING):
                name = next((word for word in words if word.startswith(self._prefix())), '')
                found.setdefault(name, Status(STATES.get(state, 'waiting'), state.lower().replace('_', ' ')))
        return found

    def _name(self, job: Job) -> str:
        return cloud.unique(self._slices.folder.name, job, 12)  # the list of jobs cuts longer names

    def _prefix(self) -> str:
        return self._name(Job('', self._slices.folder, [])).rpartition('-')[0]
