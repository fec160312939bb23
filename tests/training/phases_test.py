"""Tests phases: data, sampling and evaluation follow them, optimizers restart, one state remains, lazy terms vary."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab import config as configs
from genlab import evaluation, experiment, modes
from genlab.abilities import Sampler
from genlab.config import lazy, ramp
from genlab.errors import ConfigError
from genlab.experiment import Role, compose
from genlab.run import images
from genlab.run.logs import read_metrics
from genlab.training import loop, program
from genlab.training.optimizers import adam, sgd
from genlab.training.state import Network


class Pyramid(nn.Module):
    """Has two levels of the mean image: level 0 makes 8 x 8 pixels; level 1 doubles them and fades in details."""

    level: int
    fade: float = 1.0

    @nn.compact
    def __call__(self):
        coarse = self.param('coarse', nn.initializers.zeros, (8, 8, 1))
        fine = self.param('fine', nn.initializers.zeros, (16, 16, 1))  # made at every level: one state tree
        if self.level == 0:
            return coarse
        return jnp.repeat(jnp.repeat(coarse, 2, 0), 2, 1) + self.fade * fine


def build(config, axis=None):
    net = Pyramid(config.model.level, config.model.fade)

    def terms(variables, batch, keys, step):
        picture = net.apply(variables['pyramid'])
        error = jnp.square(batch['x'] - picture[None]).mean((1, 2, 3))
        return {'error': error, 'size': lambda: jnp.square(picture).mean()[None] * jnp.ones(len(keys))}, {}

    def sample(variables, keys, condition):
        return net.apply(variables['pyramid'])[None] + jnp.zeros((len(keys), 1, 1, 1))

    def measure(variables, batch, keys):
        error = jnp.square(batch['x'] - net.apply(variables['pyramid'])[None])
        return {'squared_error': error.sum((1, 2, 3))}

    return compose(
        config,
        axis,
        lambda batch: {'pyramid': Network(net, ())},
        {'model': Role(('pyramid',), terms)},
        sampler=Sampler(sample),
        measure=measure,
    )


def growing(**changes):
    config = configs.defaults('growing')
    config.data.update(resolution=8, batch_size=8)
    config.model.update(level=0, fade=1.0)
    config.losses.model = dict(error=1.0)
    config.optimizer.model = adam(1e-2)
    config.average.pyramid = 0.9
    config.train.update(steps=12, log_every=2, sample_every=4, evaluate_every=6)
    config.sample.update(count=4, chunk=4)
    config.evaluate.update(count=8, parts=('held_out',))
    config.checkpoint.every = 4
    grown = {'data.resolution': 16, 'data.batch_size': 16, 'model.level': 1}
    config.phases = ({'until': 6}, {'until': 8, **grown, 'model.fade': 0.5}, {**grown, 'restart': ('model',)})
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(autouse=True)
def found(monkeypatch):
    monkeypatch.setitem(sys.modules, 'experiments.growing', sys.modules[__name__])


def go(config, folder):
    modes.train(config, experiment.load(config.experiment), folder)


def curve(folder):
    return {row['step']: row['model/loss'] for row in read_metrics(folder) if 'model/loss' in row}


def test_resolution_batch_size_samples_and_evaluation_follow_the_phase(tmp_path, monkeypatch):
    from PIL import Image

    seen, evaluate = [], evaluation.evaluate
    monkeypatch.setattr(images, 'SIDE', 1)  # pictures as large as their images
    monkeypatch.setattr(
        evaluation, 'evaluate', lambda config, *rest: seen.append(config.data.resolution) or evaluate(config, *rest)
    )
    go(growing(), tmp_path / 'whole')
    sizes = [Image.open(tmp_path / f'whole/samples/{step}.png').size[0] for step in (4, 8, 12)]
    assert sizes[0] < sizes[1] == sizes[2] and seen == [8, 16]
    drawn = modes.restore(growing(), build, tmp_path / 'whole')
    assert drawn[2].config.data.batch_size == 16 and drawn[1].params['pyramid']['coarse'].shape == (8, 8, 1)
    go(growing(**{'train.steps': 8}), tmp_path / 'cut')
    go(growing(), tmp_path / 'cut')
    assert curve(tmp_path / 'cut') == curve(tmp_path / 'whole') and len(curve(tmp_path / 'whole')) == 6


def test_an_optimizer_restarts_with_its_phase_and_not_after_a_resume(tmp_path, monkeypatch):
    counts, run = [], loop.Loop.between

    def watched(self):
        counts.append(int(jax.tree.leaves(self.state.optimizer['model'])[0]))
        run(self)

    monkeypatch.setattr(loop.Loop, 'between', watched)
    plain = {'train.sample_every': 0, 'train.evaluate_every': 0}
    go(growing(**plain, **{'train.steps': 10}), tmp_path)
    go(growing(**plain), tmp_path)
    assert counts == [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4]


def test_a_phase_that_changes_the_shape_of_the_state_is_refused(tmp_path):
    config = growing(phases=({'until': 6}, {'optimizer.model': sgd(0.1, momentum=0.9)}))
    with pytest.raises(ConfigError, match=r'config.phases\[1\]: the state (loses|gains) .optimizer'):
        go(config, tmp_path)


def lazily(**changes):
    config = growing(phases=(), **{'train.sample_every': 0, 'train.evaluate_every': 0, **changes})
    config.optimizer.model = sgd(0.1)
    config.losses.model.size = lazy(ramp(1.0, 1.0), every=4)
    return config


def test_lazy_terms_run_on_their_steps_in_a_separate_program(tmp_path, monkeypatch):
    made, make = [], program.make_call
    monkeypatch.setattr(loop, 'make_call', lambda of, due: made.append(due) or make(of, due))
    go(lazily(**{'train.log_every': 1}), tmp_path / 'one')
    term = frozenset({'model/size'})
    assert made == [(term,), (frozenset(),)]
    rows = {row['step']: row for row in read_metrics(tmp_path / 'one') if 'model/loss' in row}
    due = [step for step, row in rows.items() if 'model/size' in row]
    assert due == [1, 5, 9]
    for step, row in rows.items():
        size = 4 * row['model/size'] if step in due else 0
        np.testing.assert_allclose(row['model/loss'], row['model/error'] + size, rtol=1e-5)
    go(lazily(**{'train.steps_per_call': 4, 'train.log_every': 4}), tmp_path / 'four')
    assert made[2:] == [(term, frozenset(), frozenset(), frozenset())]
    ends = [modes.restore(lazily(), build, tmp_path / name)[1].params for name in ('one', 'four')]
    jax.tree.map(lambda one, four: np.testing.assert_allclose(one, four, rtol=1e-5, atol=1e-7), *ends)


def test_a_period_that_calls_do_not_divide_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r'losses.model.size.every=4 is not a multiple of .*steps_per_call=3'):
        go(lazily(**{'train.steps_per_call': 3}), tmp_path)
