"""Sections of the report of a run: networks, evaluation, config and environment, as plain data."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from genlab.reporting.charts import number
from genlab.reporting.figures import Part, alarms, flatten, is_number, parts, plain, title
from genlab.reporting.samples import Picture, figures_of


class Bars(NamedTuple):
    """Several numbers, drawn as bars."""

    text: str
    bars: Sequence[tuple[str, str]]  # (height in percent, text of a bar or '')


Rows = list[tuple[str, str | Bars]]  # names and values


class Box(NamedTuple):
    """Figures with the protocol of their measurement."""

    title: str
    rows: Rows
    id: str = ''  # id of the protocol
    protocol: Sequence[tuple[str, str]] = ()


class Evaluation(NamedTuple):
    """The section of an evaluation."""

    alarms: Sequence[str]
    boxes: Sequence[Box]
    pictures: Sequence[tuple[str, Picture]]


class Module(NamedTuple):
    """A row in the table of a network."""

    path: str
    type: str
    output: str
    parameters: int
    share: str  # share of the parameters of the network


class Network(NamedTuple):
    """A network and its modules."""

    name: str
    parameters: float
    modules: Sequence[Module]


def text(value: Any) -> str:
    """Formats a value from JSON; a list on one line."""
    if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        return ', '.join(map(text, value))
    return plain(value)


def settings(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the names and the values of all leaves of a nested dict."""
    return [(name, text(value)) for name, value in flatten(values)] if values else []


def evaluation_of(evaluation: Mapping[str, Any], folder: str) -> Evaluation | None:
    """Returns the section of an evaluation; None if there is nothing to show.

    Args:
      evaluation: the content of evaluation.json.
      folder: the folder of the evaluation's pictures.
    """
    boxes = [box for part in parts(evaluation) for box in _boxes(part)] + _times(evaluation)
    found = Evaluation(alarms(evaluation), boxes, figures_of(folder))
    return found if any(found) else None


def _boxes(part: Part) -> list[Box]:
    """Returns the box of one part. Figures and conditions without a part get one box each."""
    figures: Rows = [(name, _figure(value)) for name, value in _leaves(part.figures)]
    if part.name:
        return [Box(title(part.name), figures, part.id, settings(part.conditions))]
    boxes = [Box('Figures', figures), Box('Protocol', [*settings(part.conditions)])]
    return [box for box in boxes if box.rows]


def _times(evaluation: Mapping[str, Any]) -> list[Box]:
    """Returns a box with the seconds of each part and its rates per second; [] without any."""
    rows: Rows = [
        (f'{name.replace("_", " ")}, {unit}', number(value))
        for kind, unit in (('seconds', 's'), ('rates', 'per second'))
        for name, value in (evaluation.get(kind) or {}).items()
        if is_number(value)
    ]
    return [Box('Time', rows)] if rows else []


def _leaves(figures: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Flattens nested figures to [(name, value)]. More than two numbers by name, e.g. class shares, stay one value."""
    together = lambda value: isinstance(value, dict) and len(value) > 2 and all(map(is_number, value.values()))
    return [
        leaf
        for name, value in figures.items()
        for leaf in ([(name, value)] if together(value) else flatten({name: value}))
    ]


def _figure(value: Any) -> str | Bars:
    """Formats a figure: a number, or several numbers as bars with their range."""
    if is_number(value):
        return number(value)
    names = list(value) if isinstance(value, dict) else []
    values = list(value.values()) if names else value
    if not isinstance(values, list) or len(values) < 3 or not all(map(is_number, values)):
        return text(value)
    top, bottom = max(values + [0]), min(values + [0])
    heights = [f'{(item - bottom) / ((top - bottom) or 1):.0%}' for item in values[:80]]
    words = [f'{name}: {number(item)}' for name, item in zip(names, values)] or [''] * len(values)
    span = f'{len(values)} from {number(min(values))} to {number(max(values))}'
    listed = ', '.join(map(number, values)) if len(values) <= 10 and not names else span
    return Bars(listed, list(zip(heights, words)))


def networks_of(networks: Mapping[str, Any]) -> list[Network]:
    """Returns the networks with their modules, from the content of networks.json."""
    return [_network(name, network) for name, network in networks.items() if isinstance(network, dict)]


def _network(name: str, network: Mapping[str, Any]) -> Network:
    """Returns one network."""
    modules = [module for module in network.get('modules') or [] if isinstance(module, dict)]
    total = network.get('parameters')
    total = total if is_number(total) else sum(_parameters(module) for module in modules)
    return Network(name, total, [_module(module, max(total, 1)) for module in modules])


def _parameters(module: Mapping[str, Any]) -> int:
    """Returns the parameters of a module, 0 if they are unknown."""
    return module['parameters'] if is_number(module.get('parameters')) else 0


def _module(module: Mapping[str, Any], total: float) -> Module:
    """Returns a module of a network with `total` parameters."""
    output = module.get('output', '')
    simple = isinstance(output, list) and all(is_number(side) for side in output)
    path, kind = (str(module.get(key, '')) for key in ('path', 'type'))
    shape = ' × '.join(map(str, output)) if simple else text(output)
    return Module(path, kind, shape, _parameters(module), f'{_parameters(module) / total:.1%}')
