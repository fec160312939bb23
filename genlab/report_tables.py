"""Tables in the report: networks, evaluation, config and environment."""

import json
import math
from html import escape

from genlab.report_charts import number
from genlab.report_samples import image, load, pictures_of


def is_number(value):
    """Whether a value from JSON is a finite number; true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def flatten(value, prefix=''):
    """[(name/of/leaf, value)] of nested dicts; lists and empty dicts are leaves."""
    if not isinstance(value, dict) or not value:
        return [(prefix, value)]
    return [leaf for key, inner in value.items() for leaf in flatten(inner, f'{prefix}/{key}' if prefix else str(key))]


def text(value):
    """A value from JSON as HTML; a list on one line."""
    if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        return ', '.join(map(text, value))
    return escape(value if isinstance(value, str) else json.dumps(value))


def rows_of(pairs, value_of=text):
    """A table of names and values."""
    rows = ''.join(f'<tr><th scope="row">{escape(name)}</th><td>{value_of(value)}</td></tr>' for name, value in pairs)
    return f'<table class="rows"><tbody>{rows}</tbody></table>'


def settings(title, values):
    """Everything in a nested dict, folded away, with a field that finds a setting."""
    pairs = flatten(values)
    if not values:
        return ''
    field = f'<input type="search" placeholder="find a setting" aria-label="Find in {escape(title.lower())}">'
    return (f'<div class="bar"><h2>{escape(title)}</h2>{field}</div>'
            f'<details open><summary>{len(pairs)} values</summary><div class="code">{rows_of(pairs)}</div></details>')


def evaluation_tables(evaluation, folder):
    """The figures, the protocol that they were measured with, and the pictures of the evaluation."""
    figures, protocol = evaluation.get('figures'), evaluation.get('protocol')
    rest = {name: value for name, value in evaluation.items() if name not in ('figures', 'protocol')}
    conditions = {**rest, **(protocol if isinstance(protocol, dict) else {'protocol': protocol} if protocol else {})}
    boxes = [f'<div class="box"><h3>{title}</h3>{rows_of(flatten(values), value_of)}</div>' for title, values, value_of
             in (('Figures', figures, _figure), ('Protocol', conditions, text)) if values]
    pictures = ''.join(f'<figure class="box">{image(data, label)}<figcaption>{label}</figcaption></figure>'
                       for label, data in load(pictures_of(folder)))
    if not boxes and not pictures:
        return ''
    return (f'<div class="bar"><h2>Evaluation</h2></div><div class="columns">{"".join(boxes)}</div>'
            f'<div class="pictures">{pictures}</div>')


def _figure(value):
    """A figure of the evaluation: a number, or a list of numbers as bars with its range."""
    if is_number(value):
        return number(value)
    if not isinstance(value, list) or len(value) < 3 or not all(map(is_number, value)):
        return text(value)
    top, bottom = max(value + [0]), min(value + [0])
    bars = ''.join(f'<i style="height:{(item - bottom) / ((top - bottom) or 1):.0%}"></i>' for item in value[:80])
    span = f'{len(value)} from {number(min(value))} to {number(max(value))}'
    listed = ', '.join(map(number, value)) if len(value) <= 10 else span
    return f'<span class="spark" aria-hidden="true">{bars}</span>{listed}'


def network_tables(networks):
    """A table of modules for each network, folded."""
    tables = ''.join(_network(name, network) for name, network in networks.items() if isinstance(network, dict))
    return f'<div class="bar"><h2>Networks</h2></div>{tables}' if tables else ''


def _network(name, network):
    modules = [module for module in network.get('modules') or [] if isinstance(module, dict)]
    total = network.get('parameters')
    total = total if is_number(total) else sum(_parameters(module) for module in modules)
    rows = ''.join(_module(module, max(total, 1)) for module in modules)
    summary = f'{escape(name)} <span>{number(total)} parameters in {len(modules)} modules</span>'
    head = ''.join(f'<th scope="col">{column}</th>' for column in ('module', 'type', 'output'))
    head += '<th scope="col" class="right">parameters</th>'
    return (f'<details><summary>{summary}</summary><div><table><thead><tr>{head}</tr></thead>'
            f'<tbody>{rows}</tbody></table></div></details>')


def _parameters(module):
    return module['parameters'] if is_number(module.get('parameters')) else 0


def _module(module, total):
    """One row; the bar behind the number is its share of the network."""
    count = _parameters(module)
    output = module.get('output', '')
    simple = isinstance(output, list) and all(is_number(side) for side in output)
    shape = ' × '.join(map(str, output)) if simple else text(output)
    path, kind = (escape(str(module.get(key, ''))) for key in ('path', 'type'))
    share = f'<td class="right share" style="--share:{count / total:.1%}">{number(count)}</td>'
    return f'<tr><td class="code">{path}</td><td>{kind}</td><td>{shape}</td>{share}</tr>'
