"""Tests experiments from a config: players get their weights and optimizers, and wrong names are refused."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab import config as configs
from genlab import experiment
from genlab.errors import ConfigError
from genlab.experiment import Role, compose
from genlab.training.optimizers import sgd
from genlab.training.state import Network


class Offset(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + self.param('offset', nn.initializers.zeros, (2,))[None]


def config():
    config = configs.defaults('x')
    config.losses.update(first=dict(push=1.0), second=dict(push=2.0))
    config.optimizer.update(first=sgd(0.1), second=sgd(1.0))
    config.average.a = 0.9
    config.train.order = ('first', 'second', 'first')
    return config


def build(config):
    def objective(network):
        return lambda variables, batch, keys, step: (
            {'push': Offset().apply(variables[network], batch['x']).sum(-1)},
            {},
        )

    return compose(
        config,
        None,
        lambda batch: {name: Network(Offset(), (batch['x'],)) for name in 'ab'},
        {'first': Role(('a',), objective('a')), 'second': Role(('b',), objective('b'))},
        sampler='sampler',
    )


def begun(config):
    made = build(config)
    return made, made.init({'x': jnp.zeros((3, 2))}, jax.random.key(0))


def test_players_have_the_weights_and_the_optimizer_of_their_name():
    made, state = begun(config())
    assert made.batches == 2 and made.sampler == 'sampler' and made.measure is None and set(state.average) == {'a'}
    batches = {'x': np.zeros((2, 3, 2), np.float32), 'position': np.zeros((2, 3), np.int32)}
    moved, metrics = made.step(state, batches, jax.random.key(0))
    np.testing.assert_allclose(moved.params['a']['offset'], -0.2, rtol=1e-6)
    np.testing.assert_allclose(moved.params['b']['offset'], -2.0, rtol=1e-6)
    np.testing.assert_allclose(moved.average['a']['offset'], -0.18, rtol=1e-6)  # warm-up: 0.1 of the average is kept


@pytest.mark.parametrize(
    'key, value, message',
    [
        (
            'losses',
            dict(third=dict(push=1.0)),
            r'config\.losses names first, second, third; the players are first, second',
        ),
        (
            'optimizer',
            dict(third=sgd(1.0)),
            r'config\.optimizer names first, second, third; the players are first, second',
        ),
        (
            'train',
            dict(order=('first', 'secnd')),
            r'config\.train\.order names first, secnd; the players are first, second',
        ),
        ('average', dict(c=0.9), r'config\.average has c; the networks are a, b'),
    ],
)
def test_a_name_of_no_player_is_refused(key, value, message):
    wrong = config()
    wrong[key].update(value)
    with pytest.raises(ConfigError, match=message):
        begun(wrong)


def test_a_player_without_a_turn_is_allowed_but_needs_weights():
    resting = config()
    resting.train.order = ('first',)
    assert build(resting).batches == 1
    del resting.losses['second']
    with pytest.raises(ConfigError, match=r'config\.losses names first; the players are first, second'):
        build(resting)


def test_an_experiment_is_found_by_name_and_an_unknown_one_raises_with_the_list():
    from experiments import gan

    assert experiment.load('gan') is gan.build
    with pytest.raises(
        ConfigError, match=r"config\.experiment='gna': there is no experiments/gna\.py; there are .*gan"
    ):
        experiment.load('gna')


def test_a_folder_that_hides_the_experiments_is_named(tmp_path, monkeypatch):
    """Python looks into the current folder first: a package there hides that of genlab."""
    own = tmp_path / 'experiments'
    own.mkdir()
    (own / '__init__.py').touch()
    (own / 'mine.py').touch()
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition('.')[0] == 'experiments']:
            patch.delitem(sys.modules, name)
        patch.syspath_prepend(tmp_path)  # the finder of an editable installation would find them nevertheless
        patch.setattr(
            sys, 'meta_path', [one for one in sys.meta_path if 'editable' not in getattr(one, '__module__', '')]
        )
        with pytest.raises(ConfigError, match=r'there are mine; .*experiments/__init__.py hides that of genlab'):
            experiment.load('gan')
        sys.modules.pop('experiments')
    with pytest.raises(ConfigError, match='there are adversarial_autoencoder, ') as error:
        experiment.load('gam')
    assert 'hides' not in str(error.value)
