"""What the launchers of Cloud TPUs share: slices and their names, storage that all hosts mount, names and commands."""

import hashlib
import math
import pathlib
import re
import shlex
from typing import NamedTuple

from genlab.errors import ConfigError, choose
from genlab.run.files import remote
from genlab.sweep.launchers import Job
from genlab.sweep.trials import together

PORT = 8476  # of the first process of a trial
GRACE = 120  # seconds that a host has to save


class Chip(NamedTuple):
    """A kind of TPU, and its names."""

    accelerator: str  # of GKE
    kind: str  # of TPU VMs: of --type, and at the start of the name of a slice
    runtime: str  # the software of TPU VMs
    sides: int  # of its topologies
    hosted: int = 4  # chips per host in a slice of several hosts
    alone: int = 4  # most chips of a slice with one host
    cores: int = 1  # that the name of a slice counts per chip


CHIPS = {
    'v4': Chip('tpu-v4-podslice', 'v4', 'tpu-ubuntu2204-base', 3, cores=2),
    'v5e': Chip('tpu-v5-lite-podslice', 'v5litepod', 'v2-alpha-tpuv5-lite', 2, alone=8),
    'v5p': Chip('tpu-v5p-slice', 'v5p', 'v2-alpha-tpuv5', 3, cores=2),
    'v6e': Chip('tpu-v6e-slice', 'v6e', 'v2-alpha-tpuv6e', 2, alone=8),
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
    sides = sides_of(shape)
    total = math.prod(sides)
    if len(sides) != chip.sides or not total or (total > chip.alone and total % chip.hosted):
        example = {2: '4x4', 3: '2x2x4'}[chip.sides]
        raise ConfigError(f'--topology={text}: give {chip.sides} sides of a slice, such as {kind}:{example}')
    hosts = 1 if total <= chip.alone else total // chip.hosted
    return Slice(chip.accelerator, shape, hosts, total // hosts)


def chip_of(text: str) -> Chip:
    """Returns the kind of chip of a topology."""
    return choose(CHIPS, text.partition(':')[0], '--topology')


def sides_of(shape: str) -> list[int]:
    """Parses '16x16'; [] where it is no shape."""
    return [int(side) for side in shape.split('x')] if re.fullmatch(r'\d+(x\d+)*', shape) else []


def accelerator_type(text: str) -> str:
    """Returns the name that implies a topology: v5e:16x16 -> v5litepod-256.

    Raises:
      ConfigError: the name of that number of chips stands for another topology.
    """
    found, chip = slice_of(text), chip_of(text)
    total = found.hosts * found.chips
    power = total.bit_length() - 1
    usual = sorted(2 ** ((power + side) // chip.sides) for side in range(chip.sides))
    if sorted(sides_of(found.topology)) != usual:
        shape = 'x'.join(map(str, usual))
        raise ConfigError(f'--topology={text}: this launcher names slices by their number of chips: give {shape}')
    return f'{chip.kind}-{total * chip.cores}'


class Storage(NamedTuple):
    """An NFS export that holds the folder of a sweep, under one path here and on all hosts."""

    server: str
    export: str
    path: str


def storage_of(text: str, folder: pathlib.Path) -> Storage:
    """Parses SERVER:/EXPORT:/PATH.

    Args:
      text: the value of --storage.
      folder: of the sweep.

    Raises:
      ConfigError: the text is something else, or the folder lies elsewhere.
    """
    match = re.fullmatch(r'([\w.-]+):(/|/[^\s:/][^\s:]*):(/[^\s:]+)', text)
    if not match:
        raise ConfigError(
            f'--storage={text}: give an NFS export and where it is mounted, such as 10.0.0.2:/genlab:/runs'
        )
    if not remote(folder):
        within(folder, match[3])
    return Storage(*match.groups())


def within(folder: pathlib.Path, path: str) -> None:
    """Raises ConfigError where the folder of a sweep does not lie below the path that all hosts mount."""
    if not folder.is_relative_to(path) or folder == pathlib.Path(path):
        raise ConfigError(f'--workdir={folder}: hosts write below {path} only: give --workdir={path}/{folder.name}')


class Slices(NamedTuple):
    """The slices of TPUs that run the trials of a sweep, as the flags of the command give them."""

    folder: pathlib.Path  # of the sweep; names of trials in a cluster start with its name
    image: str  # of the container, with genlab and the extra "tpu"
    topology: str  # of a slice, such as 'v5e:16x16'
    storage: Storage | None  # that each host mounts; None where the folder is a URL
    zone: str = ''  # of the slices; '' takes the default of the launcher
    project: str = ''  # of Google Cloud; '' takes the one that gcloud is set to
    spot: bool = False  # whether Google may take them back
    retries: int = 2  # crashes after which a trial is tried again

    @property
    def chip(self) -> Chip:
        """The kind of chip."""
        return chip_of(self.topology)

    @property
    def shape(self) -> Slice:
        """The shape of a slice."""
        return slice_of(self.topology)

    @property
    def where(self) -> list[str]:
        """The flags of gcloud for the zone and the project."""
        return [f'--{name}={value}' for name, value in (('zone', self.zone), ('project', self.project)) if value]

    def run(self, job: Job, launcher: str, first: str, number: str) -> str:
        """Returns the shell line that runs a trial in a container on a host.

        Args:
          job: the trial.
          launcher: its name, for errors.
          first: a shell expression for the address of the first host.
          number: a shell expression for the number of the host.
        """
        volume = f'--volume={self.storage.path}:{self.storage.path} ' if self.storage else ''
        words = f'docker run --rm --privileged --net=host {volume}{shlex.quote(self.image)}'
        return f'{words} {placed(words_of(job, launcher), first, self.shape.hosts, number)}'

    def mount(self) -> str:
        """Returns the shell line that mounts the storage on a host, as root."""
        if not self.storage:
            return 'true'
        server, export, path = self.storage
        return f'mkdir -p {path} && mountpoint -q {path} || mount -t nfs {server}:{export} {path}'


def words_of(job: Job, launcher: str) -> list[str]:
    """Returns the command of a trial on a host, without its place among the processes."""
    if len(job.commands) > 1 or job.commands[0].environment:
        raise ConfigError(
            f'--processes and --devices do not go with --launcher={launcher}: --topology and --slices give them'
        )
    return ['python', *job.commands[0].words[1:]]


def placed(words: list[str], host: str, processes: int, number: str) -> str:
    """Returns a shell line: a command, and the place of its process. `host` and `number` are shell expressions."""
    if processes == 1:
        return shlex.join(words)
    coordinator, count, place = together('', PORT, processes, '')
    return f'{shlex.join(words)} {coordinator.replace("=:", f"={host}:")} {count} {place}{number}'


def unique(sweep: str, job: Job, most: int = 24) -> str:
    """Returns the name of a trial in a cluster: of its sweep, cut to `most` characters, and a hash of its id."""
    digest = hashlib.sha256(job.id.encode()).hexdigest()[:10]
    return f'{label(sweep)[:most].strip("-")}-{digest}'


def label(text: str) -> str:
    """Returns a name as Kubernetes accepts it: lower case, digits and hyphens, at most 63 characters.

    It begins with a letter, as the names of TPU VMs and workloads do.
    """
    found = re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-') or 'sweep'
    return (found if found[0].isalpha() else f's-{found}')[:63].strip('-')
