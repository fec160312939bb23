"""Shared code of the comparisons with PyTorch and other packages.

Each contender runs in processes of its own, one after another, so that no heap, thread pool or cache is shared. Nothing
else should run on the machine. Every contender gets two turns: a machine that slows down shows in both sides.
"""

import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable

# glibc returns large freed blocks to the kernel. To allocate them again costs one page fault per 4 KB. These settings
# keep the blocks, as `genlab.main` does. Both sides benefit.
MALLOC = {
    'MALLOC_TRIM_THRESHOLD_': '8589934592',
    'MALLOC_MMAP_THRESHOLD_': '8589934592',
    'MALLOC_TOP_PAD_': '536870912',
    'MALLOC_ARENA_MAX': '2',
}
TURNS = 2  # processes per contender
ONE = 'GENLAB_CONTENDER'  # names the contender that a process runs


def compete(
    module: str,
    makers: dict[str, Callable[[], Callable]],
    rounds: int,
    images: int,
    *,
    steps: int = 1,
    only: str = '',
    against: str = 'torch',
    unit: str = 'images',
) -> None:
    """Times contenders and prints a table. Call it in the `main` of a benchmark, after the arguments are parsed.

    The process starts one process per contender and turn with its own arguments. In such a process, this function times
    the contender and exits.

    Args:
      module: the dotted name of the benchmark, e.g. 'benchmarks.dcgan'.
      makers: name -> function that builds the contender, a function without arguments. A name begins with the side,
        genlab or `against`. Before it, 'group: ' names a comparison of its own.
      rounds: runs of each contender over all turns.
      images: per step.
      steps: per run.
      only: prefix of the names to run; '' runs all.
      against: the installed package that genlab is compared with.
      unit: what `images` counts, for the table.
    """
    if ONE in os.environ:
        print(json.dumps(timed(makers[os.environ[ONE]], -(-rounds // TURNS), against)))
        sys.exit()
    seconds: dict[str, list[float]] = {name: [] for name in makers if name.startswith(only)}
    for _ in range(TURNS):
        for name in [*seconds]:
            environment = os.environ | MALLOC | {ONE: name}
            done = subprocess.run(
                [sys.executable, '-m', module, *sys.argv[1:]], env=environment, capture_output=True, text=True
            )
            if done.returncode:  # e.g. a compiler is missing; the others still run
                print(f'{name} does not run here: {[*done.stderr.splitlines(), "no reason given"][-2:][0]}')
                del seconds[name]
            else:
                seconds[name] += json.loads(done.stdout.splitlines()[-1])
    report(seconds, images, steps, against, unit)


def modes(genlab: Callable[[], Callable], torch: Callable[[bool, bool], Callable]) -> dict[str, Callable]:
    """Returns name -> function that builds a contender: genlab, and PyTorch eager and compiled, in both layouts.

    Args:
      genlab: builds the contender of genlab.
      torch: (channels last, compiled) -> the contender of PyTorch.
    """
    made: dict[str, Callable] = {'genlab': genlab}
    for compiled, last in itertools.product((False, True), (False, True)):
        name = f'torch {"compile" if compiled else "eager"}{" channels_last" if last else ""}'
        made[name] = lambda last=last, compiled=compiled: torch(last, compiled)
    return made


def loop_steps(config, period: int = 1) -> Callable[[], None]:
    """Compiles the calls of the loop, as a run has them, on random 8-bit images.

    Args:
      config: of the run.
      period: calls after which lazy terms repeat.

    Returns:
      A function that runs one period and waits for it.
    """
    import jax
    import numpy as np

    from genlab import experiment
    from genlab.run.platform import set_up_jax
    from genlab.training import parallel, program, totals

    set_up_jax()
    placement = parallel.place(config.placement)
    (only,) = program.programs(config, experiment.load(config.experiment), placement, declared=True)
    state = parallel.initial(placement, program.make_init(only))
    sums = parallel.replicate(placement, totals.zero(program.metric_names(only, placement, state)))
    constants = parallel.replicate(placement, program.make_constants(only))
    steps, turns = only.calls
    random = np.random.default_rng(0)
    loaded = {
        name: random.integers(0, 256, leaf.shape, np.uint8) if leaf.dtype == np.uint8 else leaf
        for name, leaf in program.load(only, 0, steps * turns, slice(None)).items()
    }
    carry, batches = (state, sums), placement.put(program.fold(only, loaded))
    patterns = [program.pattern(only, first) for first in range(period)]
    compiled = {
        due: placement.compile(program.make_call(only, due), carry).lower(carry, batches, constants).compile()
        for due in {*patterns}
    }

    def run():
        nonlocal carry
        for due in patterns:
            carry = compiled[due](carry, batches, constants)
        jax.block_until_ready(carry)

    return run


def timed(make: Callable[[], Callable], rounds: int, against: str = 'torch') -> list[float]:
    """Builds a contender, runs it three times to warm up, and returns the seconds of each of the next runs."""
    if against == 'torch':
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))  # as XLA does; `taskset -c 0` compares on one core
    run, seconds = make(), []
    for _ in range(3):
        run()
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds


def keep_freed_memory(module: str) -> None:
    """Restarts this process with the settings above, which glibc reads only at the start of a process.

    module: the dotted name of the module that runs, e.g. 'benchmarks.convolution'.
    """
    if any(name not in os.environ for name in MALLOC):
        os.execve(sys.executable, [sys.executable, '-m', module, *sys.argv[1:]], os.environ | MALLOC)


def report(
    seconds: dict[str, list[float]], images: int, steps: int = 1, against: str = 'torch', unit: str = 'images'
) -> None:
    """Prints a table of the times, and per group the ratio of the fastest other contender to the fastest of genlab.

    Args:
      seconds: name -> seconds of each round.
      images: per step.
      steps: per round.
      against: the package of the other contenders.
      unit: what `images` counts.
    """
    import numpy as np

    cores = f'{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores'
    versions = ', '.join(f'{package} {importlib.metadata.version(package)}' for package in ('jax', against))
    print(f'{platform.machine()}, {cores}; {versions}; {images} {unit} per step')
    print(f'| contender | median ms per step | minimum | {unit}/s |\n|---|---|---|---|')
    for name, times in seconds.items():
        median, minimum = np.median(times) / steps, min(times) / steps
        print(f'| {name} | {1e3 * median:.2f} | {1e3 * minimum:.2f} | {images / median:.1f} |')
    for group in dict.fromkeys(name.rpartition(': ')[0] for name in seconds):
        start = f'{group}: ' if group else ''
        own, others = (
            [times for name, times in seconds.items() if name.startswith(start + side)] for side in ('genlab', against)
        )
        if own and others:
            medians, minima = (min(map(statistic, others)) / min(map(statistic, own)) for statistic in (np.median, min))
            print(f'{start}fastest {against} / fastest genlab: {medians:.2f} of medians, {minima:.2f} of minima')
