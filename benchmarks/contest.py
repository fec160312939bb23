"""Shared code of the comparisons with PyTorch.

The contenders run alternately in one process, so that other load on the machine slows them equally.
"""

import os
import platform
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


def keep_freed_memory(module: str) -> None:
    """Restarts this process with the settings above, which glibc reads only at the start of a process.

    module: the dotted name of the module that runs, e.g. 'benchmarks.dcgan'.
    """
    if any(name not in os.environ for name in MALLOC):
        os.execve(sys.executable, [sys.executable, '-m', module, *sys.argv[1:]], os.environ | MALLOC)


def contenders(makers: dict[str, Callable], only: str) -> dict[str, Callable]:
    """Builds and warms up the contenders; skips those that do not run on this machine.

    Args:
      makers: name -> function that builds the contender, a function without arguments.
      only: prefix of the names to build; '' builds all.

    Returns:
      name -> contender.
    """
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as XLA does; `taskset -c 0` compares on one core
    ready: dict[str, Callable] = {}
    for name in filter(lambda name: name.startswith(only), makers):
        try:
            run = makers[name]()
            for _ in range(3):
                run()
            ready[name] = run
        except Exception as error:  # e.g. a compiler is missing; the others still run
            print(f'{name} does not run here: {str(error).splitlines()[0]}')
    return ready


def measure(ready: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Times the contenders alternately.

    Args:
      ready: name -> contender.
      rounds: runs of each contender.

    Returns:
      name -> seconds of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(rounds):
        for name, run in ready.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


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
        paired = np.median(np.min(others, 0) / np.min(own, 0))
        print(
            f'fastest torch / fastest genlab: {medians:.2f} of medians, {minima:.2f} of minima, {paired:.2f} by round'
        )
