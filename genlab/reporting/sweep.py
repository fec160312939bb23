"""report.html of a sweep: one page about all its trials, built only from the files in its folder.

It has a table of the trials, a picture of parallel coordinates, curves with bands over seeds, the best settings, and
what the trials cost. Trials that differ only in their seed form a group. Figures are the numbers of the evaluations.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from genlab.reporting import page
from genlab.reporting.charts import COLOURS, chart, number
from genlab.reporting.comparison_tables import Cell, Run, Table, read, words
from genlab.reporting.curves import Curves, kind, section, series_of
from genlab.reporting.figures import is_number, plain
from genlab.reporting.page import Card, Page, Section
from genlab.reporting.run import read_json, seconds_of
from genlab.run import restarts
from genlab.run.better import BETTER
from genlab.run.files import write_text

SEED = 'seed'
FIGURES = 8  # columns of figures in the table
SHOWN = COLOURS  # groups whose curves are drawn
CHARTS = 12
WIDTH, HEIGHT, MARGIN = 1000, 300, 40  # of the parallel coordinates
ROOM = 14  # between two marks of an axis
COORDINATES = 'a line per trial, a colour per group of seeds'
BAD = ('failed', 'refused')  # states of trials that need a person


class Entry(NamedTuple):
    """A trial as it is shown."""

    id: str
    overrides: dict[str, Any]
    before: dict[str, Any]
    state: str
    reason: str
    run: Run
    seconds: float
    steps: int
    restarts: int
    lost: int  # steps that were done again after a restart
    figures: dict[str, float]

    @property
    def goodput(self) -> float | None:
        """The useful part of the steps that were done; None without any."""
        return useful(self.steps, self.lost)

    @property
    def group(self) -> str:
        """The overrides without the seed, as text: trials of one group differ in their seeds only."""
        return spelled({key: value for key, value in self.overrides.items() if key != SEED})


class Axis(NamedTuple):
    """An axis of the parallel coordinates."""

    name: str
    x: float
    path: str  # data of an SVG path
    marks: Sequence[tuple[str, float]]  # (text, height), from the top


class Line(NamedTuple):
    """A trial in the parallel coordinates."""

    name: str
    colour: int
    path: str  # data of an SVG path


class Coordinates(NamedTuple):
    """Parallel coordinates."""

    width: int
    height: int
    axes: Sequence[Axis]
    lines: Sequence[Line]


def write(folder: pathlib.Path) -> pathlib.Path:
    """Writes report.html in the folder of a sweep, and returns its path."""
    write_text(folder / 'report.html', render(folder))
    return folder / 'report.html'


def render(folder: pathlib.Path) -> str:
    """Returns the page as HTML."""
    notices: list[str] = []
    content = read_json(str(folder / 'sweep.json'), notices)
    entries = [entry(folder / name, name, trial) for name, trial in content.get('trials', {}).items()]
    figure = ranking(entries)
    ordered = sorted(entries, key=lambda item: rank(figure, item.figures.get(figure)))
    title = folder.resolve().name
    done = sum(item.state == 'done' for item in entries)
    complete = bool(entries) and done == len(entries)
    facts = [content.get('config', ''), content.get('sweep', ''), *content.get('arguments', [])]
    return page.render(
        Page(
            title=f'{title} · sweep',
            heading=title,
            facts=[str(fact) for fact in facts if fact],
            sections=[
                Section('Best', 'best', best(entries, figure), f'by {words(figure)}, {BETTER.get(figure)} is better'),
                Section('Trials', 'table', table(ordered), find='a trial'),
                Section('Parallel coordinates', 'coordinates', coordinates(ordered, figure), COORDINATES),
                curves(ordered),
            ],
            footer='Made from the files of the sweep alone.',
            status='complete' if complete else f'{done} of {len(entries)} done',
            done=complete,
            alarms=[f'{item.id}: {item.state}, {item.reason}' for item in entries if item.state in BAD],
            notices=notices,
            cards=cards(entries),
        )
    )


def entry(folder: pathlib.Path, name: str, trial: Mapping[str, Any]) -> Entry:
    """Reads a trial: its part of sweep.json, and the folder of its run."""
    run = read(folder)
    found = run.evaluation.get('figures')
    figures = {key: value for key, value in found.items() if is_number(value)} if isinstance(found, dict) else {}
    return Entry(
        name,
        trial['overrides'],
        trial.get('before', {}),
        trial.get('state', ''),
        trial.get('reason', ''),
        run,
        seconds_of(run.rows),
        max((row['step'] for row in run.rows), default=0),
        *restarts.read(folder),
        figures,
    )


def spelled(overrides: Mapping[str, Any]) -> str:
    """Formats overrides by the last words of their keys, each once: learning_rate 0.001, width 64."""
    parts = dict.fromkeys(f'{key.rpartition(".")[2]} {plain(value)}' for key, value in overrides.items())
    return ', '.join(parts) or 'base'


def ranking(entries: Sequence[Entry]) -> str:
    """Returns the figure that orders the trials: the first one that has a better direction and differs; '' if none."""
    names = dict.fromkeys(name for item in entries for name in item.figures if name in BETTER)
    values = {name: {item.figures[name] for item in entries if name in item.figures} for name in names}
    return next((name for name in names if len(values[name]) > 1), next(iter(names), ''))


def rank(figure: str, value: float | None) -> float:
    """Returns a sort key: lower is better, infinity without a number."""
    if value is None or not math.isfinite(value):
        return math.inf
    return value if BETTER[figure] == 'lower' else -value


def cards(entries: Sequence[Entry]) -> list[Card]:
    """Returns what the sweep cost."""
    steps, lost = (sum(count) for count in zip((0, 0), *((item.steps, item.lost) for item in entries)))
    return [
        Card('trials', f'{len(entries):,}'),
        Card('steps', f'{steps:,}'),
        Card('goodput', percent(useful(steps, lost))),
        Card('restarts', f'{sum(item.restarts for item in entries):,}'),
        Card('training time of all', f'{sum(item.seconds for item in entries):,.0f} s'),
        Card('longest trial', f'{max((item.seconds for item in entries), default=0):,.0f} s'),
    ]


def useful(steps: int, lost: int) -> float | None:
    """Returns the useful part of the steps that were done, those that were lost included; None without any."""
    return steps / (steps + lost) if steps else None


def percent(share: float | None) -> str:
    """Formats a share; '' for None."""
    return '' if share is None else f'{share:.1%}'


def groups(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Returns the trials by group."""
    found: dict[str, list[Entry]] = {}
    for item in entries:
        found.setdefault(item.group, []).append(item)
    return found


def best(entries: Sequence[Entry], figure: str) -> tuple[str, list[tuple[str, str]]] | None:
    """Returns the group with the best mean of a figure, and how it changes the config; None without figures.

    Returns:
      A heading, and a diff: [('minus' or 'plus', line)].
    """
    measured = [item for item in entries if figure in item.figures]
    if not measured:
        return None
    means = {
        name: float(np.mean([item.figures[figure] for item in members])) for name, members in groups(measured).items()
    }
    name = min(means, key=lambda name: rank(figure, means[name]))
    members = groups(measured)[name]
    lines = [
        (side, f'config.{key} = {plain(value)}')
        for key, new in members[0].overrides.items()
        if key != SEED and members[0].before.get(key) != new
        for side, value in (('minus', members[0].before.get(key)), ('plus', new))
    ]
    values = [item.figures[figure] for item in members]
    spread = f' ± {number(float(np.std(values, ddof=1)))} over {len(values)} seeds' if len(values) > 1 else ''
    return f'{name}: {words(figure)} {number(means[name])}{spread}', lines


def table(entries: Sequence[Entry]) -> Table:
    """Returns the table of the trials: settings, state, cost and figures. A trial with a report links to it."""
    keys = varied(entries)
    names = list(dict.fromkeys(name for item in entries for name in item.figures))
    names = sorted(names, key=lambda name: name not in BETTER)[:FIGURES]  # figures with a direction first
    rows = []
    for item in entries:
        reported = (item.run.folder / 'report.html').exists()
        rows.append(
            [
                Cell(item.id, link=f'{item.id}/report.html' if reported else ''),
                *(Cell(plain(item.overrides[key]) if key in item.overrides else '') for key in keys),
                Cell(item.state),
                counted(item.steps),
                counted(item.restarts),
                Cell(percent(item.goodput), value=item.goodput),
                counted(round(item.seconds, 1)),
                *(counted(item.figures.get(name)) for name in names),
            ]
        )
    numbers = ['steps', 'restarts', 'goodput', 'seconds', *map(words, names)]
    columns = [*map(Cell, ['trial', *headings(keys), 'state']), *(Cell(name, 'number') for name in numbers)]
    return Table('Trials', columns, rows)


def counted(value: float | None) -> Cell:
    """Formats a number; empty for None."""
    return Cell('' if value is None else number(value), value=value)


def varied(entries: Sequence[Entry]) -> list[str]:
    """Returns the keys that the trials set; of keys with the same last word and the same values only the first."""
    keys = dict.fromkeys(key for item in entries for key in item.overrides)
    columns = {key: (key.rpartition('.')[2], [plain(item.overrides.get(key)) for item in entries]) for key in keys}
    return [key for n, key in enumerate(keys) if columns[key] not in list(columns.values())[:n]]


def headings(keys: Sequence[str]) -> list[str]:
    """Returns the last word of each key, or the whole key where the word is not enough."""
    ends = [key.rpartition('.')[2] for key in keys]
    return [end if ends.count(end) == 1 else key for key, end in zip(keys, ends)]


def coordinates(entries: Sequence[Entry], figure: str) -> Coordinates | None:
    """Returns an axis per varied key and one for the figure, and a line per trial; None with fewer than two axes."""
    keys = varied(entries)
    axes = {name: [item.overrides.get(key) for item in entries] for name, key in zip(headings(keys), keys)}
    if figure:
        axes[words(figure)] = [item.figures.get(figure) for item in entries]
    axes = {name: values for name, values in axes.items() if len({*map(plain, values)}) > 1}
    if len(axes) < 2:
        return None
    across = [MARGIN * 2 + (WIDTH - 4 * MARGIN) * index / (len(axes) - 1) for index in range(len(axes))]
    heights = [positions(values) for values in axes.values()]
    shades = list(groups(entries))
    lines = []
    for row, item in enumerate(entries):
        known = [f'{x:.1f} {height[row]:.1f}' for x, height in zip(across, heights) if height[row] is not None]
        lines.append(Line(item.id, shades.index(item.group) % COLOURS, f'M{"L".join(known)}'))
    drawn = [
        Axis(name, round(x, 1), f'M{x:.1f} {MARGIN}V{HEIGHT - MARGIN}', marks(values, height))
        for x, (name, values), height in zip(across, axes.items(), heights)
    ]
    return Coordinates(WIDTH, HEIGHT, drawn, lines)


def positions(values: Sequence[Any]) -> list[float | None]:
    """Returns the height of each value on its axis, None for a missing one.

    Numbers lie on a linear axis, or on a log axis if they are positive and span more than a factor of ten. Other values
    are spread evenly.
    """
    known = [value for value in values if value is not None]
    top, bottom = MARGIN, HEIGHT - MARGIN
    if all(map(is_number, known)):
        log = min(known) > 0 and max(known) >= 10 * min(known)
        place = [None if value is None else math.log(value) if log else float(value) for value in values]
    else:
        order = list(dict.fromkeys(map(plain, known)))
        place = [None if value is None else float(order.index(plain(value))) for value in values]
    found = [value for value in place if value is not None]
    low, span = min(found), (max(found) - min(found)) or 1.0
    return [None if value is None else bottom - (bottom - top) * (value - low) / span for value in place]


def marks(values: Sequence[Any], heights: Sequence[float | None]) -> list[tuple[str, float]]:
    """Returns (text, height) of the marks of an axis, from the top: its values, as far as their texts have room."""
    found = {
        number(value) if is_number(value) else plain(value): height
        for value, height in zip(values, heights)
        if height is not None
    }
    first, *rest = sorted(found.items(), key=lambda item: item[1])
    kept = [first]
    for mark in rest:
        if mark[1] - kept[-1][1] >= ROOM:
            kept.append(mark)
        elif mark == rest[-1] and len(kept) > 1:  # the ends always have a mark
            kept[-1] = mark
    return kept


def curves(entries: Sequence[Entry]) -> Section:
    """Returns the section of curves: per metric the mean of each group, and a band over its seeds."""
    found = groups([item for item in entries if item.run.rows])
    left_out = len(found) - SHOWN
    found = dict(list(found.items())[:SHOWN])
    own = {group: [series_of(item.run.rows) for item in members] for group, members in found.items()}
    names = sorted({name for members in own.values() for series in members for name in series if kind(name) < 2})
    charts = []
    for name in names:
        series, bands = {}, {}
        for group, members in own.items():
            steps, values = together(members, name)
            if len(steps) > 1:
                series[group] = steps, mean(values)
                if len(members) > 1:
                    bands[group] = edges(values)
        if series:
            charts.append(chart(name, series, bands, of='trials', colours=[*groups(entries)]))
    notes = ['mean over seeds, from the lowest to the highest']
    notes += [f'the first {SHOWN} groups; {left_out} more are left out'] if left_out > 0 else []
    notes += [f'{len(charts) - CHARTS} more metrics are left out'] if len(charts) > CHARTS else []
    return section([('', charts[:CHARTS])], '; '.join(notes))


def together(members: Sequence[Curves], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the steps [N] at which a metric is a number, and its values [members, N], NaN where one has none."""
    curves = [
        {step: value for step, value in zip(*series.get(name, ((), ()))) if math.isfinite(value)} for series in members
    ]
    steps = sorted({*()}.union(*curves))
    values = [[curve.get(step, math.nan) for step in steps] for curve in curves]
    return np.array(steps, float), np.array(values, float).reshape(len(curves), len(steps))


def mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean [N] over members [members, N], of those that have a number; every step has one."""
    return np.nanmean(values, axis=0)


def edges(values: np.ndarray) -> tuple[Any, Any]:
    """Returns the lowest and the highest value [N] over members [members, N]."""
    return np.nanmin(values, axis=0), np.nanmax(values, axis=0)
