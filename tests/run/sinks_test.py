"""Tests the sinks: TensorBoard's events are read in logs_test; here wandb, by a module that imitates it."""

import json
import sys
import types

import jax
import numpy as np
import pytest

from genlab import config as configs
from genlab.errors import ConfigError
from genlab.run import sinks
from genlab.run.logs import MetricLog, read_metrics
from genlab.training import loop
from support.imitated_wandb import Run, Wandb


@pytest.fixture(params=[True, False], ids=['online', 'offline'])
def wandb(request, monkeypatch):
    module = Wandb(request.param)
    monkeypatch.setitem(sys.modules, 'wandb', module)
    return module


def opened(folder):
    return MetricLog(folder, sinks=[sinks.Wandb(folder, 'project', {'seed': 1})])


def test_a_run_that_goes_on_writes_each_step_once(wandb, tmp_path, capsys):
    """The first process dies after step 6, with a checkpoint of step 4; the third one brings figures late."""
    pixels = np.zeros((4, 6, 1), np.uint8)
    with opened(tmp_path) as log:
        log.truncate(0)
        for step in (2, 4, 6):
            log.write(step, {'a/loss': np.float32(1 / step)})
        log.picture(6, pixels)
    with pytest.raises(KeyError), opened(tmp_path) as log:
        log.truncate(4)
        for step in (6, 8):
            log.write(step, {'a/loss': np.float32(1 / step)})
            log.picture(step, pixels)
        raise KeyError
    with opened(tmp_path) as log:
        log.truncate(8)
        log.write(8, {'evaluation/modes': 8})
        log.picture(8, pixels)
    [history] = wandb.histories.values()
    assert history == {
        2: {'a/loss': 0.5},
        4: {'a/loss': 0.25},
        6: {'a/loss': pytest.approx(1 / 6), 'samples': (4, 6, 1)},
        8: {'a/loss': 0.125, 'samples': (4, 6, 1)},
    }
    assert [run.ended for run in wandb.runs] == [0, 1, 0] and wandb.runs[2].summary == {'evaluation/modes': 8.0}
    first, *later = wandb.settings
    assert first['name'] == tmp_path.name and first['dir'] == str(tmp_path) and first['config'] == {'seed': 1}
    assert all(one['id'] == first['id'] and 'name' not in one for one in later)
    assert json.loads((tmp_path / 'wandb.json').read_text()) == {'project': first['id']}
    assert capsys.readouterr().err == ''


def test_a_new_run_gets_the_rows_that_are_there(wandb, tmp_path, capsys):
    with MetricLog(tmp_path) as log:
        for step in (2, 4, 6):
            log.write(step, {'a/loss': step, 'a/gap': float('nan')})
    with opened(tmp_path) as log:
        log.truncate(4)
        log.write(6, {'a/loss': 6, 'a/gap': 0.5})
    [history] = wandb.histories.values()
    assert history == {2: {'a/loss': 2.0}, 4: {'a/loss': 4.0}, 6: {'a/loss': 6.0, 'a/gap': 0.5}}
    assert capsys.readouterr().err == ''


def test_another_project_has_a_run_of_its_own(wandb, tmp_path):
    for project in ('one', 'two', 'one'):
        sinks.Wandb(tmp_path, project, {})
    ids = [(one['project'], one['id']) for one in wandb.settings]
    assert ids[0] == ids[2] and ids[0][1] != ids[1][1] and len({*ids}) == 2


def test_an_error_of_wandb_does_not_stop_the_run(tmp_path, monkeypatch, capsys):
    module = Wandb()
    monkeypatch.setitem(sys.modules, 'wandb', module)
    monkeypatch.setattr(Run, 'log', lambda *rest, **more: 1 / 0)
    with opened(tmp_path) as log:
        log.write(1, {'loss': 1.0})
        log.write(2, {'loss': 1.0})
    assert capsys.readouterr().err == 'genlab: warning: no wandb from here on: division by zero\n'
    assert len(read_metrics(tmp_path)) == 2 and module.runs[0].ended == 1


@pytest.mark.parametrize('module', [None, types.ModuleType('wandb')], ids=['absent', 'a folder of runs'])
def test_without_the_package_one_line(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', module)
    config = configs.defaults('gan')
    sinks.check(config)
    config.train.wandb = 'project'
    with pytest.raises(ConfigError, match=r"config.train.wandb needs the package wandb: pip install 'genlab\[wandb\]'"):
        sinks.check(config)


def test_wandb_that_does_not_start_is_one_line_and_leaves_no_id(tmp_path, monkeypatch):
    module = Wandb()
    module.init = lambda **settings: {}['api\nkey']
    monkeypatch.setitem(sys.modules, 'wandb', module)
    with pytest.raises(ConfigError, match=r"^config.train.wandb='project': wandb does not start .*WANDB_MODE=offline"):
        opened(tmp_path)
    assert not (tmp_path / 'wandb.json').exists()


def test_only_the_first_process_opens_sinks(tmp_path, monkeypatch):
    module, config = Wandb(), configs.defaults('gan')
    monkeypatch.setitem(sys.modules, 'wandb', module)
    config.train.wandb = 'project'
    names = [sink.name for sink in loop.open_sinks(config, tmp_path)]
    assert names == ['TensorBoard events', 'wandb'] and len(module.runs) == 1
    monkeypatch.setattr(jax, 'process_index', lambda: 1)
    assert loop.open_sinks(config, tmp_path) == [] and len(module.runs) == 1
