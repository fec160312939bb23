"""Tests what is said where Python, the platform or a package does not suit."""

import importlib.metadata
import importlib.util
import subprocess
import sys

import pytest

from genlab.run import requirements
from support.runs import ROOT


@pytest.mark.parametrize(
    'platform, version, words',
    [
        ('win32', (3, 12), 'install genlab in WSL'),
        ('linux', (3, 10, 4), 'Python 3.10 is too old'),
        ('linux', (3, 14), ''),
    ],
)
def test_platforms_and_pythons(platform, version, words, monkeypatch):
    monkeypatch.setattr(importlib.metadata, 'requires', lambda name: ['numpy>=2.0', "nowhere>=1; extra == 'maps'"])
    found = requirements.missing(platform, version)
    assert words in found and bool(words) == bool(found)


def test_an_old_or_a_missing_package_is_named_with_what_to_do(monkeypatch):
    versions = {'jax': '0.4.30', 'optax': '0.2.10', 'orbax-checkpoint': '0.12.8.dev1'}

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError
        return versions[name]

    monkeypatch.setattr(importlib.metadata, 'version', version)
    for met in ('optax<0.3,>=0.2.8', 'orbax-checkpoint<1,>=0.12.8', 'jax', "absent>=1; extra == 'test'"):
        assert requirements.unmet(met) == ''
    assert requirements.unmet('jax>=0.10.2').startswith('jax 0.4.30 is too old, genlab needs jax>=0.10.2: activate')
    assert requirements.unmet('absl-py>=2.3').startswith('absl-py is not installed in ')


def test_a_checkout_that_is_not_installed_needs_its_packages(monkeypatch):
    def requires(name):
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, 'requires', requires)
    assert requirements.missing('linux', (3, 11)) == ''
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert requirements.missing('linux', (3, 11)).startswith('genlab is not installed in ')


def test_a_module_that_is_missing_later_is_one_line(monkeypatch, capsys):
    error = ModuleNotFoundError("No module named 'jinja2'")
    requirements.explain(type(error), error, None)
    assert capsys.readouterr().err.startswith("genlab: No module named 'jinja2' in ")
    for argument, other in (('--debug', error), ('', ValueError('x'))):
        monkeypatch.setattr(sys, 'argv', ['main', argument])
        requirements.explain(type(other), other, None)
        assert capsys.readouterr().err.startswith(type(other).__name__)


@pytest.mark.parametrize('module', ['main', 'results', 'sweep', 'convert'])
def test_commands_without_an_environment_give_one_line(module):
    """Runs a bare interpreter, which has no packages, as a person does who has not activated the environment."""
    words = [sys.executable, '-S', '-m', f'genlab.{module}']
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stdout == ''
    assert ended.stderr.startswith('genlab: ') and ended.stderr.count('\n') == 1
    assert ' is not installed in ' in ended.stderr
