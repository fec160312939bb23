"""Trials on Cloud TPUs of Kubernetes: one JobSet per trial, queued by Kueue, with one Job per slice.

Fields as in JobSet v1alpha2 (jobset.sigs.k8s.io) and the labels of GKE and Kueue. A pod is one host of a slice.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from genlab.errors import PREEMPTED
from genlab.sweep import attempts
from genlab.sweep.launchers import Job, Status, call, cloud

NEEDS = 'run the sweep where kubectl reaches the cluster'
SWEEP = 'genlab-sweep'  # the label that all JobSets of a sweep share
TRIAL = 'genlab-trial'  # the annotation with the id of a trial


class JobSet:
    """Applies one JobSet per trial by kubectl. Kueue admits as many at a time as its quota allows.

    A pod that exits with 42 is replaced and does not count. A refused config (2) fails the JobSet at once. After any
    other code all its pods restart, at most `retries` times.

    Args:
      name: of the sweep.
      image: of the container, with genlab and the extra "tpu".
      topology: of a slice, such as 'v5e:16x16'.
      slices: the number of slices of a trial.
      queue: Kueue's local queue.
      retries: crashes after which a trial is tried again.
      storage: that each pod mounts; None where the folder of the sweep is a URL.
    """

    interval = 15.0

    def __init__(
        self, name: str, image: str, topology: str, slices: int, queue: str, retries: int, storage: cloud.Storage | None
    ):
        self._sweep, self._image, self._queue = cloud.label(name), image, queue
        self._slice, self._slices, self._retries = cloud.slice_of(topology), slices, retries
        self._storage = storage
        self._jobs: list[Job] = []
        self._stopped = False

    def render(self, jobs: Sequence[Job]) -> str:
        """Returns the manifests as YAML."""
        return ''.join(f'---\n{yaml(self.manifest(job))}' for job in jobs)

    def manifest(self, job: Job) -> dict[str, Any]:
        """Returns the JobSet of a trial."""
        hosts, name = self._slice.hosts, cloud.unique(self._sweep, job)
        pod: dict[str, Any] = {
            'restartPolicy': 'Never',
            'terminationGracePeriodSeconds': cloud.GRACE,
            'nodeSelector': {
                'cloud.google.com/gke-tpu-accelerator': self._slice.accelerator,
                'cloud.google.com/gke-tpu-topology': self._slice.topology,
            },
            'containers': [
                {
                    'name': 'genlab',
                    'image': self._image,
                    'command': ['bash', '-c', self._command(job, name)],
                    'env': [
                        {
                            'name': 'JOB_INDEX',  # of the slice; Kubernetes sets JOB_COMPLETION_INDEX, of the host
                            'valueFrom': {
                                'fieldRef': {'fieldPath': "metadata.annotations['jobset.sigs.k8s.io/job-index']"}
                            },
                        }
                    ],
                    'ports': [{'containerPort': cloud.PORT}],
                    'resources': {'limits': {'google.com/tpu': self._slice.chips}},
                }
            ],
        }
        if self._storage:
            server, export, path = self._storage
            pod['containers'][0]['volumeMounts'] = [{'name': 'runs', 'mountPath': path}]
            pod['volumes'] = [{'name': 'runs', 'nfs': {'server': server, 'path': export}}]
        template = {
            'parallelism': hosts,
            'completions': hosts,
            'completionMode': 'Indexed',
            'backoffLimit': 0,
            'podFailurePolicy': {
                'rules': [
                    {'action': 'Ignore', 'onExitCodes': {'operator': 'In', 'values': [PREEMPTED]}},
                    {'action': 'Ignore', 'onPodConditions': [{'type': 'DisruptionTarget', 'status': 'True'}]},
                    {'action': 'FailJob', 'onExitCodes': {'operator': 'In', 'values': [attempts.REFUSED]}},
                ]
            },
            'template': {'spec': pod},
        }
        return {
            'apiVersion': 'jobset.x-k8s.io/v1alpha2',
            'kind': 'JobSet',
            'metadata': {
                'name': name,
                'labels': {'kueue.x-k8s.io/queue-name': self._queue, SWEEP: self._sweep},
                'annotations': {
                    TRIAL: job.id,
                    'alpha.jobset.sigs.k8s.io/exclusive-topology': 'cloud.google.com/gke-nodepool',
                },
            },
            'spec': {
                'failurePolicy': {
                    'maxRestarts': self._retries,
                    'rules': [{'name': 'refused', 'action': 'FailJobSet', 'onJobFailureReasons': ['PodFailurePolicy']}],
                },
                'replicatedJobs': [{'name': 'slice', 'replicas': self._slices, 'template': {'spec': template}}],
            },
        }

    def _command(self, job: Job, name: str) -> str:
        """Returns the shell line of a pod: the command of a single process, and its place among the processes."""
        hosts = self._slice.hosts
        place = f'$((JOB_INDEX * {hosts} + JOB_COMPLETION_INDEX))'
        first = f'{name}-slice-0-0.{name}'
        return f'exec {cloud.placed(cloud.words_of(job, "jobset"), first, self._slices * hosts, place)}'

    def submit(self, jobs: Sequence[Job]) -> None:
        """Applies the manifests."""
        self._jobs = list(jobs)
        call(['kubectl', 'apply', '-f', '-'], NEEDS, self.render(jobs))

    def poll(self) -> dict[str, Status]:
        """Reads the conditions of the JobSets."""
        found = json.loads(call(['kubectl', 'get', 'jobsets', f'--selector={SWEEP}={self._sweep}', '-o=json'], NEEDS))
        states = {item['metadata'].get('annotations', {}).get(TRIAL): state_of(item) for item in found['items']}
        gone = Status('stopped' if self._stopped else 'failed', '' if self._stopped else 'its JobSet is gone')
        return {job.id: Status('stopped') if self._stopped else states.get(job.id, gone) for job in self._jobs}

    def cancel(self) -> None:
        """Deletes the JobSets. Their pods get SIGTERM, and save."""
        self._stopped = True
        call(['kubectl', 'delete', 'jobsets', f'--selector={SWEEP}={self._sweep}', '--wait=false'], NEEDS)


def state_of(item: dict[str, Any]) -> Status:
    """Returns the status that the conditions of a JobSet tell."""
    true = {
        condition['type']: condition.get('message', '')
        for condition in item.get('status', {}).get('conditions', [])
        if condition.get('status') == 'True'
    }
    if 'Completed' in true:
        return Status('done')
    if 'Failed' in true:
        return Status('refused' if 'PodFailurePolicy' in true['Failed'] else 'failed', true['Failed'])
    return Status('waiting', 'queued') if 'Suspended' in true else Status('running')


def yaml(value: Any, indent: int = 0) -> str:
    """Formats dicts, lists, strings and numbers as YAML. Each string that is not a plain word is quoted as in JSON.

    A string that ends with a line break is a script: its lines stand below its key.
    """
    pad = ' ' * indent
    if isinstance(value, dict):
        return ''.join(f'{pad}{_scalar(key)}:{_below(inner, indent + 2)}' for key, inner in value.items())
    return ''.join(f'{pad}- {_below(inner, indent + 2).lstrip()}' for inner in value)


def _below(value: Any, indent: int) -> str:
    """Formats the value of a key: on the same line, or below it."""
    if isinstance(value, (dict, list)):
        return '\n' + yaml(value, indent) if value else f' {"{}" if isinstance(value, dict) else "[]"}\n'
    if isinstance(value, str) and value.endswith('\n'):
        return ' |\n' + ''.join(f'{" " * indent}{line}\n' for line in value.splitlines())
    return f' {_scalar(value)}\n'


def _scalar(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r'[A-Za-z_][\w./-]*', value)
    words = ('true', 'false', 'yes', 'no', 'on', 'off', 'null', 'y', 'n')
    return value if plain and value.lower() not in words else json.dumps(value, ensure_ascii=False)
