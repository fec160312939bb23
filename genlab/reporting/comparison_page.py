"""Pages of the results: the same tables in Markdown and in HTML."""

import re
from collections.abc import Mapping, Sequence
from html import escape, unescape

from genlab.reporting.charts import chart
from genlab.reporting.comparison_tables import Cell, Run, Table, digits, parameters, settings, superscript
from genlab.reporting.curves import box, kind, minutes_of, section, series_of
from genlab.reporting.figures import alarms
from genlab.reporting.page import anchor, page
from genlab.reporting.samples import image
from genlab.reporting.tables import notice_boxes

COMPARE = (
    'Figures compare only if their protocols are equal; the best of those is bold. ↓: lower is better, ↑: higher is.'
)
FIND = '<input type="search" placeholder="find a setting" aria-label="Find a setting">'
CHARTS = 24  # of a page


def markdown(
    runs: Sequence[Run], tables: Sequence[Table], links: Mapping[str, Sequence[tuple[str, str]]], made_by: str
) -> str:
    """Returns the page as Markdown.

    Args:
      runs: the runs.
      tables: the overview, then one table per part.
      links: run -> [(caption as HTML, relative link)].
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
        parts += [
            f'![{mild(caption)}]({link})  \n*{mild(caption)}*'
            for caption, link in ((unescape(caption), link) for caption, link in links.get(run.name, []))
        ]
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
    runs: Sequence[Run], tables: Sequence[Table], shown: Mapping[str, Sequence[tuple[str, str, bytes]]], made_by: str
) -> str:
    """Returns the page as one HTML file.

    Args:
      runs: the runs.
      tables: the overview, then one table per part; curves and settings that differ follow.
      shown: run -> [(name, caption as HTML, PNG)].
      made_by: the command, which the page names.
    """
    warnings = [f'{run.name}: {alarm}' for run in runs for alarm in alarms(run.evaluation)]
    bare = [f'{run.name} has no evaluation, and so no figures' for run in runs if not run.evaluation]
    header = (
        f'<div class="title"><h1>Results</h1></div><p class="facts"><span>{len(runs)} run{"s" if len(runs) > 1 else ""}'
        f'</span><span>made by <code>{escape(made_by)}</code></span></p>{notice_boxes(warnings, "alert")}'
        f'{notice_boxes(bare, "note")}'
    )
    sections = [(table.name, _html_table(table, COMPARE if number == 1 else '')) for number, table in enumerate(tables)]
    figures = ''.join(
        f'<figure class="box">{image(data, f"{escape(run.name)}: {caption}")}'
        f'<figcaption><b>{escape(run.name)}</b> {caption}</figcaption></figure>'
        for run in runs
        for _, caption, data in shown.get(run.name, [])
    )
    if curves := _curves(runs):
        sections.append(('Curves', curves))
    if different := settings(runs):
        sections.append(('Settings', _html_table(different, FIND)))
    if figures:
        sections.append(('Pictures', f'<div class="bar"><h2>Pictures</h2></div><div class="pictures">{figures}</div>'))
    return page('Results', header, sections, 'Made from the files of the runs alone; nothing is written by hand.')


def _html_table(table: Table, note: str) -> str:
    """Formats a table with its legend and notes as HTML. note: HTML beside the heading."""
    head = ''.join(f'<th scope="col"{_side(column.style)}>{escape(column.text)}</th>' for column in table.columns)
    rows = ''.join(
        f'<tr><th scope="row">{escape(first.text)}</th>'
        + ''.join(_html_cell(cell, column.style) for cell, column in zip(rest, table.columns[1:]))
        + '</tr>'
        for first, *rest in table.rows
    )
    lines = [
        f'<li>{f"""<code class="badge">{escape(key)}</code>""" if key else ""}{escape(text)}</li>'
        for key, text in table.legend
    ]
    lines += [f'<li>{superscript(at)} {escape(text)}</li>' for at, text in enumerate(table.notes, 1)]
    return (
        f'<div class="bar"><h2>{escape(table.name)}</h2><span class="note">{note}</span></div>'
        f'<div class="box wide"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table></div>' + (f'<ul class="key">{"".join(lines)}</ul>' if lines else '')
    )


def _side(style: str) -> str:
    """Returns the class of a cell as an attribute."""
    return {'number': ' class="right"', 'code': ' class="long"', 'long': ' class="long"'}.get(style, '')


def _html_cell(cell: Cell, column: str) -> str:
    """Formats a cell of a column of this style as HTML. A column of numbers sorts by their values."""
    value = f' data-value="{"" if cell.value is None else cell.value}"' if column == 'number' else ''
    form = {'best': '<strong>{}</strong>', 'code': '<code>{}</code>'}.get(cell.style, '{}')
    side = _side('long' if cell.style == 'long' else column)
    return f'<td{side}{value}>{form.format(escape(cell.text)) if cell.text else ""}</td>'


def _curves(runs: Sequence[Run]) -> str:
    """Returns a chart per metric with a curve per run, over steps and over minutes, as HTML; '' without curves."""
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
    if not shown:
        return ''
    left_out = f'{len(metrics) - CHARTS} more metrics are left out' if len(metrics) > CHARTS else ''
    charts = f'<div class="charts by-step">{"".join(by_step)}</div>'
    if not by_minute:
        return section(charts, left_out)
    return section(f'{charts}<div class="charts by-minute">{"".join(by_minute)}</div>', left_out, box('minutes'))
