"""Tests an experiment with its own step in the same loop: log, resume, on_nan, placements, evaluation."""

import json

import jax
import numpy as np
import pytest

from genlab import data, experiment, modes
from genlab.config import small
from genlab.errors import UserError
from genlab.run.logs import read_metrics
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
