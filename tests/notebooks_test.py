"""Runs the code cells of each notebook in order, with a short training and small pictures."""

import json

import numpy as np
import pytest
from PIL import Image

from support.runs import ROOT

# Values that replace settings of the first code cell.
TINY = {
    'gan_game': {'STEPS': 4, 'SHOTS': 2, 'COUNT': 16, 'SIDE': 8},
    'diffusion_flow': {'STEPS': 2, 'COUNT': 16, 'TIMES': 4, 'SIDE': 8, 'CELLS': 2},
}
NOTEBOOKS = sorted((ROOT / 'docs/notebooks').glob('*.ipynb'))


def cells(path):
    """Returns the text of the code cells."""
    return [''.join(cell['source']) for cell in json.loads(path.read_text())['cells'] if cell['cell_type'] == 'code']


def shown(code, names):
    """Runs a cell, and returns the value of its last line if that is an expression, as a notebook shows it."""
    *statements, last = code.split('\n')
    try:
        value = compile(last, 'cell', 'eval')
    except SyntaxError:
        exec(code, names)
        return None
    exec('\n'.join(statements), names)
    return eval(value, names)


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
    assert len(pictures) == 3 and all(np.ptp(np.asarray(picture)) > 50 for picture in pictures)
    assert (tmp_path / names['FOLDER'] / 'checkpoints' / str(names['STEPS'])).exists()


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_its_cells_compile(path):
    """Catches a notebook that was saved with all its outputs."""
    content = json.loads(path.read_text())
    outputs = [output for cell in content['cells'] for output in cell.get('outputs', ())]
    assert len(outputs) <= 1 and path.stat().st_size < 120_000 and path.stem in TINY
    for code in cells(path):
        compile(code, path.name, 'exec')
