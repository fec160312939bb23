"""Tables of the report: networks, evaluation, config and environment."""

from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

from genlab.reporting.charts import number
from genlab.reporting.figures import Part, alarms, flatten, is_number, parts, plain, title
from genlab.reporting.samples import figures_of


def text(value: Any) -> str:
    """Formats a value from JSON as HTML; a list on one line."""
    if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        return ', '.join(map(text, value))
    return escape(plain(value))


def rows_of(pairs: Iterable[tuple[str, Any]], value_of: Callable[[Any], str] = text) -> str:
    """Returns a table of names and values as HTML. value_of: formats a value as HTML."""
    rows = ''.join(f'<tr><th scope="row">{escape(name)}</th><td>{value_of(value)}</td></tr>' for name, value in pairs)
    return f'<table class="rows"><tbody>{rows}</tbody></table>'


def cell(value: float | None, shown: str | None = None) -> str:
    """Returns a cell of a table that sorts by numbers, as HTML; it is empty for None.

    Args:
      value: what the table sorts by; None comes last.
      shown: text; None formats the value.
    """
    text = shown if shown is not None else '' if value is None else number(value)
    return f'<td class="right" data-value="{"" if value is None else value}">{escape(text)}</td>'


def settings(name: str, values: Mapping[str, Any]) -> str:
    """Returns all leaves of a nested dict as a foldable table with a search field; '' for an empty dict."""
    pairs = flatten(values)
    if not values:
        return ''
    field = f'<input type="search" placeholder="find a setting" aria-label="Find in {escape(name.lower())}">'
    return (
        f'<div class="bar"><h2>{escape(name)}</h2>{field}</div>'
        f'<details open><summary>{len(pairs)} values</summary><div class="code">{rows_of(pairs)}</div></details>'
    )


def notice_boxes(sentences: Iterable[str], role: str) -> str:
    """Returns highlighted sentences as HTML. role: 'note', or 'alert' for a fault of the model."""
    return ''.join(f'<p class="notice" role="{role}">{escape(sentence)}</p>' for sentence in sentences)


def evaluation_tables(evaluation: Mapping[str, Any], folder: str) -> str:
    """Returns alarms, one box per part with figures and protocol, and pictures, as HTML.

    Args:
      evaluation: the content of evaluation.json.
      folder: the folder of the evaluation's pictures.
    """
    boxes = ''.join(map(_part, parts(evaluation))) + _times(evaluation)
    pictures = figures_of(folder)
    if not boxes and not pictures and not alarms(evaluation):
        return ''
    step = evaluation.get('step')
    note = f'<span class="note">of step {step:,}</span>' if is_number(step) else ''
    return (
        f'<div class="bar"><h2>Evaluation</h2>{note}</div>{notice_boxes(alarms(evaluation), "alert")}'
        f'<div class="columns">{boxes}</div>{pictures}'
    )


def _part(part: Part) -> str:
    """Returns the box of one part. Figures and conditions without a part get one box each."""
    figures, conditions = rows_of(_leaves(part.figures), _figure), rows_of(flatten(part.conditions))
    if not part.name:
        boxes = [('Figures', figures, part.figures), ('Protocol', conditions, part.conditions)]
        return ''.join(f'<div class="box"><h3>{name}</h3>{table}</div>' for name, table, values in boxes if values)
    badge = f'<code class="badge">{escape(part.id)}</code>' if part.id else ''
    protocol = f'<h4>Protocol{badge}</h4><div class="conditions">{conditions}</div>' if part.conditions or badge else ''
    return f'<div class="box"><h3>{escape(title(part.name))}</h3>{figures if part.figures else ""}{protocol}</div>'


def _times(evaluation: Mapping[str, Any]) -> str:
    """Returns a box with the seconds of each part and its rates per second."""
    rows = [
        (f'{name.replace("_", " ")}, {unit}', value)
        for kind, unit in (('seconds', 's'), ('rates', 'per second'))
        for name, value in (evaluation.get(kind) or {}).items()
        if is_number(value)
    ]
    return f'<div class="box"><h3>Time</h3>{rows_of(rows, _figure)}</div>' if rows else ''


def _leaves(figures: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Flattens nested figures to [(name, value)]. More than two numbers by name, e.g. class shares, stay one value."""
    together = lambda value: isinstance(value, dict) and len(value) > 2 and all(map(is_number, value.values()))
    return [
        leaf
        for name, value in figures.items()
        for leaf in ([(name, value)] if together(value) else flatten({name: value}))
    ]


def _figure(value: Any) -> str:
    """Formats a figure as HTML: a number, or several numbers as bars with their range."""
    if is_number(value):
        return number(value)
    names = list(value) if isinstance(value, dict) else None
    values = list(value.values()) if names else value
    if not isinstance(values, list) or len(values) < 3 or not all(map(is_number, values)):
        return text(value)
    top, bottom = max(values + [0]), min(values + [0])
    bars = ''.join(
        f'<i style="height:{(item - bottom) / ((top - bottom) or 1):.0%}"'
        + (f' title="{escape(names[i])}: {number(item)}"' if names else '')
        + '></i>'
        for i, item in enumerate(values[:80])
    )
    span = f'{len(values)} from {number(min(values))} to {number(max(values))}'
    listed = ', '.join(map(number, values)) if len(values) <= 10 and not names else span
    return f'<span class="spark" aria-hidden="true">{bars}</span>{listed}'


def network_tables(networks: Mapping[str, Any]) -> str:
    """Returns one folded table of modules per network, as HTML."""
    tables = ''.join(_network(name, network) for name, network in networks.items() if isinstance(network, dict))
    return f'<div class="bar"><h2>Networks</h2></div>{tables}' if tables else ''


def _network(name: str, network: Mapping[str, Any]) -> str:
    """Returns the folded table of one network."""
    modules = [module for module in network.get('modules') or [] if isinstance(module, dict)]
    total = network.get('parameters')
    total = total if is_number(total) else sum(_parameters(module) for module in modules)
    rows = ''.join(_module(module, max(total, 1)) for module in modules)
    summary = f'{escape(name)} <span>{number(total)} parameters in {len(modules)} modules</span>'
    head = ''.join(f'<th scope="col">{column}</th>' for column in ('module', 'type', 'output'))
    head += '<th scope="col" class="right">parameters</th>'
    return (
        f'<details><summary>{summary}</summary><div><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table></div></details>'
    )


def _parameters(module: Mapping[str, Any]) -> int:
    """Returns the parameters of a module, 0 if they are unknown."""
    return module['parameters'] if is_number(module.get('parameters')) else 0


def _module(module: Mapping[str, Any], total: float) -> str:
    """Returns one row. The bar behind its number is the share of the `total` parameters."""
    count = _parameters(module)
    output = module.get('output', '')
    simple = isinstance(output, list) and all(is_number(side) for side in output)
    shape = ' × '.join(map(str, output)) if simple else text(output)
    path, kind = (escape(str(module.get(key, ''))) for key in ('path', 'type'))
    share = f'<td class="right share" style="--share:{count / total:.1%}">{number(count)}</td>'
    return f'<tr><td class="code">{path}</td><td>{kind}</td><td>{shape}</td>{share}</tr>'
