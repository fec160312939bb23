"""Tests that docs/guide/slices.md shows what its commands print."""

import re
import shlex

import pytest

from genlab.sweep import __main__ as command
from genlab.sweep import spec
from support.runs import ROOT

PAGE = ROOT / 'docs/guide/slices.md'


def test_the_manifest_of_the_page_is_what_its_command_prints(monkeypatch, capsys):
    yaml = pytest.importorskip('yaml')
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr('sys.argv', ['x'])

    def checked(config, sweep, folder, base, devices, together):  # in this process
        assert devices == 256 and not together
        return spec.listed(config, sweep.split(','), folder, base)

    monkeypatch.setattr(command, 'checked', checked)
    text = PAGE.read_text()
    shared = re.search(r'^export SWEEP="(.*)"$', text, re.MULTILINE)[1]
    (line,) = re.findall(r'^python -m genlab.sweep \$SWEEP (.*--dry-run)$', text, re.MULTILINE)
    assert command.main(shlex.split(f'{shared} {line}')) == 0
    printed = capsys.readouterr().out
    one, two = printed.removeprefix('---\n').split('---\n')
    shown = re.search(r'```yaml\n(.*?)```', text, re.DOTALL)[1]
    assert shown == one
    pairs = [(a, b) for a, b in zip(one.splitlines(), two.rstrip().splitlines()) if a != b]
    assert len(one.splitlines()) == len(two.splitlines()) and len(pairs) == 3
    assert [a.split()[0] for a, _ in pairs] == ['name:', 'genlab-trial:', '-']
    assert yaml.safe_load(two)['spec']['replicatedJobs'][0]['template']['spec']['parallelism'] == 64
