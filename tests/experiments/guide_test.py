"""Tests that the code of docs/guide/adding.md is a complete family."""

import re
import sys
import types

from genlab.config import small
from support.runs import ROOT, Trained


def test_the_smallest_family_trains(monkeypatch):
    guide = (ROOT / 'docs' / 'guide' / 'adding.md').read_text()
    for path, code in re.findall(r'```python\n# ([a-z/]+)\.py\n(.*?)```', guide, re.DOTALL):
        module = types.ModuleType(path.replace('/', '.'))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(code, module.__dict__)
    run = Trained(small(sys.modules['configs.moments'].get_config()))
    _, sums = run.run((run.start, run.zero), 0, 1)
    assert float(sums['generator/mean'].sum) > 0
