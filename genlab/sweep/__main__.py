"""Sweeps: many trials of one config, each a run in a folder of its own.

    python -m genlab.sweep --config=configs/gan.py --sweep=lr,seed --parallel=2 [--config.key=value]

The config file names the trials (`genlab.sweep.hyper`). All of them are checked before the first one starts. The same
command again runs what is missing. Arguments --config.key=value hold for all trials.

Exit codes: 0 all trials are done; 1 a trial has failed; 2 a trial or a flag is refused; 42 stopped by a signal: the
same command goes on; 130 interrupted before anything started.
"""

from genlab.run import requirements

if __name__ == '__main__':
    requirements.check()

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Sequence

from genlab.errors import ConfigError, UserError
from genlab.run import terminal
from genlab.run.files import path_of, remote
from genlab.sweep import run, search, trials, tuning
from genlab.sweep.launchers import Launcher, cloud
from genlab.sweep.launchers.jobset import JobSet
from genlab.sweep.launchers.local import Local
from genlab.sweep.launchers.skypilot import SkyPilot
from genlab.sweep.launchers.slurm import Slurm
from genlab.sweep.launchers.tpu_vm import TpuVm
from genlab.sweep.launchers.xpk import Xpk

DISKS = ('local', 'slurm', 'tpu_vm')  # launchers that keep logs and exit codes in the folder of the sweep
CLOUD = ('jobset', 'xpk', 'tpu_vm', 'skypilot')  # launchers of slices of TPUs


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. An error becomes one line.

    Args:
      words: the arguments; None takes the arguments of the process.
    """
    words = sys.argv[1:] if words is None else list(words)
    base = [word for word in words if word.startswith('--config.')]
    try:
        if lonely := [word for word in base if '=' not in word]:
            raise ConfigError(f'{lonely[0]}: write {lonely[0]}=value')
        arguments = parser().parse_args([word for word in words if word not in base])
        return make(arguments, base, words)
    except (UserError, OSError) as error:
        terminal.say(f'genlab: {" ".join(str(error).split())}\n')
        return getattr(error, 'exit_code', 1)
    except KeyboardInterrupt:
        terminal.say('genlab: interrupted\n')
        return 130


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command; its help is the docstring of this module."""
    first, _, rest = (__doc__ or '').partition('\n')
    known = argparse.ArgumentParser(
        'python -m genlab.sweep',
        description=first,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    known.add_argument('--config', required=True, metavar='FILE', help='a file of configs/, with :variant,variant')
    known.add_argument('--sweep', default='', metavar='NAMES', help='of its sweep_NAME, combined; none: its get_hyper')
    known.add_argument('--launcher', default='local', choices=['local', 'slurm', *CLOUD], help='where trials run')
    known.add_argument('--parallel', type=at_least(1), default=1, metavar='N', help='trials at a time')
    known.add_argument('--workdir', metavar='FOLDER', help='of the sweep (default: runs/sweeps/<config>-<sweep>)')
    known.add_argument('--dry-run', action='store_true', help='print what would run, and nothing else')
    known.add_argument('--vmap', type=at_least(1), default=1, metavar='N', help='trials trained as one program')
    known.add_argument(
        '--search', default='', choices=['random', 'halving', 'optuna'], help='train a part of the trials'
    )
    known.add_argument('--budget', type=at_least(1), default=0, metavar='STEPS', help='search: of all trials together')
    known.add_argument('--retries', type=at_least(0), default=2, metavar='N', help='of a trial that crashes')
    known.add_argument('--backoff', type=float, default=10.0, metavar='SECONDS', help='before the first retry')
    known.add_argument('--processes', type=at_least(1), default=1, metavar='N', help='per trial')
    known.add_argument('--devices', type=at_least(0), default=0, metavar='N', help='virtual ones per process of a CPU')
    known.add_argument('--sbatch', default='', metavar='OPTIONS', help='slurm: of sbatch, e.g. "--time=4:00:00"')
    known.add_argument(
        '--plan', action='store_true', help='compile the trials for --topology, and print what they need'
    )
    known.add_argument('--image', default='', help='of the container, where trials run on slices of TPUs')
    known.add_argument('--topology', default='', help='of a slice, e.g. v5e:16x16; with --plan several, with commas')
    known.add_argument('--storage', default='', help='SERVER:/EXPORT:/PATH, mounted by all hosts; xpk: the name of one')
    known.add_argument('--slices', type=at_least(1), default=1, metavar='N', help='jobset, xpk: per trial')
    known.add_argument('--queue', default='', help='jobset: the local queue of Kueue')
    known.add_argument('--cluster', default='', help='xpk: the name of the cluster')
    known.add_argument('--zone', default='', help='xpk, tpu_vm, skypilot: of the slices')
    known.add_argument('--project', default='', help='xpk, tpu_vm: of Google Cloud (default: that of gcloud)')
    known.add_argument('--spot', action='store_true', help='tpu_vm, skypilot: slices that Google may take back')
    return known


def at_least(least: int):
    """Returns a parser of whole numbers from `least` on."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f'{text}: give a number of at least {least}')
        return int(text)

    return number


def make(arguments: argparse.Namespace, base: Sequence[str], words: Sequence[str]) -> int:
    """Checks the sweep and runs what is missing of it; returns the exit code.

    Args:
      arguments: the parsed arguments.
      base: --config.key=value of all trials.
      words: the whole command.
    """
    folder = path_of(arguments.workdir or default_folder(arguments.config, arguments.sweep))
    layout = trials.Layout(arguments.processes, arguments.devices, arguments.vmap)
    if arguments.vmap > 1 and (arguments.processes > 1 or arguments.devices > 1 or arguments.launcher in CLOUD):
        raise ConfigError('--vmap trains on one device: it does not go with --processes, --devices or a slice')
    if bool(arguments.search) != bool(arguments.budget):
        raise ConfigError('give --search=random, halving or optuna together with --budget=STEPS')
    if arguments.search in ('halving', 'optuna') and (arguments.vmap > 1 or arguments.launcher in CLOUD):
        flag = '--vmap' if arguments.vmap > 1 else f'--launcher={arguments.launcher}'
        raise ConfigError(f'--search={arguments.search} trains trials in parts: it does not go with {flag}')
    if remote(folder) and arguments.launcher in DISKS and not arguments.plan:
        others = ', '.join(name for name in CLOUD if name not in DISKS)
        raise ConfigError(
            f'--workdir={folder}: --launcher={arguments.launcher} needs a folder of a file system: name one, or take '
            f'--launcher={others}'
        )
    if arguments.plan:
        return plan(arguments, folder, base)
    if arguments.search == 'optuna':
        tuning.check()
    launcher = choose_launcher(arguments, folder)
    sweep = trials.Sweep(arguments.config, arguments.sweep, list(base), folder, layout)
    trials.check(sweep)
    found = checked(arguments.config, arguments.sweep, folder, base, devices(arguments), arguments.vmap > 1)
    found, rungs = search.plan(found, arguments.search, arguments.budget)
    if arguments.dry_run:
        if rungs:
            sweep, found = search.shortened(sweep, found, rungs[0])
        missing = run.missing(folder, found)
        jobs = run.jobs(sweep, found, missing)
        terminal.show((launcher.render(jobs) if jobs else '').rstrip('\n'))
        best = 'those that optuna chooses' if arguments.search == 'optuna' else 'the better halves'
        more = f'; then {best}, from steps {", ".join(map(str, rungs))}' if rungs else ''
        terminal.say(f'{len(missing)} of {len(found)} trials would run in {folder}{more}\n')
        return 0
    budget = arguments.budget if arguments.search == 'optuna' else 0
    code = run.run(sweep, found, launcher, rungs, budget, arguments.parallel)
    if code:
        terminal.say(f'the same command runs what is missing: python -m genlab.sweep {shlex.join(words)}\n')
    return code


def devices(arguments: argparse.Namespace) -> int:
    """Returns the devices of a trial, as far as the command tells: those that are found may be more."""
    if arguments.launcher in CLOUD:
        shape = cloud.slice_of(arguments.topology)
        return shape.hosts * shape.chips * arguments.slices
    return arguments.processes * max(arguments.devices, 1)


def default_folder(config: str, sweep: str) -> str:
    """Returns runs/sweeps/<config>-<variant>-<sweep>."""
    path, _, variant = config.partition(':')
    return f'runs/sweeps/{"-".join(filter(None, (pathlib.Path(path).stem, *variant.split(","), *sweep.split(","))))}'


def choose_launcher(arguments: argparse.Namespace, folder: pathlib.Path) -> Launcher:
    """Returns the launcher of a command."""
    if arguments.launcher == 'slurm':
        return Slurm(folder, arguments.parallel, arguments.retries, arguments.sbatch)
    if arguments.launcher in CLOUD:
        return choose_cloud(arguments, folder)
    return Local(arguments.parallel, arguments.retries, arguments.backoff)


def choose_cloud(arguments: argparse.Namespace, folder: pathlib.Path) -> Launcher:
    """Returns the launcher of a command whose trials run on slices of TPUs."""
    name, image, topology, retries = arguments.launcher, arguments.image, arguments.topology, arguments.retries
    flags = {'jobset': ['queue'], 'xpk': ['cluster'], 'tpu_vm': ['zone'], 'skypilot': []}[name]
    flags += [] if remote(folder) else ['storage']
    for flag in ('image', 'topology', *flags):
        if not getattr(arguments, flag):
            raise ConfigError(f'--launcher={name} needs --{flag}')
    if arguments.slices > 1 and name not in ('jobset', 'xpk'):
        raise ConfigError(f'--slices={arguments.slices}: several slices need --launcher=jobset or xpk')
    if name == 'xpk':
        place = arguments.cluster, arguments.zone, arguments.project, arguments.storage
        return Xpk(folder.name, image, topology, arguments.slices, *place, retries)
    storage = cloud.storage_of(arguments.storage, folder) if arguments.storage else None
    if name == 'jobset':
        return JobSet(folder.name, image, topology, arguments.slices, arguments.queue, retries, storage)
    given = cloud.Slices(folder, image, topology, storage, arguments.zone, arguments.project, arguments.spot, retries)
    return SkyPilot(given) if name == 'skypilot' else TpuVm(given)


def plan(arguments: argparse.Namespace, folder: pathlib.Path, base: Sequence[str]) -> int:
    """Prints the plan of a sweep, made by a process of its own, which imports JAX; returns its exit code."""
    words = [arguments.config, arguments.sweep, str(folder), arguments.topology, *base]
    return subprocess.run([sys.executable, '-m', 'genlab.sweep.plan', *words], stdin=subprocess.DEVNULL).returncode


def checked(
    config: str, sweep: str, folder: pathlib.Path, base: Sequence[str], devices: int = 1, together: bool = False
) -> list[trials.Trial]:
    """Returns the trials, listed and checked by a process of its own, which imports JAX.

    Args:
      config: the value of --config.
      sweep: the value of --sweep.
      folder: of the sweep.
      base: arguments that all trials share.
      devices: of each trial.
      together: whether the trials are trained as one program.
    """
    words = [sys.executable, '-m', 'genlab.sweep.spec', *['--together'][:together]]
    words += [config, sweep, str(folder), str(devices), *base]
    process = subprocess.run(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    if process.returncode:
        raise SystemExit(process.returncode)  # it has said why
    try:
        return [trials.Trial(**entry) for entry in json.loads(process.stdout.splitlines()[-1])]
    except (ValueError, TypeError, IndexError):
        raise ConfigError(f'--config={config}: its trials cannot be read: keep get_hyper free of output') from None


if __name__ == '__main__':
    terminal.prepare()
    sys.exit(main())
