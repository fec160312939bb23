"""The parts of evaluation.json: figures, and the protocol that they were measured with."""

import json
import math
from typing import NamedTuple


class Part(NamedTuple):
    """Figures that were measured in one way."""

    name: str  # '' for figures that belong to no part
    id: str  # of the protocol; figures compare only if theirs are equal. '' if there is none: they do not
    conditions: dict  # what the figures depend on
    figures: dict  # name -> number, numbers by name, or a sentence that says why there is none


def parts(evaluation):
    """The parts of an evaluation, in its order; figures of no part, like all of an old evaluation, are a last one.

    evaluation: evaluation.json, where `protocol` is part -> {'id', 'figures': names, conditions}. Old ones have plain
    values there, which are the conditions of all figures.
    """
    figures, protocol = evaluation.get('figures'), evaluation.get('protocol')
    figures = figures if isinstance(figures, dict) else {}
    protocol = protocol if isinstance(protocol, dict) else {'protocol': protocol} if protocol else {}
    named = {
        name: part
        for name, part in protocol.items()
        if isinstance(part, dict) and isinstance(part.get('figures'), list)
    }
    found = [
        Part(
            name,
            str(part.get('id', '')),
            {key: part[key] for key in part if key not in ('id', 'figures')},
            {key: value for key, value in figures.items() if key in part['figures']},
        )
        for name, part in named.items()
    ]
    free = {key: value for key, value in figures.items() if not any(key in part.figures for part in found)}
    known = ('step', 'figures', 'protocol', 'alarms', 'seconds', 'rates')
    loose = {key: value for key, value in evaluation.items() if key not in known}
    loose |= {name: value for name, value in protocol.items() if name not in named}
    return found + ([Part('', '', loose, free)] if free or loose else [])


def alarms(evaluation):
    """The sentences in which the evaluation warns of its model."""
    found = evaluation.get('alarms')
    return [str(alarm) for alarm in found] if isinstance(found, list) else []


def title(name, other='Figures'):
    """The heading of a part."""
    return {'quality': 'Sample quality', '': other}.get(name) or name.replace('_', ' ').capitalize()


def is_number(value):
    """Whether a value from JSON is a finite number; true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def flatten(value, prefix=''):
    """[(name/of/leaf, value)] of nested dicts; lists and empty dicts are leaves."""
    if not isinstance(value, dict) or not value:
        return [(prefix, value)]
    return [leaf for key, inner in value.items() for leaf in flatten(inner, f'{prefix}/{key}' if prefix else str(key))]


def plain(value):
    """A value from JSON as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
