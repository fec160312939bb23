"""Shared code of the comparisons with PyTorch and other packages.

Each contender runs in processes of its own, one after another, so that no heap, thread pool or cache is shared. Nothing
else should run on the machine. Every contender gets two turns unless `--turns` says otherwise: a machine that slows
down shows in both sides.

`--device=auto` is the GPU if JAX has one, else the CPU; both sides use the same. The first process opens no GPU. On a
GPU:

- A round is ten runs, and the host waits for the device once, after the last of them. So do both sides.
- Both sides multiply in TF32, JAX's default on such cards. Each side multiplies numbers that TF32 rounds; the head of
  the table says what it found. Without equal devices and precision there is no ratio.
- PyTorch has the fused Adam, cuDNN's benchmark mode and `torch.cuda.graph` as modes of their own: one graph of
  everything that a run does, the optimizer included, over eager or compiled modules. A graph repeats choices of Python.
- Data is on the device before the first round, on both sides. genlab converts bytes to floats in each step and sums
  its metrics, as its loop does. PyTorch starts from floats, except in `benchmarks.vae`.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

# glibc returns large freed blocks to the kernel. To allocate them again costs one page fault per 4 KB. These settings
# keep the blocks, as `genlab.main` does. Both sides benefit.
MALLOC = {
    'MALLOC_TRIM_THRESHOLD_': '8589934592',
    'MALLOC_MMAP_THRESHOLD_': '8589934592',
    'MALLOC_TOP_PAD_': '536870912',
    'MALLOC_ARENA_MAX': '2',
}
NO_POOL = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}  # JAX takes GPU memory as it needs it
ONE = 'GENLAB_CONTENDER'  # names the contender that a process runs
REPEATS = {'cpu': 1, 'gpu': 10}  # runs per round: a GPU should not idle while the host starts a step
WARM_UP = 3  # runs


class Timing(NamedTuple):
    """What the process of a contender found: seconds of each round, the device, and the precision of its products."""

    seconds: list[float]
    device: str
    precision: str


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Returns a parser with the arguments that all comparisons have. rounds: their number unless the user says."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument('--rounds', type=int, default=rounds, help='timings of each contender over all turns')
    made.add_argument('--turns', type=int, default=2, help='processes per contender')
    made.add_argument('--repeats', type=int, default=0, help=f'runs per round; 0: {REPEATS}')
    made.add_argument('--only', action='append', help='prefix of names of contenders; may be given several times')
    made.add_argument('--device', choices=['auto', 'cpu', 'gpu'], default='auto', help='auto: as JAX has by default')
    made.add_argument('--limit', type=float, help='seconds per process; a contender that takes longer is left out')
    made.add_argument('--verbose', action='store_true', help='progress and errors of the processes on stderr')
    return made


def parse(made: argparse.ArgumentParser, arguments: list[str] | None = None) -> argparse.Namespace:
    """Parses arguments, sys.argv if they are None, and finds the device. JAX looks for it in a process of its own."""
    options = made.parse_args(arguments)
    if options.device == 'auto':
        code = 'import jax; print(jax.default_backend())'
        done = subprocess.run([sys.executable, '-c', code], env=os.environ | NO_POOL, capture_output=True, text=True)
        options.device = 'gpu' if done.stdout.split()[-1:] == ['gpu'] else 'cpu'
    options.repeats = options.repeats or REPEATS[options.device]
    return options


def compete(
    module: str,
    makers: dict[str, Callable[[], Callable]],
    options: argparse.Namespace,
    images: int,
    *,
    steps: int = 1,
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
      options: from `parse`.
      images: per step.
      steps: per run.
      against: the installed package that genlab is compared with.
      unit: what `images` counts, for the table.
    """
    if ONE in os.environ:
        print(json.dumps(contend(os.environ[ONE], makers[os.environ[ONE]], options)))
        sys.exit()
    found: dict[str, list[Timing]] = {name: [] for name in makers if name.startswith(tuple(options.only or ['']))}
    for _ in range(options.turns):
        for name in [*found]:
            started = time.perf_counter()
            timing = in_process(module, name, options)
            if timing is None:
                del found[name]
                continue
            found[name].append(timing)
            if options.verbose:
                median = 1e3 * sorted(timing.seconds)[len(timing.seconds) // 2] / (steps * options.repeats)
                took = time.perf_counter() - started
                print(f'{name}: {median:.3f} ms per step; the process took {took:.0f} s', file=sys.stderr, flush=True)
    report(found, images, steps * options.repeats, against, unit)


def in_process(module: str, name: str, options: argparse.Namespace) -> Timing | None:
    """Times a contender in a process of its own. Says why in one line if it does not run, and returns None."""
    device = NO_POOL if options.device == 'gpu' else {'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, '-m', module, *sys.argv[1:], f'--device={options.device}']
    # files, not pipes: workers of a compiler that outlive the process would keep pipes open
    with tempfile.TemporaryFile('w+') as output, tempfile.TemporaryFile('w+') as errors:
        try:
            code = subprocess.run(
                command,
                env=os.environ | MALLOC | device | {ONE: name},
                stdout=output,
                stderr=errors,
                timeout=options.limit,
            ).returncode
        except subprocess.TimeoutExpired:
            print(f'{name} does not run here: it takes more than {options.limit:.0f} s', flush=True)
            return None
        output.seek(0)
        errors.seek(0)
        if not code:
            return Timing(*json.loads(output.read().splitlines()[-1]))
        said = errors.read()
    if options.verbose:
        print(said[-4000:], file=sys.stderr, flush=True)
    lines = [line for line in said.splitlines() if line.strip()] or ['no reason given']
    print(f'{name} does not run here: {lines[-1]}', flush=True)  # e.g. a compiler is missing; the others still run
    return None


def contend(name: str, make: Callable[[], Callable], options: argparse.Namespace) -> Timing:
    """Builds a contender in this process, and times it."""
    side, gpu = name.rpartition(': ')[2], options.device == 'gpu'
    device, precision, wait = platform.machine(), '', lambda result: None
    if side.startswith('torch'):
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))  # as XLA does; `taskset -c 0` compares on one core
        if gpu:
            if not torch.cuda.is_available():
                sys.exit('PyTorch has no GPU here')
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.allow_tf32 = True
            torch.set_float32_matmul_precision('high')
            device, wait = torch.cuda.get_device_name(), lambda result: torch.cuda.synchronize()
    run = make()
    if side.startswith('genlab'):
        import jax

        if jax.default_backend() != options.device:
            sys.exit(f'JAX computes on {jax.default_backend()} here, not on {options.device}')
        wait = jax.block_until_ready
        device = jax.devices()[0].device_kind if gpu else device
    seconds = timed(run, -(-options.rounds // options.turns), options.repeats, wait)
    if gpu and side.startswith(('genlab', 'torch')):
        precision = precision_of(side.startswith('genlab'))
    return Timing(seconds, device, precision)


def precision_of(of_jax: bool) -> str:
    """Returns what this process's products on the GPU keep of 1 + 2^-12, which TF32 with its 10 bits rounds to 1."""
    value, size = 1 + 2**-12, 512
    product: Any
    if of_jax:
        import jax
        import jax.numpy as jnp

        product = jax.jit(jnp.matmul)(jnp.full((size, size), value, jnp.float32), jnp.eye(size))
    else:
        import torch

        product = torch.full((size, size), value, device='cuda') @ torch.eye(size, device='cuda')
    return 'TF32' if float(product[0, 0]) == 1 else 'float32'


def modes(
    build: Callable[[bool, bool], Callable], device: str, layouts: tuple[bool, ...] = (False, True)
) -> dict[str, Callable]:
    """Returns name -> function that builds a contender of PyTorch: eager and compiled, and on a GPU as a graph.

    Args:
      build: (channels last, compiled) -> the contender. The tensors that it makes are on the device.
      device: 'cpu' or 'gpu'.
      layouts: whether channels are last; those to try.
    """

    def make(graph: bool, compiled: bool, last: bool) -> Callable:
        import torch

        # only while building: as the default of a whole process it slows down every call from Python
        with torch.device('cuda' if device == 'gpu' else 'cpu'):
            run = build(last, compiled)
        return captured(run) if graph else run

    return {
        f'torch {"graph " if graph else ""}{"compile" if compiled else "eager"}{" channels_last" if last else ""}': (
            lambda mode=(graph, compiled, last): make(*mode)
        )
        for graph in ((False, True) if device == 'gpu' else (False,))
        for compiled, last in itertools.product((False, True), layouts)
    }


def captured(run: Callable[[], Any]) -> Callable[[], None]:
    """Records everything that `run` does on the GPU as one CUDA graph; returns a function that repeats it."""
    import torch

    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):  # the optimizer's state, cuDNN's choices and compiled code must exist before
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()

    def repeat(kept=run):  # the graph has addresses only: `run` keeps the weights
        graph.replay()

    return repeat


def adam(parameters, rate: float, betas: tuple[float, float] = (0.9, 0.999), fused: bool = True):
    """Returns Adam of PyTorch: on a GPU the fused one, which a graph can record; else as `fused` says."""
    import torch

    parameters = [*parameters]
    gpu = parameters[0].is_cuda
    return torch.optim.Adam(parameters, rate, betas, fused=fused or gpu or None, capturable=gpu)


def loop_steps(config, period: int = 1) -> Callable[[], Any]:
    """Compiles the calls of the loop, as a run has them, on random 8-bit images.

    Args:
      config: of the run.
      period: calls after which lazy terms repeat.

    Returns:
      A function that starts one period, and returns arrays to wait for.
    """
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
        return carry

    return run


def timed(run: Callable, rounds: int, repeats: int, wait: Callable[[Any], Any]) -> list[float]:
    """Warms up, and returns the seconds of each round.

    Args:
      run: returns what `wait` waits for.
      rounds: their number.
      repeats: runs per round.
      wait: blocks until the result of the last run, and so of those before it, is there.
    """
    seconds = []
    for _ in range(WARM_UP):
        wait(run())
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(repeats):
            result = run()
        wait(result)
        seconds.append(time.perf_counter() - started)
    return seconds


def keep_freed_memory(module: str) -> None:
    """Restarts this process with the settings above, which glibc reads only at the start of a process.

    module: the dotted name of the module that runs, e.g. 'benchmarks.convolution'.
    """
    if any(name not in os.environ for name in MALLOC):
        os.execve(sys.executable, [sys.executable, '-m', module, *sys.argv[1:]], os.environ | MALLOC)


def report(
    found: dict[str, list[Timing]], images: int, steps: int = 1, against: str = 'torch', unit: str = 'images'
) -> None:
    """Prints a table of the times, and per group the ratio of the fastest other contender to the fastest of genlab.

    Args:
      found: name -> timing of each turn.
      images: per step.
      steps: per round.
      against: the package of the other contenders.
      unit: what `images` counts.
    """
    import numpy as np

    seconds = {name: [one for timing in timings for one in timing.seconds] for name, timings in found.items()}
    conditions = dict.fromkeys(
        timing.device + (f' in {timing.precision}' if timing.precision else '')
        for timings in found.values()
        for timing in timings
    )
    cores = f'{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores'
    versions = ', '.join(f'{package} {importlib.metadata.version(package)}' for package in ('jax', against))
    print(f'{" and ".join(conditions)}, {cores}; {versions}; {images} {unit} per step')
    print(f'| contender | median ms per step | minimum | {unit}/s |\n|---|---|---|---|')
    for name, times in seconds.items():
        median, minimum = np.median(times) / steps, min(times) / steps
        digits = 2 if minimum > 0.01 else 3
        print(f'| {name} | {1e3 * median:.{digits}f} | {1e3 * minimum:.{digits}f} | {images / median:.1f} |')
    if against == 'torch' and len(conditions) > 1:
        print('The contenders differ in device or precision: no ratio')
        return
    for group in dict.fromkeys(name.rpartition(': ')[0] for name in seconds):
        start = f'{group}: ' if group else ''
        own, others = (
            [times for name, times in seconds.items() if name.startswith(start + side)] for side in ('genlab', against)
        )
        if own and others:
            medians, minima = (min(map(statistic, others)) / min(map(statistic, own)) for statistic in (np.median, min))
            print(f'{start}fastest {against} / fastest genlab: {medians:.2f} of medians, {minima:.2f} of minima')
