"""`--mode=plan`: the memory and arithmetic of the training step, compiled ahead of time.

The targets are the devices present or a TPU topology.
"""

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
# Memory per device in GiB, from the vendor's specification.
MEMORY = {
    'TPU v2': 8,
    'TPU v3': 16,
    'TPU v4': 32,
    'TPU v5 lite': 16,
    'TPU v5': 95,
    'TPU v5p': 95,
    'TPU v6 lite': 32,
    'TPU7x': 192,
}
# What libtpu asks about its machine. It warns where it finds no answer, and the topology does not depend on it.
LIBTPU = {
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',  # no device is opened, so a run on this machine may go on
}
# A step for absent devices never runs, so it is compiled quickly rather than well. Its memory can differ from that of
# the run: for DiT-XL/2 with a small autoencoder, on 16 devices, 2.4 GiB were found in place of 2.3 GiB.
LEAST_EFFORT = {'exec_time_optimization_effort': -1.0}
COLLECTIVE = re.compile(r'= (.*?) (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)(?:-start)?\(')
CHANNEL = re.compile(r'channel_id=(\d+)')
COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.-]+) .*\{$')  # the line that opens a computation
CALLED = re.compile(r'(?:calls|to_apply|body|branch_computations|\w+_computation)=\{?(%?[\w.-]+(?:, %?[\w.-]+)*)')
LOOP = re.compile(r' while\(.*condition=%?([\w.-]+)')
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
LIMIT = re.compile(r's32\[\]\S* constant\((\d+)\)')
SHAPE = re.compile(r'\b(pred|[a-z]+?)(\d*)(?:e\dm\d\w*)?\[([\d,]*)\]')


Collectives = dict[str, tuple[int, int]]  # kind -> (number, bytes of the results)


class Plan(NamedTuple):
    """The requirements of one device for one call of the step. Sizes are in bytes."""

    devices: int
    kind: str
    arguments: int
    outputs: int
    donated: int  # outputs that reuse the buffers of arguments
    temporaries: int
    flops: float  # floating-point operations
    accessed: float  # bytes read and written
    collectives: Collectives  # that the call runs
    loops: dict[int, Collectives]  # passes of a loop -> those of one pass, such as one layer of a network
    memory: int | None  # of the device; None if unknown

    @property
    def needed(self) -> int:
        """The peak memory in bytes."""
        return self.arguments + self.outputs - self.donated + self.temporaries


def plan(config: ConfigDict, build: Build, topology: str | None = None) -> Plan:
    """Compiles the step of the first phase. Computes nothing and reads no data.

    Args:
      config: of the run.
      build: the experiment of the config.
      topology: a TPU topology, e.g. 'v5e:4x4'; None takes the devices present.

    Raises:
      UserError: the step does not fit the memory of the devices.
    """
    devices = describe_topology(topology) if topology else jax.devices()
    placement = parallel.place(config.placement, devices)
    program = programs(config, build, placement, declared=True)[0]
    try:
        compiled = lower(program, placement).compile(LEAST_EFFORT if topology else None)
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        raise UserError(f'does not fit {len(devices)} x {devices[0].device_kind}: {_reason(str(error))}') from error
    return read(compiled, devices)


def lower(program: Program, placement: parallel.Placement) -> Any:
    """Traces the program's call for the shapes that the loop passes to it. Returns JAX's lowered computation."""
    state = outline(make_init(program))
    sums = parallel.replicated(placement, totals.zero(metric_names(program, placement, state)))
    carry = parallel.template(placement, state), sums
    batch = fold(program, load(program, 0, math.prod(program.calls), slice(None)))
    constants = parallel.replicated(placement, make_constants(program))
    return placement.compile(make_call(program), carry).lower(carry, placement.shapes(batch), constants)


def read(compiled: Any, devices: list) -> Plan:
    """Reads the figures of a compiled step."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    return Plan(
        len(devices),
        devices[0].device_kind,
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        memory.alias_size_in_bytes,
        memory.temp_size_in_bytes,
        cost.get('flops', 0.0),
        cost.get('bytes accessed', 0.0),
        *count_collectives(compiled.as_text()),
        _memory(devices[0]),
    )


def count_collectives(text: str) -> tuple[Collectives, dict[int, Collectives]]:
    """Counts the collectives of a compiled step. What a loop contains is counted once per pass.

    An asynchronous collective is spread over several instructions with one channel, and counted once. Loops of the same
    number of passes are counted together: they are the forward and the backward pass through the same layers. A TPU's
    compiler may pass shards of weights around a ring by collective-permute while it multiplies.

    Args:
      text: the compiled step, as `as_text` of JAX returns it.

    Returns:
      The collectives of a call, and passes -> those of one pass of the loops with that many passes.
    """
    computations: dict[str, list[str]] = {'': []}
    name = entry = ''
    for line in text.splitlines():
        if match := COMPUTATION.match(line):
            name = match[2]
            computations[name] = []
            entry = name if match[1] else entry
        computations[name].append(line)
    totals: Collectives = {}
    loops: dict[int, Collectives] = {}
    counted: set[tuple[str, str]] = set()

    def visit(name: str, times: int, passes: int) -> None:
        for line in computations[name]:
            if (match := COLLECTIVE.search(line)) and (channel := _channel(line, match[2])) not in counted:
                counted.update({channel} if channel else ())
                size = sum(map(_bytes, SHAPE.findall(match[1])))
                _add(totals, match[2], times, size)
                if passes:
                    _add(loops.setdefault(passes, {}), match[2], 1, size)
            loop = LOOP.search(line)
            trips = _trips(line, computations.get(loop[1], [])) if loop else 1
            for called in (word.strip('% ') for names in CALLED.findall(line) for word in names.split(',')):
                if called in computations:
                    visit(called, times * trips, trips if loop and trips > 1 else passes)

    visit(entry, 1, 0)
    return totals, loops


def _channel(line: str, kind: str) -> tuple[str, str] | None:
    """Returns what identifies a collective, or None where its instruction names no channel."""
    match = CHANNEL.search(line)
    return (kind, match[1]) if match else None


def _trips(line: str, condition: list[str]) -> int:
    """Returns the passes of a loop: those that the instruction states, or the limit in its condition; 1 if unknown."""
    known = TRIPS.search(line)
    limits = [known[1]] if known else LIMIT.findall('\n'.join(condition))
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
    verdict = f' of {_size(plan.memory)}: {"fits" if fits(plan) else "does NOT fit"}' if plan.memory else ''
    rows = [
        ('devices', f'{plan.devices} x {plan.kind}'),
        ('arguments', _size(plan.arguments)),
        ('temporaries', _size(plan.temporaries)),
        ('outputs', _size(plan.outputs)),
        ('saved by donation', f'{_size(plan.donated)} of outputs that reuse the buffers of arguments'),
        ('needed', _size(plan.needed) + verdict),
        ('arithmetic', f'{plan.flops / 1e9:,.2f} GFLOP {once}'),
        ('memory traffic', f'{_size(plan.accessed)} {once}'),
    ]
    rows += [(kind, f'{number} per call, {_size(size)}') for kind, (number, size) in sorted(plan.collectives.items())]
    for passes, found in sorted(plan.loops.items()):
        each = '; '.join(f'{kind} {number}, {_size(size)}' for kind, (number, size) in sorted(found.items()))
        rows.append((f'of each of {passes}', f'passes of a loop (layers): {each}'))
    return '\n'.join(f'{name:<20}{value}' for name, value in [('per device', ''), *rows])


def fits(plan: Plan) -> bool | None:
    """Returns whether the device has enough memory, or None if its memory is unknown."""
    return None if plan.memory is None else plan.needed <= plan.memory


def describe_topology(name: str) -> list:
    """Returns the devices of a TPU topology as compile targets; they need not be present."""
    for variable, value in LIBTPU.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(topology_name=name, platform='tpu').devices)
    except Exception as error:
        if importlib.util.find_spec('libtpu') is None:
            raise UserError("--topology needs TPU's compiler: pip install -e '.[tpu]'") from error
        raise ConfigError(f'--topology={name}: no such TPU topology; e.g. v5e:4x4 or v4:2x2x2') from error


def _memory(device: Any) -> int | None:
    """Returns the memory of a device in bytes, or None if it is unknown."""
    if device.device_kind in MEMORY:
        return MEMORY[device.device_kind] * GIB
    try:
        return (device.memory_stats() or {}).get('bytes_limit')
    except jax.errors.JaxRuntimeError:
        return None


def _bytes(shape: tuple[str, str, str]) -> int:
    """Returns the bytes of an array: ('f', '32', '64,128') -> 32768. A bool takes one byte."""
    _, bits, dimensions = shape
    return max(int(bits or 8) // 8, 1) * int(np.prod([int(length) for length in dimensions.split(',') if length]))


def _size(number: float) -> str:
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
    match = re.search(r'(Used .*? exceeded.*?\.|Ran out of memory.*?\.)', ' '.join(text.split()))
    return match.group(0) if match else ' '.join(text.split())[:200]
