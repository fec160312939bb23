"""Plans the trials of a sweep: which compile and fit, and the least time of a step, on each topology.

    python -m genlab.sweep.plan CONFIG NAMES FOLDER TOPOLOGIES ARGUMENT...

prints a table. TOPOLOGIES are separated by commas; '' takes the devices present. Trials whose programs differ in
numbers alone, such as seeds and rates, are compiled once. It is a process of its own because it imports JAX.
"""

import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from genlab import experiment, main
from genlab.errors import UserError
from genlab.run import terminal
from genlab.run.files import path_of
from genlab.run.platform import set_up_jax
from genlab.sweep import spec
from genlab.training import lockstep, parallel
from genlab.training import plan as planning
from genlab.training.program import make_call, make_constants, programs

COLUMNS = ('program', 'topology', 'memory', 'GFLOP', 'traffic', 'sent', 'step', 'limit')


class Group(NamedTuple):
    """Trials with the same program but for numbers."""

    trials: tuple[str, ...]  # their ids
    config: ConfigDict  # of the first one
    reason: str = ''  # why it has no program on any topology


class Row(NamedTuple):
    """A program on a topology."""

    topology: str
    plan: planning.Plan | None
    reason: str = ''  # why it does not compile


def skeleton(config: ConfigDict) -> Any:
    """Returns the first call of a config without its numbers, as `lockstep` compares programs.

    Raises:
      UserError: the config has no program.
    """
    config = config.copy_and_resolve_references()
    placement = parallel.place('fsdp', jax.devices()[:1])  # of all topologies, only the number of devices would differ
    program = programs(config, experiment.load(config.experiment), placement, declared=True)[0]
    state, sums, batch = planning.inputs(program, placement)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)
    traced = jax.make_jaxpr(make_call(program))((state, sums), shapes, make_constants(program))
    return config.placement, config.tensor, lockstep.skeleton(traced)


def grouped(configs: Mapping[str, ConfigDict]) -> list[Group]:
    """Groups trials, id -> config, by their programs. A trial without a program is a group of its own."""
    found: list[tuple[Any, Group]] = []
    for name, config in configs.items():
        try:
            program, reason = skeleton(config), ''
        except UserError as error:
            program, reason = None, str(error)
        for at, (other, group) in enumerate(found):
            if group.reason == reason and other == program:
                found[at] = other, group._replace(trials=(*group.trials, name))
                break
        else:
            found.append((program, Group((name,), config, reason)))
    return [group for _, group in found]


def planned(group: Group, topologies: Sequence[str], compile: Callable = planning.plan) -> list[Row]:
    """Compiles the program of a group for each topology; '' stands for the devices present.

    Args:
      group: the trials.
      topologies: of TPUs, such as 'v5e:4x4'.
      compile: makes a plan of (config, build, topology).
    """
    if group.reason:
        return [Row(topology, None, group.reason) for topology in topologies]
    rows = []
    for topology in topologies:
        config = group.config.copy_and_resolve_references()
        try:
            rows.append(Row(topology, compile(config, experiment.load(config.experiment), topology or None)))
        except (UserError, jax.errors.JaxRuntimeError) as error:
            rows.append(Row(topology, None, ' '.join(str(error).split())[:200]))
    return rows


def cells(row: Row) -> list[str]:
    """Returns the entries of a row, from its memory on; one entry, the reason, where there is no plan."""
    plan = row.plan
    if plan is None:
        return [row.reason]
    of = (
        f' of {planning.size_text(plan.memory)}{"" if planning.fits(plan) else ", does NOT fit"}' if plan.memory else ''
    )
    whole, least = plan.whole, planning.estimate(plan)
    return [
        planning.size_text(plan.needed) + of,
        f'{whole.flops / plan.steps / 1e9:,.4g}' if whole else '?',
        planning.size_text(whole.accessed / plan.steps) if whole else '?',
        planning.size_text(plan.sent / plan.steps),
        f'{least.seconds * 1e3:,.3g} ms' if least else '?',
        least.limit if least else '?',
    ]


def table(groups: Sequence[Group], rows: Sequence[Sequence[Row]]) -> str:
    """Formats plans as text: the trials of each program, a line per program and topology, and the chips.

    Args:
      groups: of trials.
      rows: of each group.
    """
    lines = []
    for number, group in enumerate(groups, 1):
        head = f'program {number}, {len(group.trials)} trial{"s" * (len(group.trials) > 1)}: '
        lines += textwrap.wrap(head + ', '.join(group.trials), 120, subsequent_indent='  ', break_on_hyphens=False)
    content = [
        [str(number), row.topology or 'present', *cells(row)] for number, part in enumerate(rows, 1) for row in part
    ]
    whole = [list(COLUMNS), *(line for line in content if len(line) == len(COLUMNS))]
    widths = [
        max(len(line[column]) for line in (whole if column > 1 else [list(COLUMNS), *content])) for column in range(8)
    ]
    lines += ['', 'per device and step, with all lazy terms:']
    for line in [list(COLUMNS), *content]:
        lines.append('  '.join(entry.ljust(width) for entry, width in zip(line, widths)).rstrip())
    lines += ['', *chips(row.plan.kind for part in rows for row in part if row.plan)]
    return '\n'.join(lines).rstrip()


def chips(kinds: Any) -> list[str]:
    """Returns a line per kind of chip: what its estimates of a step divide by."""
    found = [(kind, planning.CHIPS[kind]) for kind in dict.fromkeys(kinds) if kind in planning.CHIPS]
    return [
        f'{kind}: {chip.flops / 1e12:,.0f} TFLOP/s in bfloat16, {chip.bandwidth / 1e9:,.0f} GB/s to its memory of '
        f'{chip.memory} GiB, {chip.links / 1e9:,.0f} GB/s to its neighbours (cloud.google.com/tpu/docs)'
        for kind, chip in found
        if chip.flops
    ]


def run() -> None:
    """Prints the plan of the command's arguments."""
    path, names, folder, given, *arguments = sys.argv[1:]
    topologies = list(filter(None, given.split(','))) or ['']
    set_up_jax(only_compile=bool(given))
    for topology in filter(None, topologies):
        planning.describe_topology(topology)  # raises where there is no such topology, or no compiler for it
    found = spec.listed(path, list(filter(None, names.split(','))), path_of(folder), arguments)
    path = main.locate(f'--config={path}').removeprefix('--config=')
    groups = grouped({trial.id: spec.trial_config(path, arguments, trial.overrides) for trial in found})
    terminal.say(f'trials: {len(found)}, programs: {len(groups)}, topologies: {len(topologies)}\n')
    terminal.show(table(groups, [planned(group, topologies) for group in groups]))


if __name__ == '__main__':
    main.guarded(run)
