"""Runs the code cells of each notebook in order, with a short training and small pictures."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from support.notebooks import cells, outputs, shown
from support.runs import ROOT, module_of

# Values that replace settings of the first code cell.
TINY = {
    'gan_game': {'STEPS': 4, 'SHOTS': 2, 'COUNT': 16, 'SIDE': 8},
    'explore': {'STEPS': 2, 'COUNT': 4, 'WALK': 3},
    'diffusion_flow': {'STEPS': 2, 'COUNT': 16, 'TIMES': 4, 'SIDE': 8, 'CELLS': 2},
}
NOTEBOOKS = sorted((ROOT / 'docs/notebooks').glob('*.ipynb'))


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_run_in_order(path, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.chdir(tmp_path)
    first, *rest = cells(path)
    names = {'__name__': 'notebook'}
    exec(first, names)
    assert {*TINY[path.stem], 'FOLDER'} == {name for name in names if name.isupper()}
    names.update(TINY[path.stem])
    pictures = [value for value in (shown(code, names) for code in rest) if isinstance(value, Image.Image)]
    assert len(pictures) >= 3 and all(np.ptp(np.asarray(picture)) > 50 for picture in pictures)
    assert (tmp_path / names['FOLDER'] / 'checkpoints' / str(names['STEPS'])).exists()


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_its_cells_compile(path):
    """Catches a notebook that was saved with large outputs, or without the pictures that the site shows."""
    content = json.loads(path.read_text())
    found = [output for cell in content['cells'] for output in cell.get('outputs', ())]
    assert sum('image/png' in output.get('data', {}) for output in found) >= 3
    assert path.stat().st_size < 150_000 and path.stem in TINY
    for code in cells(path):
        compile(code, path.name, 'exec')


def test_the_site_shows_a_notebook_with_its_outputs():
    picture = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2))
    code = {'cell_type': 'code', 'source': ['a = 1\n', 'a'], 'outputs': outputs('printed\n', {'a': 1})}
    drawn = {'cell_type': 'code', 'source': ['b'], 'outputs': outputs('', picture)}
    silent = {'cell_type': 'code', 'source': ['c'], 'outputs': outputs('', None)}
    notebook = {'cells': [{'cell_type': 'markdown', 'source': ['# Title\n', 'text']}, code, drawn, silent]}
    text = module_of(ROOT / 'docs/conf.py').markdown(json.dumps(notebook))
    front, title, *rest = text.split('\n\n')
    assert 'dollarmath' in front and title == '# Title\ntext'
    blocks = ['```python\na = 1\na\n```', '```text\nprinted\n```', "```text\n{'a': 1}\n```", '```python\nb\n```']
    assert rest[:4] == blocks and rest[5:] == ['```python\nc\n```\n']
    data = base64.b64decode(re.fullmatch(r'!\[.*\]\(data:image/png;base64,(.*)\)', rest[4])[1])
    np.testing.assert_array_equal(Image.open(io.BytesIO(data)), np.asarray(picture))


def test_a_cell_shows_the_value_of_its_last_expression():
    names = {}
    assert shown('a = 1\nfor _ in range(2):\n    a += 1\n\n(a,\n a + 1)', names) == (3, 4) and names['a'] == 3
    assert shown('b = 2', names) is None and names['b'] == 2
