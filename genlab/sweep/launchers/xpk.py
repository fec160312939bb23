"""Trials on Cloud TPUs of a cluster that xpk has made: one workload, which is a JobSet, per trial.

Commands as in xpk 1.9 to 1.16. Kubernetes retries: xpk restarts a workload after the exit codes 42 and 127 to 255.
"""

import json
import re
import shlex
from collections.abc import Sequence

from genlab.errors import ConfigError
from genlab.sweep.launchers import Job, Status, call, cloud
from genlab.sweep.launchers.jobset import state_of

NEEDS = 'run the sweep where xpk and kubectl reach the cluster'
CRASH = 1  # the exit code of a run after which a workload restarts too; a refused config (2) ends it


class Xpk:
    """Creates one workload per trial; the queue of the cluster admits them.

    Args:
      name: of the sweep.
      image: of the container, with genlab and the extra "tpu".
      topology: of a slice, such as 'v5e:16x16'.
      slices: the number of slices of a trial.
      cluster: the name of the cluster.
      zone: of the cluster; '' takes the one that gcloud is set to.
      project: of the cluster; '' takes the one that gcloud is set to.
      storage: the name of a storage that `xpk storage` attached to the cluster. It holds the folder of the sweep; ''
        where that is a URL.
      retries: restarts of a trial, those after 42 included.
    """

    interval = 15.0

    def __init__(
        self,
        name: str,
        image: str,
        topology: str,
        slices: int,
        cluster: str,
        zone: str,
        project: str,
        storage: str,
        retries: int,
    ):
        for flag, value in {'--cluster': cluster, '--storage': storage}.items():
            if value and not re.fullmatch(r'[a-z]([-a-z0-9]{0,38}[a-z0-9])?', value):
                raise ConfigError(
                    f'{flag}={value}: a name of xpk has at most 40 letters, digits and hyphens: give that'
                )
        if slices > 1 and cloud.slice_of(topology).hosts == 1:
            raise ConfigError(
                f'--slices={slices}: with xpk a slice of several has several hosts: give a larger --topology'
            )
        self._sweep, self._image, self._slices, self._retries = cloud.label(name), image, slices, retries
        self._type, self._storage = cloud.accelerator_type(topology), storage
        self._where = [
            f'--cluster={cluster}',
            *[f'--zone={zone}'] * bool(zone),
            *[f'--project={project}'] * bool(project),
        ]
        self._jobs: list[Job] = []
        self._stopped = False

    def render(self, jobs: Sequence[Job]) -> str:
        """Returns the commands, one line per trial."""
        return ''.join(f'{shlex.join(self._create(job))}\n' for job in jobs)

    def _create(self, job: Job) -> list[str]:
        """Returns the command that creates the workload of a trial. Its processes find each other by JAX."""
        return [
            'xpk',
            'workload',
            'create',
            f'--workload={self._name(job)}',
            *self._where,
            f'--tpu-type={self._type}',
            f'--num-slices={self._slices}',
            f'--docker-image={self._image}',
            *[f'--storage={self._storage}'] * bool(self._storage),
            f'--max-restarts={self._retries}',
            f'--restart-on-exit-codes={CRASH}',
            f'--termination-grace-period-seconds={cloud.GRACE}',
            f'--command={shlex.join(cloud.words_of(job, "xpk"))}',
        ]

    def _name(self, job: Job) -> str:
        return cloud.unique(self._sweep, job)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Creates the workloads that the cluster does not have."""
        self._jobs = list(jobs)
        known = self._states()
        for job in jobs:
            if self._name(job) not in known:
                call(self._create(job), NEEDS)

    def poll(self) -> dict[str, Status]:
        """Reads the conditions of the JobSets."""
        states = self._states()
        gone = Status('failed', 'its workload is gone')
        return {job.id: Status('stopped') if self._stopped else states.get(self._name(job), gone) for job in self._jobs}

    def cancel(self) -> None:
        """Deletes the workloads. Their pods get SIGTERM, and save."""
        self._stopped = True
        for job in self._jobs:
            call(['xpk', 'workload', 'delete', f'--workload={self._name(job)}', *self._where, '--force'], NEEDS)

    def _states(self) -> dict[str, Status]:
        """Returns name -> status of the workloads of the cluster."""
        found = json.loads(call(['kubectl', 'get', 'jobsets', '-o=json'], NEEDS))
        return {item['metadata']['name']: state_of(item) for item in found['items']}
