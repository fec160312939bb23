"""Parts of evaluation.json: figures and the protocol of their measurement."""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard


class Part(NamedTuple):
    """Figures measured under one protocol."""

    name: str  # '' for figures that belong to no part
    id: str  # id of the protocol; figures compare only if their ids are equal, and never without one ('')
    conditions: dict[str, Any]  # the protocol: everything that the figures depend on
    figures: dict[str, Any]  # name -> number, numbers by name, or a sentence with the reason why it is missing


def parts(evaluation: Mapping[str, Any]) -> list[Part]:
    """Splits an evaluation into its parts, in order. Figures that belong to no part form a last one.

    Args:
      evaluation: the content of evaluation.json. `protocol` is part -> {'id', 'figures': names, **conditions}. Older
        files have plain values there: the conditions of all figures.
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
    known = ('step', 'version', 'figures', 'protocol', 'alarms', 'seconds', 'rates')
    loose = {key: value for key, value in evaluation.items() if key not in known}
    loose |= {name: value for name, value in protocol.items() if name not in named}
    return found + ([Part('', '', loose, free)] if free or loose else [])


def alarms(evaluation: Mapping[str, Any]) -> list[str]:
    """Returns the warnings about the model in an evaluation."""
    found = evaluation.get('alarms')
    return [str(alarm) for alarm in found] if isinstance(found, list) else []


def title(name: str, other: str = 'Figures') -> str:
    """Returns the heading of a part; `other` is the heading of figures without a part."""
    return {'quality': 'Sample quality', '': other}.get(name) or name.replace('_', ' ').capitalize()


def is_number(value: Any) -> TypeGuard[int | float]:
    """Returns whether a value from JSON is a finite number. Booleans are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def flatten(value: Any, prefix: str = '') -> list[tuple[str, Any]]:
    """Flattens nested dicts to [(name/of/leaf, value)]. Lists and empty dicts are leaves."""
    if not isinstance(value, dict) or not value:
        return [(prefix, value)]
    return [leaf for key, inner in value.items() for leaf in flatten(inner, f'{prefix}/{key}' if prefix else str(key))]


def plain(value: Any) -> str:
    """Formats a value from JSON as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def superscript(number: int) -> str:
    """Formats a footnote number."""
    return str(number).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))
