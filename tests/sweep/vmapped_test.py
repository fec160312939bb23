"""Tests that trials trained as one program end as the same trials trained one after another."""

import json

import jax
import numpy as np
import pytest

from genlab import experiment, modes
from genlab.errors import ConfigError
from genlab.run.logs import read_metrics
from genlab.sweep import spec, trials, vmapped
from genlab.training.checkpoint import Checkpoints
from genlab.training.loop import Loop, Preempted
from genlab.training.program import make_init, programs
from genlab.training import parallel
from support.runs import ROOT

CONFIG = str(ROOT / 'configs/gan.py')
TINY = [
    '--config.train.steps=8', '--config.train.steps_per_call=2', '--config.train.log_every=4',
    '--config.checkpoint.every=4', '--config.train.sample_every=0', '--config.train.evaluate_every=0',
    '--config.data.batch_size=8', '--config.model.networks.features=(4,)', '--config.model.latent_size=2',
    '--config.sample.count=4', '--config.sample.chunk=4',
]  # fmt: skip
RATE, WEIGHT = 'optimizer.generator.learning_rate', 'losses.discriminator.r1'
TRIALS = {
    'a': {'seed': 0, RATE: 1e-3, WEIGHT: 1.0},
    'b': {'seed': 1, RATE: 3e-3, WEIGHT: 1.0},
    'c': {'seed': 1, RATE: 3e-3, WEIGHT: 0.1},
}


def config_of(overrides):
    return spec.trial_config(CONFIG, TINY, overrides)


def final(folder, config):
    """Returns the last checkpoint of a run, and its metrics without times."""
    program = programs(config, experiment.load('gan'), parallel.place('pmap'), declared=True)[0]
    template = parallel.template(parallel.place('pmap'), jax.eval_shape(make_init(program)))
    with Checkpoints(folder / 'checkpoints', warn=pytest.fail, read_only=True) as checkpoints:
        step, state, notes = checkpoints.restore(template)
    rows = [{name: value for name, value in row.items() if 'second' not in name} for row in read_metrics(folder)]
    return step, jax.device_get(state), rows


@pytest.fixture(scope='module')
def together(tmp_path_factory):
    """Trains the trials as one program, stopped once in the middle, and one of them alone."""
    folder = tmp_path_factory.mktemp('sweep')
    configs = {name: config_of(overrides) for name, overrides in TRIALS.items()}
    build = experiment.load('gan')
    due = Loop.due
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, 'due', lambda loop, every: setattr(loop.stop, 'asked', loop.step == 4) or due(loop, every))
        with pytest.raises(Preempted):
            vmapped.fit(configs, build, folder / 'vmapped' / 'group')
    vmapped.fit(configs, build, folder / 'vmapped' / 'group')
    return folder, configs


def test_try(together, tmp_path):
    folder, configs = together
    for name in configs:
        modes.train(configs[name], experiment.load('gan'), tmp_path / name)
        a, b = final(folder / name, configs[name]), final(tmp_path / name, configs[name])
        print(a[2], b[2])
        print(jax.tree.map(lambda x, y: float(np.abs(x - y).max()), a[1], b[1]))
