"""Shared code of the comparisons with PyTorch.

Each contender runs in processes of its own, one after another, so that no heap, thread pool or cache is shared. Nothing
else should run on the machine. Every contender gets two turns: a machine that slows down shows in both sides.
"""

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
    module: str, makers: dict[str, Callable[[], Callable]], rounds: int, images: int, *, steps: int = 1, only: str = ''
) -> None:
    """Times contenders and prints a table. Call it in the `main` of a benchmark, after the arguments are parsed.

    The process starts one process per contender and turn with its own arguments. In such a process, this function times
    the contender and exits.

    Args:
      module: the dotted name of the benchmark, e.g. 'benchmarks.dcgan'.
      makers: name -> function that builds the contender, a function without arguments.
      rounds: runs of each contender over all turns.
      images: per step.
      steps: per run.
      only: prefix of the names to run; '' runs all.
    """
    if ONE in os.environ:
        print(json.dumps(timed(makers[os.environ[ONE]], -(-rounds // TURNS))))
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
    report(seconds, images, steps)


def timed(make: Callable[[], Callable], rounds: int) -> list[float]:
    """Builds a contender, runs it three times to warm up, and returns the seconds of each of the next runs."""
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


def report(seconds: dict[str, list[float]], images: int, steps: int = 1) -> None:
    """Prints a table of the times, and the ratio of the fastest PyTorch contender to the fastest of genlab.

    Args:
      seconds: name -> seconds of each round.
      images: per step.
      steps: per round.
    """
    import jax
    import numpy as np
    import torch

    cores = f'{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores'
    print(f'{platform.machine()}, {cores}; jax {jax.__version__}, torch {torch.__version__}; batch {images}')
    print('| contender | median ms per step | minimum | images/s |\n|---|---|---|---|')
    for name, times in seconds.items():
        median, minimum = np.median(times) / steps, min(times) / steps
        print(f'| {name} | {1e3 * median:.2f} | {1e3 * minimum:.2f} | {images / median:.0f} |')
    own, others = ([times for name, times in seconds.items() if name.startswith(side)] for side in ('genlab', 'torch'))
    if own and others:
        medians, minima = (min(map(statistic, others)) / min(map(statistic, own)) for statistic in (np.median, min))
        print(f'fastest torch / fastest genlab: {medians:.2f} of medians, {minima:.2f} of minima')
