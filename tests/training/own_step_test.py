"""Tests an experiment with its own step in the same loop: log, resume, on_nan, placements, evaluation."""

import json

import jax
import numpy as np
import pytest

from genlab import data, experiment, modes
from genlab.config import small
from genlab.errors import ConfigError, UserError
from genlab.run.logs import MetricLog, read_metrics
from genlab.training import loop
from support import running_mean
from support.runs import Trained


def go(config, folder):
    modes.train(config, experiment.load(config.experiment), folder)


def means(folder):
    return {row['step']: row['model/mean'] for row in read_metrics(folder) if 'model/mean' in row}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    config = running_mean.get_config()
    config.train.evaluate_every = 'end'
    go(config, folder)
    return folder


def test_it_logs_samples_evaluates_and_reports(whole):
    assert sorted(means(whole)) == [2, 4, 6, 8, 10, 12]
    assert (whole / 'samples/12.png').exists() and (whole / 'report.html').exists()
    assert np.isfinite(json.loads((whole / 'evaluation.json').read_text())['figures']['nll_bound'])


def test_it_resumes_with_the_same_curve(whole, tmp_path):
    config = running_mean.get_config()
    config.train.steps = 6
    go(config, tmp_path)
    go(running_mean.get_config(), tmp_path)
    assert means(tmp_path) == means(whole)


def test_its_mean_equals_the_mean_of_the_data_on_every_placement():
    config = small(running_mean.get_config())
    source = data.load(config.data)
    rows = data.Batches(source, 8, 0)(0, 4)['image'].reshape(32, 16, 16, 1).astype(np.float64) / 127.5 - 1
    for name, devices in [('pmap', None), ('fsdp', None), ('fsdp', jax.devices()[:1])]:
        run = Trained(config, name, devices)
        moments = run.run((run.start, run.zero), 0, 2)[0].stats['gaussian']['moments']
        assert moments['count'] == 32
        np.testing.assert_allclose(moments['sum'] / 32, rows.mean(0), atol=1e-5)


def test_a_step_that_is_not_finite_stops_the_run_or_is_skipped_whole(tmp_path):
    config = running_mean.get_config()
    config.model.scale = float('inf')
    config.phases = ({'until': 6, 'model.scale': 1.0}, {'until': 8}, {'model.scale': 1.0})
    with pytest.raises(UserError, match='model/mean is not finite at step 6'):
        go(config, tmp_path / 'stop')
    config.train.on_nan = 'skip'
    go(config, tmp_path / 'skip')
    assert [row['skipped'] for row in read_metrics(tmp_path / 'skip')] == [0, 0, 0, 2, 0, 0]
    state = modes.restore(config, experiment.load(config.experiment), tmp_path / 'skip')[1]
    assert int(state.step) == 12 and state.stats['gaussian']['moments']['count'] == 10 * 8


def test_a_state_that_is_not_finite_is_not_saved(tmp_path, monkeypatch):
    """No metric shows the fault, and a checkpoint is due after each step. The stop is in the folder of the run."""
    line = r"state.params\['net'\] is not finite at step 7; the last good checkpoint is step 6: continue in the same"
    config = running_mean.get_config()
    config.checkpoint.update(every=1, keep=1)
    monkeypatch.setattr(loop, 'not_finite', lambda state: [".params['net']"] if state.step == 7 else [])
    with pytest.raises(UserError, match=line):
        go(config, tmp_path)
    assert [path.name for path in (tmp_path / 'checkpoints').glob('[0-9]*')] == ['6']
    (stop,) = json.loads((tmp_path / 'nan.json').read_text())['stops']
    assert stop == {'step': 7, 'reason': "state.params['net'] is not finite at step 7"}
    config.seed = 1  # only rates and clipping may change
    with pytest.raises(ConfigError, match=r'another config \(different seed\)'):
        go(config, tmp_path)


def test_skipping_every_step_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, 'SKIPS', 4)
    config = running_mean.get_config()
    config.model.scale = float('inf')
    config.train.on_nan = 'skip'
    with pytest.raises(
        UserError, match='each of the last 4 steps skipped an update that was not finite; no checkpoint'
    ):
        go(config, tmp_path)
    assert [row['skipped'] for row in read_metrics(tmp_path)] == [2, 2]


def test_a_log_that_cannot_be_written_ends_the_run_after_a_checkpoint(whole, tmp_path, monkeypatch, capsys):
    """No step is lost: the sums of the failed line are in the checkpoint, and the next line has them."""
    write = MetricLog.write

    def full(log, step, metrics):
        if step == 6:
            raise OSError(28, 'No space left on device')
        write(log, step, metrics)

    monkeypatch.setattr(MetricLog, 'write', full)
    with pytest.raises(
        UserError, match=r'metrics.jsonl cannot be written \(No space left on device\); stopped, step 6'
    ):
        go(running_mean.get_config(), tmp_path)
    monkeypatch.undo()
    (tmp_path / 'metrics.jsonl').unlink()
    go(running_mean.get_config(), tmp_path)
    assert 'metrics.jsonl is missing: the curve begins at step 6' in capsys.readouterr().err
    found, expected = means(tmp_path), means(whole)
    assert sorted(found) == [8, 10, 12] and found[10] == expected[10]
    assert found[8] == pytest.approx((expected[6] + expected[8]) / 2)
