"""Tables of the results: reads runs from their folders and lays them out as rows of text, for any page format."""

import math
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from genlab.reporting.figures import Part, flatten, is_number, parts, plain, superscript, title
from genlab.reporting.run import read_json, seconds_of
from genlab.run import command
from genlab.run.better import BETTER
from genlab.run.logs import read_metrics
from genlab.run.protocol import VERSION

CHANGED = 'the protocol has changed since: evaluate the run again before comparing it'
NAMES = {'cpu': 'CPU', 'gpu': 'GPU', 'tpu': 'TPU'}


class Run(NamedTuple):
    """The content of the folder of a run."""

    name: str  # name of the folder, with a number added if another run has the same
    folder: pathlib.Path
    config: dict[str, Any]
    environment: dict[str, Any]
    networks: dict[str, Any]
    rows: list[dict[str, Any]]  # rows of metrics.jsonl
    evaluation: dict[str, Any]


class Cell(NamedTuple):
    """Text in a table."""

    text: str
    style: str = ''  # 'best', 'code', 'number', or 'long' for text that may need several lines
    value: float | None = None  # what a column of numbers sorts by; None comes last
    link: str = ''  # a path relative to the page


class Table(NamedTuple):
    """A table with its legend and footnotes."""

    name: str
    columns: Sequence[Cell]  # headings; the style holds for the column, 'code' if its text may be long
    rows: Sequence[Sequence[Cell]]
    legend: Sequence[tuple[str, str]] = ()  # (protocol id or '', its conditions)
    notes: Sequence[str] = ()  # footnotes, numbered from 1


def read(folder: pathlib.Path, taken: Collection[str] = ()) -> Run:
    """Reads the run in a folder, under a name that is not `taken`. A missing or damaged file counts as empty."""
    config, environment, networks, evaluation = (
        read_json(str(folder / f'{name}.json'), []) for name in ('config', 'environment', 'networks', 'evaluation')
    )
    name, rows = unused(folder.resolve().name, taken), read_metrics(str(folder))
    return Run(name, folder, config, environment, networks, rows, evaluation)


def unused(name: str, taken: Collection[str]) -> str:
    """Returns the name, or the first of name-2, name-3, ... that is not taken."""
    numbered = (f'{name}-{number}' for number in range(2, len(taken) + 3))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def overview(runs: Sequence[Run]) -> Table:
    """Returns one row per run: system, data, parameters, steps, minutes, device and command."""
    columns = [
        *map(Cell, ('run', 'system', 'data')),
        *(Cell(name, 'number') for name in ('parameters', 'steps', 'minutes')),
        Cell('device'),
        Cell('command', 'code'),
    ]
    rows = [
        [
            Cell(run.name),
            Cell(system(run)),
            Cell(data(run.config)),
            counted(sum(parameters(run).values()) or None),
            counted(max((row['step'] for row in run.rows), default=0)),
            Cell(minutes(run.rows), value=seconds_of(run.rows)),
            Cell(device(run.environment)),
            Cell(str(run.environment.get('command') or ''), 'code'),
        ]
        for run in runs
    ]
    return Table('Runs', columns, rows)


def counted(number: int | None) -> Cell:
    """Formats a number of things; empty for None."""
    return Cell(digits(number), value=number)


def system(run: Run) -> str:
    """Returns the config file and variant of the run, or its experiment if the command is unknown."""
    match = re.search(r"--?config[= ]'?([^\s']+)", str(run.environment.get('command')))
    if not match:
        return str(run.config.get('experiment', ''))
    path, _, variant = match[1].partition(':')
    return ', '.join(filter(None, (pathlib.PurePath(path).stem, variant)))


def data(config: Mapping[str, Any]) -> str:
    """Returns the data set, and height x width x channels of images, or the run that codes come from."""
    chosen = config.get('data')
    if not isinstance(chosen, dict):
        return ''
    if chosen.get('source') == 'codes':
        return f'codes of {pathlib.PurePath(str(config.get("model", {}).get("tokenizer", ""))).name}'
    name = str(chosen.get('name') or chosen.get('source', ''))
    sides = [chosen.get(key) for key in ('resolution', 'resolution', 'channels')]
    images = chosen.get('source') != 'toy' and None not in sides
    return f'{name}, {"×".join(map(str, sides))}' if images else name


def parameters(run: Run) -> dict[str, int]:
    """Returns network -> number of parameters."""
    return {
        name: network['parameters']
        for name, network in run.networks.items()
        if isinstance(network, dict) and is_number(network.get('parameters'))
    }


def minutes(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats the training time in minutes."""
    spent = seconds_of(rows) / 60
    return f'{spent:.1f}' if spent < 10 else f'{spent:,.0f}'


def device(environment: Mapping[str, Any]) -> str:
    """Formats the devices: 4 × NVIDIA H200, or CPU with its cores."""
    kind, devices = str(environment.get('device_kind', '')), environment.get('devices')
    cores = f', {environment["cores"]} cores' if kind == 'cpu' and is_number(environment.get('cores')) else ''
    number = len(devices) if isinstance(devices, list) else 1
    return (f'{number} × ' if number > 1 else '') + NAMES.get(kind, kind) + cores


def digits(value: float | None) -> str:
    """Formats a number with four significant digits; integers in full; '' for None."""
    if isinstance(value, int) or not value:
        return '' if value is None else f'{value:,.0f}'
    places = 3 - math.floor(math.log10(abs(value)))
    return f'{round(value, places):,.0f}' if 1e3 <= abs(value) < 1e9 else f'{value:.4g}'


def part_tables(runs: Sequence[Run]) -> list[Table]:
    """Returns one table per part of the evaluations. Figures without a part form a last one, Other figures."""
    measured: dict[str, list[tuple[Run, Part]]] = {}
    for run in runs:
        for part in parts(run.evaluation):
            if part.figures:
                measured.setdefault(part.name, []).append((run, part))
    return [part_table(name, measured[name]) for name in sorted(measured, key=lambda name: name == '')]


def part_table(name: str, measured: Sequence[tuple[Run, Part]]) -> Table:
    """Returns the runs with their figures of one part. Runs with the same protocol id are adjacent."""
    ids = list(dict.fromkeys(part.id for _, part in measured))
    measured = sorted(measured, key=lambda pair: ids.index(pair[1].id))
    names = list(dict.fromkeys(figure for _, part in measured for figure in part.figures))
    notes: list[str] = []
    rows = []
    for run, part in measured:
        step = run.evaluation.get('step')
        cells = [
            figure_cell(part.figures[figure], notes, is_best(figure, part, measured))
            if figure in part.figures
            else Cell('')
            for figure in names
        ]
        rows.append(
            [
                Cell(run.name),
                Cell(digits(step), value=step) if is_number(step) else Cell('–'),
                *cells,
                protocol_cell(run, part, notes),
            ]
        )
    arrows = {'lower': ' ↓', 'higher': ' ↑'}
    columns = [
        Cell('run'),
        Cell('step', 'number'),
        *(Cell(words(figure) + arrows.get(BETTER.get(figure, ''), ''), 'number') for figure in names),
        Cell('protocol'),
    ]
    return Table(title(name, 'Other figures'), columns, rows, legend(measured), notes)


def figure_cell(value: Any, notes: list[str], best: bool) -> Cell:
    """Formats a figure.

    Args:
      value: a number; several, shown by the smallest and the largest; or the reason why it is missing, shown as a dash.
      notes: footnotes; new reasons are appended.
      best: whether to mark it as the best.
    """
    leaves = value if isinstance(value, list) else [leaf for _, leaf in flatten(value)]
    numbers = [leaf for leaf in leaves if is_number(leaf)]
    reasons = dict.fromkeys(
        leaf if isinstance(leaf, str) else 'not a finite number' for leaf in leaves if not is_number(leaf)
    )
    notes += [reason for reason in reasons if reason not in notes]
    marks = ' '.join(superscript(notes.index(reason) + 1) for reason in reasons)
    span = dict.fromkeys(map(digits, (min(numbers), max(numbers)))) if numbers else ['–']
    return Cell(' – '.join(span) + marks, 'best' if best else '', value if is_number(value) else None)


def protocol_cell(run: Run, part: Part, notes: list[str]) -> Cell:
    """Formats the id of a protocol; a footnote marks figures that were computed before the protocol changed."""
    if not part.id:
        return Cell('–')
    if run.evaluation.get('version', 1) == VERSION:
        return Cell(part.id, 'code')
    if CHANGED not in notes:
        notes.append(CHANGED)
    return Cell(f'{part.id} {superscript(notes.index(CHANGED) + 1)}')


def is_best(figure: str, part: Part, measured: Sequence[tuple[Run, Part]]) -> bool:
    """Returns whether a figure is the best of its protocol and at least one run is worse.

    Args:
      figure: its name.
      part: the part of the run in question; without a protocol id it is never the best.
      measured: all runs with this part.
    """
    values = [other.figures.get(figure) for _, other in measured if other.id == part.id]
    value, rivals = part.figures[figure], list(filter(is_number, values))
    if not part.id or figure not in BETTER or not is_number(value):
        return False
    best, worst = (min(rivals), max(rivals)) if BETTER[figure] == 'lower' else (max(rivals), min(rivals))
    return digits(value) == digits(best) != digits(worst)


def legend(measured: Sequence[tuple[Run, Part]]) -> list[tuple[str, str]]:
    """Returns (id, its conditions) of each protocol; without an id the text names the runs."""
    lines: dict[tuple[str, str], list[str]] = {}
    for run, part in measured:
        spelled = '; '.join(f'{words(name)}: {plain(value)}' for name, value in flatten(part.conditions) if name)
        lines.setdefault((part.id, spelled), []).append(run.name)
    return [
        (key, spelled if key else f'no id ({", ".join(names)}): {spelled or "no conditions recorded"}')
        for (key, spelled), names in lines.items()
    ]


def words(name: str) -> str:
    """Turns an identifier into words."""
    return name.replace('_', ' ').replace('/', ' ')


def settings(runs: Sequence[Run]) -> Table | None:
    """Returns the keys of the configs whose values differ, a row each, with a column per run; None without any.

    A dash marks a key that a config does not have. Folders of data are private, and absolute paths are shortened.
    """
    flat = [{key.replace('/', '.'): value for key, value in flatten(run.config) if value != {}} for run in runs]
    keys = [key for key in dict.fromkeys(key for one in flat for key in one) if f'config.{key}' not in command.PLACES]
    rows = []
    for key in sorted(keys):
        texts = [command.portable(plain(one[key])) if key in one else '–' for one in flat]
        if len({*texts}) > 1:
            rows.append([Cell(key), *(Cell(text, 'long' if len(text) > 40 else '') for text in texts)])
    return Table('Settings that differ', [Cell('key'), *(Cell(run.name) for run in runs)], rows) if rows else None
