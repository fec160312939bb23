"""Curves of runs: series from the rows of metrics.jsonl, and the section of a page that shows them as charts."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from genlab.reporting.figures import is_number

Row = Mapping[str, Any]
Curves = dict[str, tuple[list[int], list[float]]]  # metric -> (steps, values, NaN where missing)

MEASURED = ('samples', 'evaluation')  # groups of figures whose scales differ


def series_of(rows: Sequence[Row]) -> Curves:
    """Returns the curve of each metric, sorted by step. What is no number is missing; `seconds` is no metric."""
    series: Curves = {}
    for row in sorted(rows, key=lambda row: row['step']):
        for name, value in row.items():
            if name not in ('step', 'seconds') and (value is None or isinstance(value, (int, float))):
                steps, values = series.setdefault(name, ([], []))
                steps.append(row['step'])
                values.append(value if is_number(value) else math.nan)
    return series


def minutes_of(rows: Sequence[Row]) -> dict[int, float]:
    """Returns step -> minutes of training until then; {} for rows without `seconds`.

    Args:
      rows: in the order of the file. `seconds` restarts at 0 with each process. A row without it, such as that of an
        evaluation, has the time of the row before.
    """
    found: dict[int, float] = {}
    before = last = 0.0
    for row in rows:
        if is_number(row.get('seconds')):
            before += last if row['seconds'] < last else 0.0
            last = row['seconds']
        found.setdefault(row['step'], (before + last) / 60)
    return found if any(found.values()) else {}


def kind(metric: str) -> int:
    """Returns the sort key of a metric: terms of players, then figures, then single metrics such as the speed."""
    group, slash, _ = metric.partition('/')
    return 2 if not slash else int(group in MEASURED)


def section(charts: str, note: str = '', more: str = '') -> str:
    """Returns the section with charts, and with the box that smooths their curves.

    Args:
      charts: HTML.
      note: text beside the heading.
      more: other boxes, as HTML.
    """
    note = f'<span class="note">{escape(note)}</span>' if note else ''
    return f'<div class="bar"><h2>Curves</h2>{note}<span>{more}{box("smoothing", True)}</span></div>{charts}'


def box(name: str, checked: bool = False) -> str:
    """Returns a checkbox with the id and the label `name`, as HTML."""
    return f'<label class="toggle"><input type="checkbox" id="{name}"{" checked" * checked}> {name}</label>'
