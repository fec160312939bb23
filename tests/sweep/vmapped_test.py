"""Tests that trials trained as one program end as the same trials trained one after another."""

import json

import jax
import numpy as np
import pytest

from genlab import experiment, modes
from genlab.errors import ConfigError, UserError
from genlab.run import restarts
from genlab.run.logs import read_metrics
from genlab.sweep import groups, spec, trials, vmapped
from genlab.sweep.launchers import Job, Status
from genlab.sweep.trials import Sweep, Trial
from genlab.training import parallel
from genlab.training.checkpoint import Checkpoints
from genlab.training.loop import Loop, Preempted
from genlab.training.program import make_init, programs
from support.runs import ROOT, with_sgd

CONFIG = str(ROOT / 'configs/gan.py')
TINY = [
    '--config.train.steps=8', '--config.train.steps_per_call=2', '--config.train.log_every=4',
    '--config.checkpoint.every=4', '--config.train.sample_every=0', '--config.train.evaluate_every=0',
    '--config.data.batch_size=8', '--config.model.networks.features=(4,)', '--config.model.latent_size=2',
    '--config.sample.count=4', '--config.sample.chunk=4',
]  # fmt: skip
RATE, WEIGHT = 'optimizer.generator.learning_rate', 'losses.discriminator.r1'
TRIALS = {
    'a': {'seed': 0, RATE: 0.1, WEIGHT: 1.0},
    'b': {'seed': 1, RATE: 0.3, WEIGHT: 0.1},
    'bad': {'seed': 2, RATE: 1e38, WEIGHT: 1.0},
}


def config_of(overrides):
    config = with_sgd(spec.base_config(CONFIG, TINY))
    spec.applied(config, overrides)
    return config


@pytest.fixture(scope='module')
def sweep(tmp_path_factory):
    """Trains the trials as one program, stopped once in the middle; returns the folder and the error at the end."""
    folder = tmp_path_factory.mktemp('sweep')
    configs = {name: config_of(overrides) for name, overrides in TRIALS.items()}
    build, due = experiment.load('gan'), Loop.due

    def stop(loop, every):
        loop.stop.asked = loop.step == 4
        return due(loop, every)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, 'due', stop)
        with pytest.raises(Preempted):
            vmapped.fit(configs, build, folder / 'vmapped' / 'group')
    assert trials.newest(folder / 'vmapped' / 'group') == 4 and trials.newest(folder / 'a') == -1
    with pytest.raises(UserError) as error:
        vmapped.fit(configs, build, folder / 'vmapped' / 'group')
    return folder, str(error.value)


def final(folder, config):
    """Returns the last checkpoint of a run, and its metrics without times."""
    placement = parallel.place('fsdp', jax.devices()[:1])
    program = programs(config, experiment.load('gan'), placement, declared=True)[0]
    with Checkpoints(folder / 'checkpoints', warn=pytest.fail, read_only=True) as checkpoints:
        step, state, _ = checkpoints.restore(parallel.template(placement, jax.eval_shape(make_init(program))))
    rows = [{name: value for name, value in row.items() if 'second' not in name} for row in read_metrics(folder)]
    return step, jax.device_get(state), rows


@pytest.mark.parametrize('name', [pytest.param('a', marks=pytest.mark.slow), 'b'])
def test_a_trial_ends_as_if_trained_alone(sweep, tmp_path, monkeypatch, name):
    folder, _ = sweep
    config = config_of(TRIALS[name])
    one = parallel.place('fsdp', jax.devices()[:1])
    monkeypatch.setattr(parallel, 'place', lambda *_, **__: one)
    modes.train(config, experiment.load('gan'), tmp_path / 'alone')
    (step, state, rows), (other_step, other, other_rows) = (
        final(folder / name, config),
        final(tmp_path / 'alone', config),
    )
    assert step == other_step == 8
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), state, other)
    assert [[*row] for row in rows] == [[*row] for row in other_rows] and len(rows) == 3
    for row, wanted in zip(rows, other_rows):
        np.testing.assert_allclose([*row.values()], [*wanted.values()], rtol=1e-4, atol=1e-5)
    files = {path.name for path in (tmp_path / 'alone').iterdir()}
    assert {path.name for path in (folder / name).iterdir()} == files | {restarts.RESTARTS}
    assert restarts.read(folder / name) == (1, 0)  # stopped once, after a save
    assert trials.complete(folder / name, Trial(name, {}, 8, False, {}))


def test_trials_differ(sweep):
    losses = {name: read_metrics(sweep[0] / name)[1]['generator/loss'] for name in 'ab'}
    assert abs(losses['a'] - losses['b']) > 1e-3


def test_a_trial_that_diverges_leaves_the_others_alone(sweep):
    folder, line = sweep
    assert line == '1 of 3 trials have failed: bad'
    stop = json.loads((folder / 'bad/nan.json').read_text())['stops']
    assert len(stop) == 1 and trials.newest(folder / 'bad') == stop[0]['step'] < 4
    step, state, rows = final(folder / 'bad', config_of(TRIALS['bad']))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)) and step == stop[0]['step']
    job = Job('group', folder / 'vmapped/group', [], tuple(TRIALS))
    ended = groups.outcomes(job, Status('failed', 'exit code 1'))
    assert [status.state for status in ended.values()] == ['done', 'done', 'failed']
    assert 'not finite at step' in ended['bad'].reason
    assert trials.newest(folder / 'vmapped/group') == 8  # the same command tries the bad one again


NUMBERS = {WEIGHT: 0.3, RATE: 1, 'average.generator': 0.5, 'seed': 2}


@pytest.fixture(scope='module')
def outlines():
    """Traces each config once for all tests."""
    known, trace = {}, vmapped.outlines

    def traced(config):
        key = str(config)
        if key not in known:
            known[key] = trace(config)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vmapped, 'outlines', traced)
        yield


@pytest.mark.parametrize(
    'overrides, line',
    [
        ({'model.latent_size': 3, RATE: 1}, r'--vmap: config.model.latent_size=3 changes the program'),
        ({WEIGHT: 0.0}, r'config.losses.discriminator.r1=0.0 changes'),  # the term is no longer computed
        ({'train.microbatches': 2}, 'share config.train.microbatches'),
    ],
)
def test_other_programs_are_refused_and_numbers_of_any_name_are_not(outlines, overrides, line):
    vmapped.check(config_of, [{}, {'seed': 5}, NUMBERS])
    with pytest.raises(ConfigError, match=line):
        vmapped.check(config_of, [{}, NUMBERS, overrides])


def test_groups_that_have_begun_stay(tmp_path):
    found = [Trial(name, {'seed': number}, 8, False, {}) for number, name in enumerate('abcdefg')]
    ids = lambda left, size=3: [[trial.id for trial in group] for group in groups.plan(tmp_path, found, left, size)]
    assert ids(found) == [['a', 'b', 'c'], ['d', 'e', 'f'], ['g']]
    assert ids(found, 1) == [[name] for name in 'abcdefg']
    (tmp_path / 'a/checkpoints/4').mkdir(parents=True)
    assert ids(found) == [['b', 'c', 'd'], ['e', 'f', 'g'], ['a']]  # it goes on alone
    job = groups.job(Sweep('configs/gan.py', 'seed', [], tmp_path), found[1:4])
    groups.note(job)
    assert ids(found[3:]) == [['d', 'e', 'f'], ['g']]  # no checkpoint yet
    (job.folder / 'checkpoints/4').mkdir(parents=True)
    assert ids(found[3:]) == [['b', 'c', 'd'], ['e', 'f', 'g']]
    assert ids(found[4:]) == [['e', 'f', 'g']]
    assert json.loads(job.commands[0].words[-1].partition('=')[2]) == {
        'b': {'seed': 1},
        'c': {'seed': 2},
        'd': {'seed': 3},
    }
