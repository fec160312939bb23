"""What timings against PyTorch share: contenders take turns in one process, so that a busy machine slows them alike."""

import os
import platform
import sys
import time
from collections.abc import Callable

# glibc gives large freed blocks back to the kernel and pays a page fault for each 4 KB when it gets them again; these
# settings keep them, as `genlab.main` does. They help both sides.
MALLOC = {
    'MALLOC_TRIM_THRESHOLD_': '8589934592',
    'MALLOC_MMAP_THRESHOLD_': '8589934592',
    'MALLOC_TOP_PAD_': '536870912',
    'MALLOC_ARENA_MAX': '2',
}


def keep_freed_memory(module: str) -> None:
    """Starts this process anew under the settings above: glibc reads them only then."""
    if any(name not in os.environ for name in MALLOC):
        os.execve(sys.executable, [sys.executable, '-m', module, *sys.argv[1:]], os.environ | MALLOC)


def contenders(makers: dict[str, Callable], only: str) -> dict[str, Callable]:
    """Every contender whose name begins with `only` and that runs here, made and warmed up."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as many as XLA takes: `taskset -c 0` compares on one core
    ready = {}
    for name in filter(lambda name: name.startswith(only), makers):
        try:
            run = makers[name]()
            for _ in range(3):
                run()
            ready[name] = run
        except Exception as error:  # a compiler may be missing: say so and compare with the rest
            print(f'{name} does not run here: {str(error).splitlines()[0]}')
    return ready


def measure(ready: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round."""
    seconds = {name: [] for name in ready}
    for _ in range(rounds):
        for name, run in ready.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def report(seconds: dict[str, list[float]], images: int, steps: int = 1) -> None:
    """A table of the steps of `images` images, `steps` of them a turn, and how the fastest PyTorch compares with genlab."""
    import jax
    import numpy as np
    import torch

    cores = f'{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores'
    print(f'{platform.machine()}, {cores}; jax {jax.__version__}, torch {torch.__version__}; batch {images}')
    print('| contender | median ms a step | minimum | images/s |\n|---|---|---|---|')
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
