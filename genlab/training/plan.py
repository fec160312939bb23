"""`--mode=plan`: what the training step takes, compiled ahead of time for the devices here or for a TPU topology."""

import importlib.util
import math
import os
import re
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import data
from genlab.errors import ConfigError, UserError
from genlab.experiment import Build
from genlab.training import parallel, totals
from genlab.training.program import Program, fold, load, make_call, make_constants, make_init, metric_names, programs

GIB = 2**30
# Memory of one device of a kind, as its maker states it.
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
COLLECTIVE = re.compile(r'= (.*?) (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)(?:-start)?\(')
SHAPE = re.compile(r'\b(pred|[a-z]+?)(\d*)(?:e\dm\d\w*)?\[([\d,]*)\]')


class Plan(NamedTuple):
    """What one device needs for one call of the step. Bytes, but for `flops`."""

    devices: int
    kind: str
    arguments: int
    outputs: int
    donated: int  # of the outputs, those that take the place of arguments
    temporaries: int
    flops: float
    accessed: float  # bytes read and written
    collectives: dict  # kind -> (how many, bytes of their results)
    memory: int | None  # of the device, where known

    @property
    def needed(self) -> int:
        return self.arguments + self.outputs - self.donated + self.temporaries


def plan(config: ConfigDict, build: Build, topology: str | None = None) -> Plan:
    """Compiles the first phase's step for these devices, or for `topology`, e.g. 'v5e:4x4'. Nothing is computed or read."""
    devices = describe_topology(topology) if topology else jax.devices()
    placement = parallel.place(config.placement, devices)
    program = programs(config, build, placement, data.declared)[0]
    try:
        compiled = lower(program, placement).compile()
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        raise UserError(f'does not fit {len(devices)} x {devices[0].device_kind}: {_reason(str(error))}') from error
    return read(compiled, devices)


def lower(program: Program, placement: parallel.Placement):
    """The program's call, traced for the shapes that the loop will give it."""
    state = jax.eval_shape(make_init(program))
    sums = parallel.replicated(placement, totals.zero(metric_names(program, placement.axis, state)))
    carry = parallel.template(placement, state), sums
    batch = fold(program, load(program, 0, math.prod(program.calls), slice(None)))
    constants = parallel.replicated(placement, make_constants(program))
    return placement.compile(make_call(program), carry).lower(carry, placement.shapes(batch), constants)


def read(compiled, devices: list) -> Plan:
    """The figures of a compiled step."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    found: dict[str, tuple[int, int]] = {}
    for shapes, kind in COLLECTIVE.findall(compiled.as_text()):
        number, size = found.get(kind, (0, 0))
        found[kind] = number + 1, size + sum(map(_bytes, SHAPE.findall(shapes)))
    return Plan(
        len(devices),
        devices[0].device_kind,
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        memory.alias_size_in_bytes,
        memory.temp_size_in_bytes,
        cost.get('flops', 0.0),
        cost.get('bytes accessed', 0.0),
        found,
        _memory(devices[0]),
    )


def table(plan: Plan, microbatches: int) -> str:
    """A plan as text for a person. XLA counts the body of a loop once: many steps a call are one step, microbatches one."""
    once = 'a step' if microbatches == 1 else f'a step, with one of {microbatches} microbatches counted'
    verdict = f' of {_size(plan.memory)}: {"fits" if fits(plan) else "does NOT fit"}' if plan.memory else ''
    rows = [
        ('devices', f'{plan.devices} x {plan.kind}'),
        ('arguments', _size(plan.arguments)),
        ('temporaries', _size(plan.temporaries)),
        ('outputs', _size(plan.outputs)),
        ('saved by donation', f'{_size(plan.donated)} of outputs that take the place of arguments'),
        ('needed', _size(plan.needed) + verdict),
        ('arithmetic', f'{plan.flops / 1e9:,.2f} GFLOP {once}'),
        ('memory traffic', f'{_size(plan.accessed)} {once}'),
    ]
    rows += [(kind, f'{number} a call, {_size(size)}') for kind, (number, size) in sorted(plan.collectives.items())]
    return '\n'.join(f'{name:<20}{value}' for name, value in [('per device', ''), *rows])


def fits(plan: Plan) -> bool | None:
    """Whether the device has the memory; None where that is not known."""
    return None if plan.memory is None else plan.needed <= plan.memory


def describe_topology(name: str) -> list:
    """The devices of a TPU topology, as compile targets."""
    os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(topology_name=name, platform='tpu').devices)
    except Exception as error:
        if importlib.util.find_spec('libtpu') is None:
            raise UserError("--topology needs TPU's compiler: pip install -e '.[tpu]'") from error
        raise ConfigError(f'--topology={name}: no such TPU topology; e.g. v5e:4x4 or v4:2x2x2') from error


def _memory(device: Any) -> int | None:
    if device.device_kind in MEMORY:
        return MEMORY[device.device_kind] * GIB
    try:
        return (device.memory_stats() or {}).get('bytes_limit')
    except jax.errors.JaxRuntimeError:
        return None


def _bytes(shape: tuple[str, str, str]) -> int:
    """('f', '32', '64,128') -> 32768; a bool takes a byte."""
    _, bits, dimensions = shape
    return max(int(bits or 8) // 8, 1) * int(np.prod([int(length) for length in dimensions.split(',') if length]))


def _size(number: float) -> str:
    for unit in ('B', 'KiB', 'MiB', 'GiB'):
        if number < 1024 or unit == 'GiB':
            return f'{number:,.1f} {unit}' if unit != 'B' else f'{number:.0f} B'
        number /= 1024


def _reason(text: str) -> str:
    """The sentence of the compiler's message that has the numbers."""
    match = re.search(r'(Used .*? exceeded.*?\.|Ran out of memory.*?\.)', ' '.join(text.split()))
    return match.group(0) if match else ' '.join(text.split())[:200]
