"""Notebooks without Jupyter: runs the cells in one namespace, and records in the file what they show.

cd tests && python -m support.notebooks ../docs/notebooks/explore.ipynb
"""

import ast
import base64
import contextlib
import io
import json
import pathlib
import pprint
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from PIL import Image


def cells(path: pathlib.Path) -> list[str]:
    """Returns the text of the code cells."""
    return [''.join(cell['source']) for cell in json.loads(path.read_text())['cells'] if cell['cell_type'] == 'code']


def shown(code: str, names: dict[str, Any]) -> Any:
    """Runs a cell, and returns the value of its last statement if that is an expression, as a notebook shows it."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, 'cell', 'exec'), names)
    return eval(compile(ast.Expression(last.value), 'cell', 'eval'), names) if last else None


def outputs(printed: str, value: Any) -> list[Mapping[str, Any]]:
    """Returns the outputs of a cell in the format of notebooks: text, then a picture or a value."""
    found: list[Mapping[str, Any]] = []
    if printed:
        found.append({'output_type': 'stream', 'name': 'stdout', 'text': printed.splitlines(keepends=True)})
    if isinstance(value, Image.Image):
        buffer = io.BytesIO()
        small = value if value.mode == 'L' else value.quantize(64, dither=Image.Dither.NONE)
        small.save(buffer, 'PNG', optimize=True)
        data = {'image/png': base64.b64encode(buffer.getvalue()).decode()}
    elif value is not None:
        data = {'text/plain': pprint.pformat(value, width=100).splitlines(keepends=True)}
    else:
        return found
    return [*found, {'output_type': 'execute_result', 'execution_count': None, 'metadata': {}, 'data': data}]


def record(path: pathlib.Path) -> None:
    """Runs a notebook in an empty folder, and writes what its cells show into the file."""
    content, names = json.loads(path.read_text()), {'__name__': 'notebook'}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for cell in content['cells']:
            if cell['cell_type'] == 'code':
                with contextlib.redirect_stdout(io.StringIO()) as printed:
                    value = shown(''.join(cell['source']), names)
                cell['outputs'] = outputs(printed.getvalue(), value)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n')


if __name__ == '__main__':
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))  # for `configs`
    for name in sys.argv[1:]:
        record(pathlib.Path(name).resolve())
