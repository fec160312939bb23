"""Pages of the results: the same tables in Markdown and in HTML."""

import re
from collections.abc import Mapping, Sequence
from html import escape

from genlab.reporting import page
from genlab.reporting.charts import chart
from genlab.reporting.comparison_tables import Run, Table, digits, parameters, settings
from genlab.reporting.curves import kind, minutes_of, section, series_of
from genlab.reporting.figures import alarms, superscript
from genlab.reporting.page import Page, Section, anchor
from genlab.reporting.samples import Picture

COMPARE = (
    'Figures compare only if their protocols are equal; the best of those is bold. ↓: lower is better, ↑: higher is.'
)
CHARTS = 24  # most charts of a page


def markdown(
    runs: Sequence[Run], tables: Sequence[Table], links: Mapping[str, Sequence[tuple[str, str]]], made_by: str
) -> str:
    """Returns the page as Markdown.

    Args:
      runs: the runs.
      tables: the overview, then one table per part.
      links: run -> [(caption, relative link)].
      made_by: the command, which the page names.
    """
    names = [table.name for table in tables] + (['Pictures'] if links else [])
    parts = [
        '# Results',
        f'Made by {code(made_by)}. Nothing on this page is written by hand.',
        ' · '.join(f'[{mild(name)}](#{anchor(name)})' for name in names),
    ]
    parts += [_warning(run, alarm) for run in runs for alarm in alarms(run.evaluation)]
    for number, table in enumerate(tables):
        parts += [f'## {mild(table.name)}', *([COMPARE] if number == 1 else []), _markdown_table(table)]
        parts += ['\n'.join(f'- {code(key) + ": " if key else ""}{mild(text)}' for key, text in table.legend)]
        parts += ['  \n'.join(f'{superscript(at)} {mild(note)}' for at, note in enumerate(table.notes, 1))]
    parts += ['## Pictures'] if links else []
    for run in runs if links else ():
        parts += [f'### {mild(run.name)}', mild(_sizes(run))]
        parts += [f'![{mild(caption)}]({link})  \n*{mild(caption)}*' for caption, link in links.get(run.name, [])]
    return '\n\n'.join(filter(None, parts)) + '\n'


def mild(text: object) -> str:
    """Escapes text for Markdown and HTML, on one line."""
    text = escape(' '.join(str(text).split()), quote=False)
    text = re.sub(r'([\\`*_\[\]|#~$])', r'\\\1', text)
    return re.sub(r'(?<=\w)\\_(?=\w)', '_', text)  # inside a word an underscore is literal


def code(text: object) -> str:
    """Formats any text as Markdown code on one line."""
    text = ' '.join(str(text).split())
    fence = '`' * (max(map(len, re.findall('`+', text)), default=0) + 1)
    space = ' ' if text.startswith('`') or text.endswith('`') else ''
    return f'{fence}{space}{text}{space}{fence}' if text else ''


def _warning(run: Run, alarm: str) -> str:
    """Formats an alarm of a run."""
    return f'> **Alarm**, {mild(run.name)}: {mild(alarm)}'


def _markdown_table(table: Table) -> str:
    """Formats a table as Markdown."""
    styles = {'best': lambda text: f'**{mild(text)}**', 'code': lambda text: code(text).replace('|', '\\|')}
    lines = [
        [mild(column.text) for column in table.columns],
        ['--:' if column.style == 'number' else '---' for column in table.columns],
    ]
    lines += [[styles.get(cell.style, mild)(cell.text) for cell in row] for row in table.rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _sizes(run: Run) -> str:
    """Lists the parameters of each network; '' if they are unknown."""
    sizes = ', '.join(f'{name} {digits(count)}' for name, count in parameters(run).items())
    return f'{sizes} parameters' if sizes else ''


def html(
    runs: Sequence[Run], tables: Sequence[Table], shown: Mapping[str, Sequence[tuple[str, Picture]]], made_by: str
) -> str:
    """Returns the page as one HTML file.

    Args:
      runs: the runs.
      tables: the overview, then one table per part; curves and settings that differ follow.
      shown: run -> [(name, picture)].
      made_by: the command, which the page names.
    """
    pictures = [(run.name, picture) for run in runs for _, picture in shown.get(run.name, ())]
    return page.render(
        Page(
            title='Results',
            heading='Results',
            facts=[f'{len(runs)} run{"s" if len(runs) > 1 else ""}'],
            sections=[
                *(Section(table.name, 'table', table, COMPARE if n == 1 else '') for n, table in enumerate(tables)),
                _curves(runs),
                Section('Settings', 'table', settings(runs), find='a setting'),
                Section('Pictures', 'pictures', pictures),
            ],
            footer='Made from the files of the runs alone; nothing is written by hand.',
            made_by=made_by,
            alarms=[f'{run.name}: {alarm}' for run in runs for alarm in alarms(run.evaluation)],
            notices=[f'{run.name} has no evaluation, and so no figures' for run in runs if not run.evaluation],
        )
    )


def _curves(runs: Sequence[Run]) -> Section:
    """Returns the section with a chart per metric and a curve per run, over steps and over minutes."""
    found = {run.name: series_of(run.rows) for run in runs}
    clocks = {run.name: minutes_of(run.rows) for run in runs}
    metrics = {metric for curves in found.values() for metric, (steps, _) in curves.items() if len(steps) > 1}
    shown = sorted(metrics, key=lambda metric: (kind(metric), metric))[:CHARTS]
    names = [name for name, curves in found.items() if {*curves} & {*shown}]
    by_step, by_minute = [], []
    for metric in shown:
        steps = {name: curves[metric] for name, curves in found.items() if metric in curves}
        minutes = {
            name: ([clocks[name][step] for step in curve[0]], curve[1]) for name, curve in steps.items() if clocks[name]
        }
        by_step.append(chart(metric, steps, of='run', colours=names))
        by_minute += [chart(metric, minutes, along='minute', of='run', colours=names)] if minutes else []
    left_out = f'{len(metrics) - CHARTS} more metrics are left out' if len(metrics) > CHARTS else ''
    return section([('by-step', by_step), ('by-minute', by_minute)], left_out)
