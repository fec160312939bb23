"""Trials on Cloud TPUs of Kubernetes: one JobSet per trial, queued by Kueue, with one Job per slice.

Fields as in JobSet v1alpha2 (jobset.sigs.k8s.io) and the labels of GKE and Kueue. A pod is one host of a slice.
"""

import hashlib
import json
import math
import re
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from genlab.errors import PREEMPTED, ConfigError, choose
from genlab.sweep import attempts
from genlab.sweep.launchers import Job, Status, call
from genlab.sweep.trials import together

NEEDS = 'run the sweep where kubectl reaches the cluster'
SWEEP = 'genlab-sweep'  # the label that all JobSets of a sweep share
TRIAL = 'genlab-trial'  # the annotation with the id of a trial
PORT = 8476
GRACE = 120  # seconds that a pod has to save


class Chip(NamedTuple):
    """A kind of TPU as GKE names it."""

    accelerator: str
    sides: int  # of its topologies
    hosted: int = 4  # chips per host in a slice of several hosts
    alone: int = 4  # most chips of a slice with one host


CHIPS = {
    'v4': Chip('tpu-v4-podslice', 3),
    'v5e': Chip('tpu-v5-lite-podslice', 2, alone=8),
    'v5p': Chip('tpu-v5p-slice', 3),
    'v6e': Chip('tpu-v6e-slice', 2, alone=8),
}


class Slice(NamedTuple):
    """The shape of a slice."""

    accelerator: str
    topology: str
    hosts: int
    chips: int  # per host


def slice_of(text: str) -> Slice:
    """Parses a topology such as v5e:16x16. Raises ConfigError where there is no such slice."""
    kind, _, shape = text.partition(':')
    chip = choose(CHIPS, kind, '--topology')
    sides = [int(side) for side in shape.split('x')] if re.fullmatch(r'\d+(x\d+)*', shape) else []
    total = math.prod(sides)
    if len(sides) != chip.sides or not total or (total > chip.alone and total % chip.hosted):
        example = {2: '4x4', 3: '2x2x4'}[chip.sides]
        raise ConfigError(f'--topology={text}: give {chip.sides} sides of a slice, such as {kind}:{example}')
    hosts = 1 if total <= chip.alone else total // chip.hosted
    return Slice(chip.accelerator, shape, hosts, total // hosts)


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
    """

    interval = 15.0

    def __init__(self, name: str, image: str, topology: str, slices: int, queue: str, retries: int):
        for flag, value in {'--image': image, '--topology': topology, '--queue': queue}.items():
            if not value:
                raise ConfigError(f'--launcher=jobset needs {flag}')
        self._sweep, self._image, self._queue = label(name), image, queue
        self._slice, self._slices, self._retries = slice_of(topology), slices, retries
        self._jobs: list[Job] = []
        self._stopped = False

    def render(self, jobs: Sequence[Job]) -> str:
        """Returns the manifests as YAML."""
        return ''.join(f'---\n{yaml(self.manifest(job))}' for job in jobs)

    def manifest(self, job: Job) -> dict[str, Any]:
        """Returns the JobSet of a trial."""
        hosts, name = self._slice.hosts, f'{self._sweep[:24].strip("-")}-{_digest(job.id)}'
        pod = {
            'restartPolicy': 'Never',
            'terminationGracePeriodSeconds': GRACE,
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
                    'ports': [{'containerPort': PORT}],
                    'resources': {'limits': {'google.com/tpu': self._slice.chips}},
                }
            ],
        }
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
        if len(job.commands) > 1 or job.commands[0].environment:
            raise ConfigError(
                '--processes and --devices do not go with --launcher=jobset: --topology and --slices give them'
            )
        words = ['python', *job.commands[0].words[1:]]
        processes = self._slices * self._slice.hosts
        if processes == 1:
            return f'exec {shlex.join(words)}'
        *found, _ = together(f'{name}-slice-0-0.{name}', PORT, processes, '')
        place = f'--process_id=$((JOB_INDEX * {self._slice.hosts} + JOB_COMPLETION_INDEX))'
        return f'exec {shlex.join([*words, *found])} {place}'

    def submit(self, jobs: Sequence[Job]) -> None:
        """Applies the manifests."""
        self._jobs = list(jobs)
        call(['kubectl', 'apply', '-f', '-'], NEEDS, self.render(jobs))

    def poll(self) -> dict[str, Status]:
        """Reads the conditions of the JobSets."""
        found = json.loads(call(['kubectl', 'get', 'jobsets', f'--selector={SWEEP}={self._sweep}', '-o=json'], NEEDS))
        states = {item['metadata'].get('annotations', {}).get(TRIAL): _state(item) for item in found['items']}
        gone = Status('stopped' if self._stopped else 'failed', '' if self._stopped else 'its JobSet is gone')
        return {job.id: Status('stopped') if self._stopped else states.get(job.id, gone) for job in self._jobs}

    def cancel(self) -> None:
        """Deletes the JobSets. Their pods get SIGTERM, and save."""
        self._stopped = True
        call(['kubectl', 'delete', 'jobsets', f'--selector={SWEEP}={self._sweep}', '--wait=false'], NEEDS)


def _state(item: dict[str, Any]) -> Status:
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


def label(text: str) -> str:
    """Returns a name as Kubernetes accepts it: lower case, digits and hyphens, at most 63 characters."""
    return re.sub(r'[^a-z0-9]+', '-', text.lower())[:63].strip('-') or 'sweep'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def yaml(value: Any, indent: int = 0) -> str:
    """Formats dicts, lists, strings and numbers as YAML. Each string that is not a plain word is quoted as in JSON."""
    pad = ' ' * indent
    if isinstance(value, dict):
        return ''.join(f'{pad}{_scalar(key)}:{_below(inner, indent + 2)}' for key, inner in value.items())
    return ''.join(f'{pad}- {_below(inner, indent + 2).lstrip()}' for inner in value)


def _below(value: Any, indent: int) -> str:
    """Formats the value of a key: on the same line, or below it."""
    if isinstance(value, (dict, list)):
        return '\n' + yaml(value, indent) if value else f' {"{}" if isinstance(value, dict) else "[]"}\n'
    return f' {_scalar(value)}\n'


def _scalar(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r'[A-Za-z_][\w./-]*', value)
    words = ('true', 'false', 'yes', 'no', 'on', 'off', 'null', 'y', 'n')
    return value if plain and value.lower() not in words else json.dumps(value, ensure_ascii=False)
