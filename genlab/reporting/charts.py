"""Charts of curves: paths of inline SVG, on a linear and a log scale; the page switches between the two.

The drawing is stretched to the width of the page (`preserveAspectRatio="none"`). So lines have a fixed width, and all
text is HTML placed in percent.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Series = Mapping[str, tuple[Any, Any]]  # name -> (steps [N], values [N], NaN where missing)
Bands = Mapping[str, tuple[Any, Any]]  # name of a curve -> (lowest [N], highest [N]) at its steps

SIDE = 1000  # units of the drawing, in both directions
COLUMNS = 350  # of about two screen pixels each; a column shows only its lowest and its highest point
COLOURS = 8
APART = 20  # a linear axis does not show a curve whose numbers are smaller by this factor

Marks = Sequence[tuple[str, str]]  # (place in percent, text)


class Drawing(NamedTuple):
    """The curves on one scale."""

    scale: str  # 'linear' or 'log'
    paths: Sequence[tuple[str, str]]  # (CSS classes, data of an SVG path), back to front
    marks: Marks  # marks of the vertical axis, from its top


class Line(NamedTuple):
    """A row of the legend."""

    name: str
    place: int  # among the curves of the page
    colour: str  # CSS classes
    values: Sequence[float | None]  # last, lowest and highest


class Chart(NamedTuple):
    """Curves on shared axes."""

    title: str
    along: str  # the unit of the horizontal axis: 'step' or 'minute'
    of: str  # what a curve belongs to
    drawings: Sequence[Drawing]
    marks: Marks  # marks of the horizontal axis, from its left
    legend: Sequence[Line]
    data: dict[str, Any]  # the values shown under the pointer
    cut: bool  # whether the linear scale cuts spikes off
    has_log: bool
    wants_log: bool  # whether the log scale is shown first


def number(value: float | None) -> str:
    """Formats a number: 1,234,567 or 0.6931 or 1.2e-05; a dash for None, NaN and infinity."""
    if value is None or not math.isfinite(value):
        return '–'
    return f'{value:,.0f}' if isinstance(value, int) or abs(value) >= 1000 else f'{value:.4g}'


def labels(values: Sequence[float]) -> list[str]:
    """Formats numbers for an axis, 500, 2.5k, 3M, 0.05, 1e-5, with as many digits as keep them distinct."""
    texts: list[str] = []
    for digits in range(4, 10):
        texts = [_label(value, digits) for value in values]
        if len(set(texts)) == len(texts):
            break
    return texts


def _label(value: float, digits: int) -> str:
    """Formats one number with a unit prefix."""
    for unit, size in (('G', 1e9), ('M', 1e6), ('k', 1e3)):
        if size <= abs(value) < 1e12:
            return f'{value / size:.{digits}g}{unit}'
    return f'{value:.{digits}g}'.replace('e-0', 'e-').replace('e+', 'e')


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Returns round numbers, spaced by 1, 2 or 5 times a power of ten.

    Args:
      low: the least number.
      high: the greatest number.
      count: about how many numbers.
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    spacing = min((factor * power for factor in (1, 2, 5, 10)), key=lambda spacing: abs(math.log(spacing / rough)))
    first, last = math.ceil(low / spacing - 1e-9), math.floor(high / spacing + 1e-9)
    return [round(i * spacing, 12 - math.floor(math.log10(spacing))) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Returns at most six powers of ten from low to high, with their multiples by 2 and 5 if there are few."""
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    if len(powers) > 3:
        return [10.0**power for power in powers if power % math.ceil(len(powers) / 6) == 0]
    around = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    values = [factor * 10.0**power for power in (*around, around.stop) for factor in (1, 2, 5)]
    return [value for value in values if low <= value <= high]


def thin(steps: np.ndarray, values: np.ndarray, columns: int = COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """Keeps at most two points per column, the lowest and the highest, so that no spike is lost.

    Args:
      steps: [N], increasing.
      values: [N]; NaN where missing.
      columns: the number of columns.

    Returns:
      steps [n] and values [n]. A column of NaN keeps one NaN: a gap stays a gap.
    """
    if len(steps) <= 2 * columns:
        return steps, values
    edges = np.searchsorted(steps, np.linspace(steps[0], steps[-1], columns + 1)[1:-1])
    kept = {0, len(steps) - 1}
    for part in np.split(np.arange(len(steps)), edges):
        finite = part[np.isfinite(values[part])]
        kept.update(part[:1] if not len(finite) else finite[[values[finite].argmin(), values[finite].argmax()]])
    indices = np.array(sorted(kept))
    return steps[indices], values[indices]


def smooth(steps: np.ndarray, values: np.ndarray, columns: int = COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """Smooths a curve by a centered Gaussian, which does not lag; its width is a sixtieth of the run.

    Args:
      steps: [N], increasing.
      values: [N]; NaN where missing.
      columns: the number of columns of the drawing.

    Returns:
      steps [n] and values [n].
    """
    block = -(-len(values) // (4 * columns))  # block averages first: the time does not grow with the number of rows
    blocks = np.arange(len(values)) // block
    finite = np.isfinite(values)
    steps = np.bincount(blocks, steps) / np.bincount(blocks)
    total, count = np.bincount(blocks, np.where(finite, values, 0)), np.bincount(blocks, finite)
    width = max(len(total) / 60, 1)
    bell = np.exp(-np.square(np.arange(-int(3 * width), int(3 * width) + 1) / width) / 2)
    weight = np.convolve(count, bell, 'same')
    average = np.convolve(total, bell, 'same') / np.where(weight > 0, weight, 1)
    return thin(steps, np.where(count > 0, average, np.nan), columns)


def chart(
    title: str,
    series: Series,
    bands: Bands = {},
    along: str = 'step',
    of: str = 'term',
    colours: Sequence[str] = (),
) -> Chart:
    """Draws curves on shared axes.

    Args:
      title: text.
      series: name -> (steps [N], values [N], NaN where missing).
      bands: name -> (lowest [N], highest [N]): an area behind the curve of that name.
      along: the unit of the horizontal axis: 'step', or 'minute' if `series` has minutes for steps.
      of: what a curve belongs to, the heading of the legend.
      colours: all names that share a page, so that each has one colour in all charts; (): those of `series`.
    """
    series = {name: (np.asarray(x, float), np.asarray(y, float)) for name, (x, y) in series.items()}
    places = {name: place for place, name in enumerate(colours or series)}
    steps = np.concatenate([x for x, _ in series.values()])
    left, right = steps.min(), steps.max() if steps.max() > steps.min() else steps.min() + 1
    drawn = [*(y for _, y in series.values()), *(np.asarray(edge, float) for band in bands.values() for edge in band)]
    everything = np.concatenate([y[np.isfinite(y)] for y in drawn])
    low, high = _linear_range(everything)
    scales = {'linear': (low, high), 'log': _log_range(everything)}
    marks = ticks(left, right)
    return Chart(
        title=title,
        along=along,
        of=of,
        drawings=[_drawing(name, series, (left, right), span, bands, places) for name, span in scales.items() if span],
        marks=[(f'{(mark - left) / (right - left):.2%}', text) for mark, text in zip(marks, labels(marks))],
        legend=[_line(name, y, places[name]) for name, (_, y) in series.items()],
        data=_data(series, left, right, along),
        cut=len(everything) > 0 and bool(everything.min() < low or everything.max() > high),
        has_log=scales['log'] is not None,
        wants_log=_wants_log(series, everything),
    )


def split(series: Series) -> list[Series]:
    """Divides curves into those that one chart can show.

    A log axis shows positive curves of any size. Curves with other signs need a linear axis, and so numbers of similar
    size.

    Args:
      series: name -> (steps [N], values [N], NaN where missing).

    Returns:
      The parts, largest numbers first. Each keeps the order of `series`.
    """
    finite = {name: np.asarray(y, float)[np.isfinite(np.asarray(y, float))] for name, (_, y) in series.items()}
    if all((y > 0).all() for y in finite.values()):
        return [series]
    sizes = {name: float(np.median(np.abs(y))) if len(y) else 0.0 for name, y in finite.items()}
    parts: list[list[str]] = []
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if not parts or sizes[parts[-1][0]] > APART * sizes[name] > 0:  # zeros are a line on any axis
            parts.append([])
        parts[-1].append(name)
    return [{name: series[name] for name in series if name in part} for part in parts]


def _linear_range(values: np.ndarray) -> tuple[float, float]:
    """Returns the range of the axis. Rare spikes are cut off if they would flatten the rest."""
    if not len(values):
        return 0.0, 1.0
    low, high = values.min(), values.max()
    usual_low, usual_high = np.quantile(values, [0.005, 0.995])
    if high - low > 5 * (usual_high - usual_low) > 0:
        low, high = max(low, 1.5 * usual_low - usual_high / 2), min(high, 1.5 * usual_high - usual_low / 2)
    margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _log_range(values: np.ndarray) -> tuple[float, float] | None:
    """Returns the range of the log axis, or None without positive values."""
    positive = values[values > 0]
    return (positive.min() / 1.15, positive.max() * 1.15) if len(positive) else None


def _wants_log(series: Series, everything: np.ndarray) -> bool:
    """Returns whether positive curves are so far apart that a linear axis would show only one of them."""
    middles = [np.nanmedian(y) for _, y in series.values() if np.isfinite(y).any()]
    return len(middles) > 1 and bool(everything.min() > 0 and max(middles) > 50 * min(middles))


def _drawing(
    scale: str,
    series: Series,
    across: tuple[float, float],
    span: tuple[float, float],
    bands: Bands,
    places: Mapping[str, int],
) -> Drawing:
    """Draws one scale with the marks of its vertical axis.

    Args:
      scale: 'linear' or 'log'.
      series: the curves.
      across: the range of steps.
      span: the range of values.
      bands: areas behind the curves.
      places: places of the names among the colours.
    """
    position = (lambda y: np.log(y)) if scale == 'log' else (lambda y: y)
    low, high = position(span[0]), position(span[1])
    up = lambda y: 1 - (position(y) - low) / (high - low)
    marks = log_ticks(*span) if scale == 'log' else []
    marks = marks if len(marks) > 1 else ticks(*span)
    marks = [mark for mark in marks if mark > 0 or scale == 'linear']
    paths = [('grid', ''.join(f'M0 {up(mark) * SIDE:.0f}h{SIDE}' for mark in marks))]
    for name, (x, y) in series.items():
        place = lambda x, y: _path(
            (x - across[0]) / (across[1] - across[0]), up(np.where(y > 0, y, np.nan)) if scale == 'log' else up(y)
        )
        curve = f's{places[name]} {_colour(places[name])}'
        if name in bands:
            paths.append((f'band {curve}', _area(x, bands[name], place)))
        paths += [(f'{kind} {curve}', path) for kind, path in _curves(x, y, place).items()]
    return Drawing(scale, paths, [(f'{up(mark):.2%}', text) for mark, text in zip(marks, labels(marks))])


def _colour(place: int) -> str:
    """Returns the CSS classes of the curve at a place of the page; a curve after the last colour is dashed."""
    return f'c{place % COLOURS}' + (' dashed' if place >= COLOURS else '')


def _curves(x: np.ndarray, y: np.ndarray, place: Callable[[np.ndarray, np.ndarray], str]) -> dict[str, str]:
    """Draws one curve as SVG paths by kind: with dots below 30 points, else raw with a smooth curve over it.

    Args:
      x: steps [N].
      y: values [N].
      place: maps steps and values to the data of an SVG path.
    """
    if len(x) < 30:
        return {'curve': place(x, y), 'dots': _dots(place(x, y))}
    return {'raw': place(*thin(x, y)), 'smooth': place(*smooth(x, y))}


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """Returns the data of an SVG path through points in [0, 1], interrupted at each NaN."""
    y = np.clip(y, -3, 4)  # outside the drawing, but small enough for a browser to draw
    words, pen = [], 'M'
    for across, down in zip((x * SIDE).tolist(), (y * SIDE).tolist()):
        if math.isnan(down):
            pen = 'M'
        else:
            words.append(f'{pen}{across:.1f} {down:.1f}')
            pen = 'L'
    return ''.join(words)


def _area(x: np.ndarray, band: tuple[Any, Any], place: Callable[[np.ndarray, np.ndarray], str]) -> str:
    """Returns the data of an SVG path around a band.

    Args:
      x: steps [N].
      band: lowest and highest values [N]; a step without both is left out.
      place: maps steps and values to the data of an SVG path.
    """
    low, high = (np.asarray(edge, float) for edge in band)
    known = np.isfinite(low) & np.isfinite(high)
    x, low, high = x[known], low[known], high[known]
    words = [place(*thin(x, high)), place(*(part[::-1] for part in thin(x, low)))]
    return f'{words[0]}L{words[1][1:]}Z'.replace('M', 'L').replace('L', 'M', 1) if all(words) else ''


def _dots(path: str) -> str:
    """Turns each point of a path into a line of length 0. Its round ends form a dot that is not stretched."""
    return ''.join(f'M{point}h0' for point in path.replace('L', 'M').split('M')[1:])


def _line(name: str, y: np.ndarray, place: int) -> Line:
    """Returns the row of the legend of a curve with values y [N]."""
    finite = y[np.isfinite(y)]
    return Line(name, place, _colour(place), [finite[-1], finite.min(), finite.max()] if len(finite) else [None] * 3)


def _data(series: Series, left: float, right: float, along: str) -> dict[str, Any]:
    """Returns the values shown under the pointer.

    Args:
      series: the curves.
      left: the first step.
      right: the last step.
      along: the unit of the steps.
    """
    curves = []
    for name, (x, y) in series.items():
        x, y = thin(x, y)
        values = [float(f'{value:.4g}') if math.isfinite(value) else None for value in y]
        places = x.astype(int).tolist() if along == 'step' else [float(f'{place:.5g}') for place in x]
        curves.append({'name': name, 'x': places, 'y': values})
    return {'along': along, 'left': float(left), 'right': float(right), 'curves': curves}
