"""The tables of the results: runs are read from their workdirs and laid out as rows of text, for any kind of page."""

import math
import pathlib
import re
from typing import NamedTuple

from genlab.reporting.figures import Part, flatten, is_number, parts, plain, title
from genlab.reporting.run import read_json, seconds_of
from genlab.run.logs import read_metrics

LOWER = (
    'frechet_distance',
    'kernel_distance',
    'class_divergence',
    'sliced_wasserstein',
    'nll',
    'nll_bound',
    'nll_importance_weighted',
    'bits_per_dimension',
    'bits_per_dimension_bound',
    'bits_per_dimension_importance_weighted',
    'squared_error',
)
HIGHER = (
    'precision',
    'recall',
    'density',
    'coverage',
    'inception_score',
    'condition_accuracy',
    'modes',
    'high_quality',
    'linear_probe',
    'nmi',
    'ari',
    'mig',
    'dci_disentanglement',
    'dci_completeness',
    'dci_informativeness',
    'factor_vae',
    'angle_correlation',
    'anomaly_auroc',
    'anomaly_aupr',
    'psnr',
    'ssim',
    'psnr_above_filters',
)
BETTER = dict.fromkeys(LOWER, 'lower') | dict.fromkeys(HIGHER, 'higher')  # of other figures nobody is the best
NAMES = {'cpu': 'CPU', 'gpu': 'GPU', 'tpu': 'TPU'}


class Run(NamedTuple):
    """What a workdir holds of a run."""

    name: str  # of the folder, with a number where two are called the same
    folder: pathlib.Path
    config: dict
    environment: dict
    networks: dict
    rows: list  # of metrics.jsonl
    evaluation: dict


class Cell(NamedTuple):
    text: str
    style: str = ''  # 'best', 'code' or 'number'


class Table(NamedTuple):
    name: str
    columns: list  # Cells; the style is that of the column, 'code' where it may be long
    rows: list  # of Cells
    legend: list = []  # (protocol id or '', what it stands for)
    notes: list = []  # footnotes, from 1


def read(folder: pathlib.Path, taken=()) -> Run:
    """The run in a folder, under a name that is not `taken`. A file that is missing or damaged counts as empty."""
    documents = [
        read_json(str(folder / f'{name}.json'), []) for name in ('config', 'environment', 'networks', 'evaluation')
    ]
    return Run(unused(folder.resolve().name, taken), folder, *documents[:3], read_metrics(str(folder)), documents[3])


def unused(name, taken):
    """The name, or the first of name-2, name-3, ... that is not taken."""
    numbered = (f'{name}-{number}' for number in range(2, len(taken) + 3))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def overview(runs) -> Table:
    """A row for each run: what it is, on what, how large, how long and by which command."""
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
            Cell(digits(sum(parameters(run).values()) or None)),
            Cell(digits(max((row['step'] for row in run.rows), default=0))),
            Cell(minutes(run.rows)),
            Cell(device(run.environment)),
            Cell(str(run.environment.get('command') or ''), 'code'),
        ]
        for run in runs
    ]
    return Table('Runs', columns, rows)


def system(run) -> str:
    """The config file of the run and its variant; its experiment where the command was not written down."""
    match = re.search(r"--?config[= ]'?([^\s']+)", str(run.environment.get('command')))
    if not match:
        return str(run.config.get('experiment', ''))
    path, _, variant = match[1].partition(':')
    return ', '.join(filter(None, (pathlib.PurePath(path).stem, variant)))


def data(config) -> str:
    """The data set, and height x width x channels of its images."""
    chosen = config.get('data')
    if not isinstance(chosen, dict):
        return ''
    name = str(chosen.get('name') or chosen.get('source', ''))
    sides = [chosen.get(key) for key in ('resolution', 'resolution', 'channels')]
    images = chosen.get('source') != 'toy' and None not in sides
    return f'{name}, {"×".join(map(str, sides))}' if images else name


def parameters(run) -> dict[str, int]:
    """network -> how many."""
    return {
        name: network['parameters']
        for name, network in run.networks.items()
        if isinstance(network, dict) and is_number(network.get('parameters'))
    }


def minutes(rows) -> str:
    spent = seconds_of(rows) / 60
    return f'{spent:.1f}' if spent < 10 else f'{spent:,.0f}'


def device(environment) -> str:
    """What it ran on: 4 × NVIDIA H200, or CPU with its cores."""
    kind, devices = str(environment.get('device_kind', '')), environment.get('devices')
    cores = f', {environment["cores"]} cores' if kind == 'cpu' and is_number(environment.get('cores')) else ''
    number = len(devices) if isinstance(devices, list) else 1
    return (f'{number} × ' if number > 1 else '') + NAMES.get(kind, kind) + cores


def digits(value) -> str:
    """A number with four significant digits; whole numbers as they are; nothing for None."""
    if isinstance(value, int) or not value:
        return '' if value is None else f'{value:,.0f}'
    places = 3 - math.floor(math.log10(abs(value)))
    return f'{round(value, places):,.0f}' if 1e3 <= abs(value) < 1e9 else f'{value:.4g}'


def part_tables(runs) -> list[Table]:
    """A table for each part of the evaluations; figures of no part are in a last one, Other figures."""
    measured: dict[str, list] = {}
    for run in runs:
        for part in parts(run.evaluation):
            if part.figures:
                measured.setdefault(part.name, []).append((run, part))
    return [part_table(name, measured[name]) for name in sorted(measured, key=lambda name: name == '')]


def part_table(name, measured: list[tuple[Run, Part]]) -> Table:
    """Runs and their figures of one part. Those that compare stand together."""
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
                Cell(digits(step) if is_number(step) else '–'),
                *cells,
                Cell(part.id, 'code') if part.id else Cell('–'),
            ]
        )
    arrows = {'lower': ' ↓', 'higher': ' ↑'}
    columns = [
        Cell('run'),
        Cell('step', 'number'),
        *(Cell(words(figure) + arrows.get(BETTER.get(figure), ''), 'number') for figure in names),
        Cell('protocol'),
    ]
    return Table(title(name, 'Other figures'), columns, rows, legend(measured), notes)


def figure_cell(value, notes, best) -> Cell:
    """A number; of several the smallest and the largest; a dash for none, with its reason among the notes."""
    leaves = value if isinstance(value, list) else [leaf for _, leaf in flatten(value)]
    numbers = [leaf for leaf in leaves if is_number(leaf)]
    reasons = dict.fromkeys(
        leaf if isinstance(leaf, str) else 'not a finite number' for leaf in leaves if not is_number(leaf)
    )
    notes += [reason for reason in reasons if reason not in notes]
    marks = ' '.join(superscript(notes.index(reason) + 1) for reason in reasons)
    span = dict.fromkeys(map(digits, (min(numbers), max(numbers)))) if numbers else ['–']
    return Cell(' – '.join(span) + marks, 'best' if best else '')


def is_best(figure, part, measured) -> bool:
    """Whether no other run of the same protocol has a better figure, and one has a worse. Without an id nobody is the best."""
    rivals = [other.figures.get(figure) for _, other in measured if other.id == part.id]
    value, rivals = part.figures[figure], list(filter(is_number, rivals))
    if not part.id or figure not in BETTER or not is_number(value):
        return False
    best, worst = (min(rivals), max(rivals)) if BETTER[figure] == 'lower' else (max(rivals), min(rivals))
    return digits(value) == digits(best) != digits(worst)


def legend(measured) -> list[tuple[str, str]]:
    """(id, its conditions) of each protocol. Where there is no id, whose conditions they are."""
    lines: dict = {}
    for run, part in measured:
        spelled = '; '.join(f'{words(name)}: {plain(value)}' for name, value in flatten(part.conditions) if name)
        lines.setdefault((part.id, spelled), []).append(run.name)
    return [
        (key, spelled if key else f'no id ({", ".join(names)}): {spelled or "nothing was written down"}')
        for (key, spelled), names in lines.items()
    ]


def words(name) -> str:
    return name.replace('_', ' ').replace('/', ' ')


def superscript(number) -> str:
    return str(number).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))
