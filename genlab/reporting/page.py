"""The page of a report: what it shows, as plain data, and its layout by the templates in `templates/`.

The templates escape all text. Python gives them no HTML. The page loads nothing from elsewhere.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2

from genlab.reporting.charts import COLOURS, SIDE, number
from genlab.reporting.figures import superscript


class Section(NamedTuple):
    """A part of a page, under a heading."""

    name: str  # the heading; the bar at the top links to it
    kind: str  # the template: sections/<kind>.html
    content: Any  # what that template shows; a section without content is left out
    note: str = ''  # text next to the heading
    find: str = ''  # what a search field finds among the rows; '' for no field
    boxes: Sequence[tuple[str, bool]] = ()  # checkboxes that the style knows: (id, whether it is checked)


class Card(NamedTuple):
    """A headline figure."""

    name: str
    value: str
    rest: str = ''  # text that follows the value in small letters


class Page(NamedTuple):
    """All that a page shows."""

    title: str  # title of the window
    heading: str
    facts: Sequence[str]
    sections: Sequence[Section]
    footer: str
    status: str = ''
    done: bool = False  # whether the work is finished
    made_by: str = ''  # the command that made the page
    alarms: Sequence[str] = ()  # faults of a model
    notices: Sequence[str] = ()
    cards: Sequence[Card] = ()


def render(page: Page) -> str:
    """Returns the whole document as HTML."""
    return environment().get_template('page.html').render(page=page)


@functools.cache
def environment() -> jinja2.Environment:
    """Returns the templates. A name that a template does not know is an error."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader('genlab.reporting'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.policies['json.dumps_kwargs'] = {'separators': (',', ':')}
    found.globals.update(colours=COLOURS, side=SIDE)
    found.filters.update(anchor=anchor, number=number, superscript=superscript)
    return found


def anchor(name: str) -> str:
    """Returns the anchor of a section: its name in lower case, words joined by hyphens."""
    return re.sub(r'[^\w-]', '', name.lower().replace(' ', '-'))
