"""The documentation site: `pip install -e '.[docs]'`, then `python -m sphinx -W -b html docs docs/_build`.

Pages are Markdown. Two kinds of comments in them are replaced by text when the site is built: `<!-- configs -->` by the
list of all configs, and `<!-- module NAME -->` or `<!-- package NAME -->` by the reference of modules. Notebooks are
shown with what their cells showed when they were recorded (`tests/support/notebooks.py`); nothing runs here.
"""

import importlib
import inspect
import json
import pkgutil
import re
import textwrap

import genlab
from genlab import main

project, author, release = 'genlab', 'The genlab authors', genlab.__version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['_build']
source_suffix = {'.md': 'markdown', '.ipynb': 'markdown'}
myst_heading_anchors = 4
autodoc_default_options = {'members': True, 'member-order': 'bysource', 'special-members': '__call__'}
autodoc_preserve_defaults = True
napoleon_use_ivar, napoleon_attr_annotations = True, False
napoleon_custom_sections = [('Fields', 'params_style')]
maximum_signature_line_length = 100
smartquotes = False
html_theme, html_title, html_show_copyright = 'furo', 'genlab', False
html_static_path, html_css_files = ['_static'], ['site.css']


def configs() -> str:
    """Returns a section for each config file, by the code of --mode=list. No config is executed."""
    sections = []
    for file in main.config_files():
        if (found := main.outline(file)) is not None:
            what, variants = (' '.join(found[0].split('\n\n')[0].split())), found[1]
            lines = [f'- `:{name}` {plain(text.splitlines()[0]) if text else ""}' for name, text in variants.items()]
            sections.append('\n'.join([f'## {file.stem}', '', plain(what), '', *lines]))
    return '\n\n'.join(sections)


def plain(text: str) -> str:
    """Returns a docstring as Markdown: outside of `code`, what has a meaning there is escaped."""
    return re.sub(r'(`[^`]*`)|([*_<\[\]])', lambda found: found[1] or '\\' + found[2], text)


def reference(kind: str, name: str) -> str:
    """Returns the reference of a module, or of all modules of a package, as Markdown."""
    module = importlib.import_module(name)
    if kind == 'package':
        inner = [info.name for info in pkgutil.walk_packages(module.__path__, f'{name}.') if not info.ispkg]
        return '\n\n'.join(reference('module', each) for each in ([name] if module.__doc__ else []) + inner)
    return f'## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```'


def markdown(notebook: str) -> str:
    """Returns a notebook, the text of an .ipynb file, as Markdown: its cells and their recorded outputs."""
    parts = ['---\nmyst:\n  enable_extensions: [dollarmath]\n---']
    for cell in json.loads(notebook)['cells']:
        text = ''.join(cell['source'])
        parts.append(f'```python\n{text}\n```' if cell['cell_type'] == 'code' else text)
        for output in cell.get('outputs', ()):
            data = output.get('data', {})
            if 'image/png' in data:
                parts.append(f'![the output of the cell](data:image/png;base64,{"".join(data["image/png"].split())})')
            else:
                parts.append(f'```text\n{"".join(data.get("text/plain") or output["text"]).rstrip()}\n```')
    return '\n\n'.join(parts) + '\n'


def expand(app, page: str, source: list[str]) -> None:
    """Turns a notebook into Markdown, and replaces the comments of a page by what is generated."""
    if str(app.env.doc2path(page)).endswith('.ipynb'):
        source[0] = markdown(source[0])
    source[0] = re.sub('<!-- configs -->', lambda found: configs(), source[0])
    source[0] = re.sub(r'<!-- (module|package) (\S+) -->', lambda found: reference(*found.groups()), source[0])


def restructure(app, what: str, name: str, thing, options, lines: list[str]) -> None:
    """Turns a docstring, which is plain text with `code`, into reStructuredText; fields get their comments."""
    text = ''
    for paragraph in re.split(r'\n[ ]*\n', '\n'.join(lines).strip('\n')):
        head, _, body = paragraph.partition('\n')
        if head.startswith('>>>'):
            text += paragraph
        elif head.startswith('  '):
            text += '::\n\n' + paragraph
        elif head in ('Returns:', 'Yields:'):
            text += ':returns:\n' + textwrap.indent(listed(escaped(textwrap.dedent(body))), '    ')
        else:
            text += listed(escaped(paragraph))
        text += '\n\n'
    if what == 'class' and (fields := commented(thing)):
        text += '\n'.join(['Attributes:', *(f'    {field}: {escaped(comment)}' for field, comment in fields)]) + '\n'
    lines[:] = text.splitlines()


def escaped(text: str) -> str:
    """Returns plain text with `code` as reStructuredText."""
    code = r'(?P<code>`[^`]+`)(?P<letter>\w?)|(?P<special>[\\*|]|_(?!\w))'

    def replaced(found: re.Match) -> str:
        letter = '\\ ' + found['letter'] if found['letter'] else ''
        return f'`{found["code"]}`{letter}' if found['code'] else '\\' + found['special']

    return re.sub(code, replaced, text)


def listed(text: str) -> str:
    """Turns lines `name: meaning`, whose further lines are indented, into the items of a list."""
    lines = text.splitlines()
    if len(lines) < 2 or lines[0].endswith(':') or lines[0].startswith('- '):  # a section, such as Args, or a list
        return text
    hanging = any(line.startswith(' ') for line in lines)
    if not hanging and not all(re.match(r'[^:]{1,80}: \S', line) for line in lines):
        return text
    return '\n'.join(f'  {line.lstrip()}' if line.startswith(' ') else f'- {line}' for line in lines)


def commented(thing: type) -> list[tuple[str, str]]:
    """Returns the fields of a class that have a comment in their line."""
    try:
        source = inspect.getsource(thing)
    except (OSError, TypeError):
        return []
    return re.findall(r'^    (\w+): [^#\n]+  # (.+)$', source, re.MULTILINE)


def skip(app, what: str, name: str, thing, skipped: bool, options) -> bool | None:
    """Leaves out the fields of tuples, which `restructure` lists with their comments."""
    return True if type(thing).__name__ == '_tuplegetter' else None


def setup(app) -> None:
    app.connect('source-read', expand)
    app.connect('autodoc-process-docstring', restructure, priority=100)  # before napoleon
    app.connect('autodoc-skip-member', skip)
