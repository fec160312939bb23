"""Curves of runs: series from the rows of metrics.jsonl, and the section of a page with their charts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from genlab.reporting.charts import Chart
from genlab.reporting.figures import is_number
from genlab.reporting.page import Section

Row = Mapping[str, Any]
Curves = dict[str, tuple[list[int], list[float]]]  # metric -> (steps, values, NaN where missing)

MEASURED = ('samples', 'evaluation')  # groups of figures whose scales differ


def series_of(rows: Sequence[Row]) -> Curves:
    """Returns the curve of each metric except `seconds`, sorted by step. Values that are not numbers are missing."""
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
      rows: in the order of the file. `seconds` restarts at 0 with each process. A row without it, such as a row of an
        evaluation, has the time of the previous row.
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


def section(groups: Sequence[tuple[str, Sequence[Chart]]], note: str = '') -> Section:
    """Returns the section with charts, and with the boxes that switch between them and smooth their curves.

    Args:
      groups: (class, charts); the classes by-step and by-minute are shown in turn. A group without charts is left out.
      note: text next to the heading.
    """
    groups = [(kind, charts) for kind, charts in groups if charts]
    boxes = [('minutes', False)] if len(groups) > 1 else []
    return Section('Curves', 'charts', groups, note, boxes=[*boxes, ('smoothing', True)])
