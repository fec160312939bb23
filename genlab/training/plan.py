"""`--mode=plan`: the memory and arithmetic of the training step, compiled ahead of time.

The targets are the devices present or a TPU topology.
"""

import functools
import importlib.util
import math
import os
import re
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab.errors import ConfigError, UserError
from genlab.experiment import Build
from genlab.training import parallel, totals
from genlab.training.program import (
    Program,
    fold,
    load,
    make_call,
    make_constants,
    make_init,
    metric_names,
    outline,
    programs,
)

GIB = 2**30


class Chip(NamedTuple):
    """A chip as its vendor specifies it; 0 where this file has no number."""

    memory: int  # GiB
    flops: float = 0.0  # floating-point operations per second in bfloat16
    bandwidth: float = 0.0  # bytes per second from and to its memory
    links: float = 0.0  # bytes per second to all neighbours together


# https://cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e: peak compute, HBM, and inter-chip interconnect per chip.
# The pages give the interconnect in bits (2400, 1600, 4800 and 3200 Gbps), or in bytes in both directions.
CHIPS = {
    'TPU v2': Chip(16),
    'TPU v3': Chip(32),
    'TPU v4': Chip(32, 275e12, 1200e9, 300e9),
    'TPU v5 lite': Chip(16, 197e12, 819e9, 200e9),
    'TPU v5': Chip(95, 459e12, 2765e9, 600e9),
    'TPU v5p': Chip(95, 459e12, 2765e9, 600e9),
    'TPU v6 lite': Chip(32, 918e12, 1600e9, 400e9),
    'TPU7x': Chip(192),
}
# What libtpu asks about its machine. It warns where it finds no answer, and the topology does not depend on it.
LIBTPU = {
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',  # no device is opened, so a run on this machine may continue
}
# A step for absent devices never runs, so it is compiled quickly rather than well. Its memory can differ from that of
# the run: for DiT-XL/2 with a small autoencoder, on 16 devices, 2.4 GiB were found in place of 2.3 GiB.
LEAST_EFFORT = {'exec_time_optimization_effort': -1.0}
COLLECTIVE = re.compile(r'= (.*?) (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)(-start)?\(')
GROUPS = re.compile(
    r'replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]+)\})'
)  # devices per group: '[64,4]<=[256]', or '{{0,1},{2,3}}'
CHANNEL = re.compile(r'channel_id=(\d+)')
COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.-]+) .*\{$')  # the line that opens a computation
CALLED = re.compile(r'(?:calls|to_apply|body|branch_computations|\w+_computation)=\{?(%?[\w.-]+(?:, %?[\w.-]+)*)')
LOOP = re.compile(r' while\(.*condition=%?([\w.-]+)')
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
LIMIT = re.compile(r's32\[\]\S* constant\((\d+)\)')
SHAPE = re.compile(r'\b(pred|[a-z]+?)(\d*)(?:e\dm\d\w*)?\[([\d,]*)\]')
STACK_FRAME = re.compile(r' ?stack_frame_id=\d+')


Collectives = dict[str, tuple[int, int]]  # kind -> (number, bytes of the results)


class Cost(NamedTuple):
    """What a device computes and moves."""

    flops: float  # floating-point operations
    accessed: float  # bytes read and written


class Plan(NamedTuple):
    """The requirements of one device for one call of the step. Sizes are in bytes."""

    devices: int
    kind: str
    arguments: int
    outputs: int
    donated: int  # outputs that reuse the buffers of arguments
    temporaries: int
    flops: float  # floating-point operations; what a loop contains is counted once
    accessed: float  # bytes read and written, counted in the same way
    collectives: Collectives  # that the call runs
    loops: dict[int, Collectives]  # passes of a loop -> those of one pass, such as one layer of a network
    sent: float  # bytes that each device sends in the collectives
    memory: int | None  # memory of the device; None if unknown
    whole: Cost | None  # cost of the call, with each pass of its loops; None if the compiler cannot tell
    steps: int = 1  # number of steps of the call
    cores: int = 1  # devices per chip, which share its memory and links

    @property
    def needed(self) -> int:
        """The peak memory in bytes."""
        return self.arguments + self.outputs - self.donated + self.temporaries


def plan(config: ConfigDict, build: Build, topology: str | None = None) -> Plan:
    """Compiles the step of the first phase. Computes nothing and reads no data.

    Args:
      config: config of the run.
      build: the experiment of the config.
      topology: a TPU topology, e.g. 'v5e:4x4'; None takes the devices present.

    Raises:
      UserError: the step does not fit the memory of the devices.
    """
    devices = describe_topology(topology) if topology else jax.devices()
    placement = parallel.place(config.placement, devices, config.tensor)
    program = programs(config, build, placement, declared=True)[0]
    try:
        compiled = lower(program, placement).compile(LEAST_EFFORT if topology else None)
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        raise UserError(f'does not fit {len(devices)} x {devices[0].device_kind}: {_reason(str(error))}') from error
    return read(compiled, devices, config.train.steps_per_call)


def lower(program: Program, placement: parallel.Placement) -> Any:
    """Traces the program's call for the shapes that the loop passes to it. Returns JAX's lowered computation."""
    state, sums, batch = inputs(program, placement)
    carry = parallel.template(placement, state), parallel.replicated(placement, sums)
    constants = parallel.replicated(placement, make_constants(program))
    return placement.compile(make_call(program), carry).lower(carry, placement.shapes(batch), constants)


def inputs(program: Program, placement: parallel.Placement) -> tuple[Any, Any, Any]:
    """Returns the arguments of the first call except its constants: the abstract state, sums of metrics, batches."""
    state = outline(make_init(program))
    batch = fold(program, load(program, 0, math.prod(program.calls), slice(None)))
    return state, totals.zero(metric_names(program, placement, state)), batch


def read(compiled: Any, devices: list, steps: int = 1) -> Plan:
    """Reads the figures of a compiled call of `steps` steps."""
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    once = Cost(cost.get('flops', 0.0), cost.get('bytes accessed', 0.0))
    collectives, loops, sent = count_collectives(text, len(devices))
    return Plan(
        len(devices),
        devices[0].device_kind,
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        memory.alias_size_in_bytes,
        memory.temp_size_in_bytes,
        *once,
        collectives,
        loops,
        sent,
        _memory(devices),
        count_passes(text, once),
        steps,
        _cores(devices),
    )


def count_collectives(text: str, devices: int) -> tuple[Collectives, dict[int, Collectives], float]:
    """Counts the collectives of a compiled step. What a loop contains is counted once per pass.

    An asynchronous collective is spread over several instructions with one channel, and counted once. Loops of the same
    number of passes are counted together: they are the forward and the backward pass through the same layers. A TPU's
    compiler may pass shards of weights around a ring by collective-permute while it multiplies.

    Args:
      text: the compiled step, as `as_text` of JAX returns it.
      devices: that run it.

    Returns:
      The collectives of a call, passes -> those of one pass of the loops with that many passes, and the bytes that a
      device sends in a call.
    """
    computations, entry = _computations(text)
    totals: Collectives = {}
    loops: dict[int, Collectives] = {}
    counted: set[tuple[str, str]] = set()
    sent = 0.0

    def visit(name: str, times: int, passes: int) -> None:
        nonlocal sent
        for line in computations[name]:
            if (match := COLLECTIVE.search(line)) and (channel := _channel(line, match[2])) not in counted:
                counted.update({channel} if channel else ())
                size = sum(map(_bytes, _results(match)))
                _add(totals, match[2], times, size)
                sent += times * _share_sent(match[2], _group(line, devices)) * size
                if passes:
                    _add(loops.setdefault(passes, {}), match[2], 1, size)
            trips = _trips(line, computations)
            for called in _called(line, computations):
                visit(called, times * trips, trips if trips > 1 else passes)

    visit(entry, 1, 0)
    return totals, loops, sent


def _group(line: str, devices: int) -> int:
    """Returns how many devices take part in a collective: those of one of its groups, or all."""
    match = GROUPS.search(line)
    return (int(match[1]) if match[1] else len(match[2].split(','))) if match else devices


def _share_sent(kind: str, n: int) -> float:
    """Returns the bytes that each of n devices sends per byte of the result, by the algorithms that send the least.

    They are 2 (n - 1) / n for an all-reduce, (n - 1) / n for an all-gather or an all-to-all, n - 1 for a
    reduce-scatter, and 1 for a collective-permute (Thakur et al. 2005).
    """
    if kind == 'collective-permute':
        return 1.0
    return (n - 1) / n * {'all-reduce': 2, 'reduce-scatter': n}.get(kind, 1)


def _results(match: re.Match) -> list[tuple[str, str, str]]:
    """Returns the shapes of the results of a match of COLLECTIVE: kind of number, its bits, and sides.

    An asynchronous all-gather or collective-permute begins with its operands, and may end with counters (u32[]).
    """
    shapes = SHAPE.findall(match[1])
    if match[3] and match[2] in ('all-gather', 'collective-permute'):
        arrays = [shape for shape in shapes if shape[2] or shape[0] != 'u']
        return arrays[len(arrays) // 2 :]
    return shapes


def _channel(line: str, kind: str) -> tuple[str, str] | None:
    """Returns what identifies a collective, or None where its instruction names no channel."""
    match = CHANNEL.search(line)
    return (kind, match[1]) if match else None


def count_passes(text: str, once: Cost) -> Cost | None:
    """Returns the cost of a compiled call with each pass of its loops. XLA itself counts the body of a loop once.

    The body of each loop is made a program of its own, whose cost XLA counts. A loop whose passes the text does not
    state counts once: the cost is then a lower bound.

    Args:
      text: the compiled call, as `as_text` of JAX returns it.
      once: its cost as XLA counts it.

    Returns:
      The cost, or None where this version of JAX does not count the cost of a text.
    """
    computations, entry = _computations(text)

    @functools.cache
    def further(name: str) -> Cost:  # what a computation costs beyond what XLA counts
        flops = accessed = 0.0
        for line in computations[name]:
            trips = _trips(line, computations)
            for called in _called(line, computations):
                more, body = further(called), _cost(computations, entry, called) if trips > 1 else Cost(0.0, 0.0)
                flops += trips * more.flops + (trips - 1) * body.flops
                accessed += trips * more.accessed + (trips - 1) * body.accessed
        return Cost(flops, accessed)

    try:
        more = further(entry)
    except (ImportError, AttributeError, TypeError, jax.errors.JaxRuntimeError):  # the functions are not JAX's API
        return None
    return Cost(once.flops + more.flops, once.accessed + more.accessed)


def _cost(computations: dict[str, list[str]], entry: str, name: str) -> Cost:
    """Returns the cost of a computation of a program as XLA counts it."""
    from jaxlib import _hlo, _jax  # type: ignore[attr-defined]

    lines = ['HloModule part', '']
    for other, (header, *rest) in computations.items():
        if other not in ('', entry):
            lines += [f'ENTRY {header}' if other == name else header, *rest]
    text = STACK_FRAME.sub('', '\n'.join(lines))  # their table is of the whole program
    client = jax.local_devices(backend='cpu')[0].client
    cost = _jax.hlo_module_cost_analysis(client, _hlo.hlo_module_from_text(text))
    return Cost(cost.get('flops', 0.0), cost.get('bytes accessed', 0.0))


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Returns name -> lines of the computations of a program, and the name of the one that calls the others."""
    computations: dict[str, list[str]] = {'': ['']}
    name = entry = ''
    for line in text.splitlines():
        if match := COMPUTATION.match(line):
            name = match[2]
            computations[name] = []
            entry = name if match[1] else entry
        computations[name].append(line)
    return computations, entry


def _called(line: str, computations: dict[str, list[str]]) -> list[str]:
    """Returns the names of the computations that an instruction calls; of a loop, the body alone."""
    names = (word.strip('% ') for names in CALLED.findall(line) for word in names.split(','))
    return [name for name in names if name in computations]


def _trips(line: str, computations: dict[str, list[str]]) -> int:
    """Returns the passes of an instruction that is a loop: those that it states, or the limit in its condition.

    They are 1 if they are unknown, or if the instruction is no loop.
    """
    loop = LOOP.search(line)
    if not loop:
        return 1
    known = TRIPS.search(line)
    limits = [known[1]] if known else LIMIT.findall('\n'.join(computations.get(loop[1], [])))
    return int(limits[0]) if len(limits) == 1 else 1


def _add(found: Collectives, kind: str, times: int, size: int) -> None:
    """Adds `times` collectives of `size` bytes each."""
    number, total = found.get(kind, (0, 0))
    found[kind] = number + times, total + times * size


def table(plan: Plan, microbatches: int) -> str:
    """Formats a plan as a text table.

    XLA counts the arithmetic and traffic of a loop's body once. So they are of one step per call, of one microbatch per
    step, and of one of the layers that a network repeats.
    """
    once = 'a step' if microbatches == 1 else f'a step, with one of {microbatches} microbatches counted'
    once += ''.join(f', one of {passes} layers counted' for passes in sorted(plan.loops) if passes != microbatches)
    verdict = f' of {size_text(plan.memory)}: {"fits" if fits(plan) else "does NOT fit"}' if plan.memory else ''
    rows = [
        ('devices', f'{plan.devices} x {plan.kind}'),
        ('arguments', size_text(plan.arguments)),
        ('temporaries', size_text(plan.temporaries)),
        ('outputs', size_text(plan.outputs)),
        ('saved by donation', f'{size_text(plan.donated)} of outputs that reuse the buffers of arguments'),
        ('needed', size_text(plan.needed) + verdict),
        ('arithmetic', f'{plan.flops / 1e9:,.2f} GFLOP {once}'),
        ('memory traffic', f'{size_text(plan.accessed)} {once}'),
    ]
    if plan.whole and plan.whole != (plan.flops, plan.accessed):
        flops, accessed = (value / plan.steps for value in plan.whole)
        rows.append(('with each pass', f'{flops / 1e9:,.2f} GFLOP, {size_text(accessed)} a step'))
    rows += [
        (kind, f'{number} per call, {size_text(size)}') for kind, (number, size) in sorted(plan.collectives.items())
    ]
    for passes, found in sorted(plan.loops.items()):
        each = '; '.join(f'{kind} {number}, {size_text(size)}' for kind, (number, size) in sorted(found.items()))
        rows.append((f'of each of {passes}', f'passes of a loop (layers): {each}'))
    if least := estimate(plan):
        rows.append(('a step takes at least', least.text()))
    return '\n'.join(f'{name:<22}{value}' for name, value in [('per device', ''), *rows])


class Estimate(NamedTuple):
    """The least seconds per step by each limit of a device: a roofline (Williams et al. 2009)."""

    arithmetic: float
    memory: float
    links: float

    @property
    def seconds(self) -> float:
        """The least seconds of a step, where all three overlap."""
        return max(self)

    @property
    def limit(self) -> str:
        """The name of the limit that decides."""
        return max(self._asdict().items(), key=lambda item: item[1])[0]

    def text(self) -> str:
        """Formats the estimate as one line."""
        parts = ', '.join(f'{name} {seconds * 1e3:,.3g}' for name, seconds in self._asdict().items())
        return f'{self.seconds * 1e3:,.3g} ms ({parts})'


def estimate(plan: Plan) -> Estimate | None:
    """Returns the least seconds of a step on the planned device, or None where its speed or the work is unknown.

    The peak is that of bfloat16, in which TPUs multiply float32 matrices too. A collective uses all links of a device.
    """
    chip = CHIPS.get(plan.kind)
    if chip is None or not chip.flops or plan.whole is None:
        return None
    flops, accessed = plan.whole
    work = Estimate(flops / chip.flops, accessed / chip.bandwidth, plan.sent / chip.links)
    return Estimate(*(plan.cores * seconds / plan.steps for seconds in work))


def fits(plan: Plan) -> bool | None:
    """Returns whether the device has enough memory, or None if its memory is unknown."""
    return None if plan.memory is None else plan.needed <= plan.memory


def describe_topology(name: str) -> list:
    """Returns the devices of a TPU topology as compile targets; they need not be present."""
    for variable, value in LIBTPU.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    host = {'chips_per_host_bounds': [1, 1, 1]} if re.fullmatch(r'\w+:1(x1)*', name) else {}
    try:
        return list(topologies.get_topology_desc(topology_name=name, platform='tpu', **host).devices)
    except Exception as error:
        if importlib.util.find_spec('libtpu') is None:
            raise UserError("--topology needs TPU's compiler: pip install -e '.[tpu]'") from error
        raise ConfigError(f'--topology={name}: no such TPU topology; e.g. v5e:4x4 or v4:2x2x2') from error


def _cores(devices: list) -> int:
    """Returns the devices per chip. A v4 chip has two cores: one device where it runs, two where it is compiled for."""
    return 1 + max(getattr(device, 'core_on_chip', 0) for device in devices)


def _memory(devices: list) -> int | None:
    """Returns the memory of a device in bytes, or None if it is unknown."""
    device = devices[0]
    if device.device_kind in CHIPS:
        return CHIPS[device.device_kind].memory * GIB // _cores(devices)
    try:
        return (device.memory_stats() or {}).get('bytes_limit')
    except jax.errors.JaxRuntimeError:
        return None


def _bytes(shape: tuple[str, str, str]) -> int:
    """Returns the bytes of an array: ('f', '32', '64,128') -> 32768. A bool takes one byte."""
    _, bits, dimensions = shape
    return max(int(bits or 8) // 8, 1) * int(np.prod([int(length) for length in dimensions.split(',') if length]))


def size_text(number: float) -> str:
    """Formats a number of bytes."""
    if number < 1024:
        return f'{number:.0f} B'
    for unit in ('KiB', 'MiB'):
        number /= 1024
        if number < 1024:
            return f'{number:,.1f} {unit}'
    return f'{number / 1024:,.1f} GiB'


def _reason(text: str) -> str:
    """Extracts the sentence with the numbers from the compiler's message."""
    match = re.search(r'(Used .*? exceeded.*?\.|Ran out of memory.*?\.)(?= |$)', ' '.join(text.split()))
    return match.group(0) if match else ' '.join(text.split())[:200]
