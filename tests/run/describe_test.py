"""Tests `describe`: exact totals of the papers, every parameter in one row, and no allocation."""

import pathlib
import time

import jax.numpy as jnp
import pytest
from flax import linen as nn

from genlab import config as configs
from genlab import experiment
from genlab.errors import ConfigError
from genlab.experiment import Experiment
from genlab.main import read
from genlab.run import describe as description
from genlab.training.optimizers import adam
from genlab.training.state import Network, create, initialize

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


def described(name, **model):
    config = read(str(CONFIGS / name))
    config.model.networks.update(model)
    return description.describe(config, experiment.load(config.experiment))


@pytest.fixture(scope='module')
def paper():
    return described('dcgan.py:paper64')


def test_the_totals_of_dcgan_agree_with_the_paper(paper):
    assert description.totals(paper) == {'generator': 3_576_704, 'discriminator': 2_765_568}


def test_the_modules_of_dcgan_have_their_outputs_and_parameters(paper):
    for network in paper.values():
        assert sum(module['parameters'] for module in network['modules']) == network['parameters']
    rows = {module['path']: module for module in paper['generator']['modules']}
    assert rows['generator/ConvTranspose_0'] == {
        'path': 'generator/ConvTranspose_0',
        'type': 'ConvTranspose',
        'output': [64, 4, 4, 512],
        'parameters': 100 * 512 * 16,
    }
    assert rows['generator/BatchNorm_1']['parameters'] == 2 * 256  # statistics are not parameters
    assert len(rows) == 9


def test_the_table_has_every_module_and_the_sums(paper):
    lines = [line.split() for line in description.table(paper).splitlines()]
    assert ['generator/ConvTranspose_4', 'ConvTranspose', '64x64x3', '3,072'] in lines
    assert ['generator', 'total', '3,576,704'] in lines
    assert description.table(paper).endswith('6,342,272 parameters in 2 networks')


def test_nothing_is_allocated():
    began = time.perf_counter()
    huge = described('dcgan.py:paper64', width=2**16)  # terabytes
    assert description.totals(huge)['generator'] > 10**12
    assert time.perf_counter() - began < 20


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(x.shape[-1], name='dense')(x) * self.param('scale', nn.initializers.ones, (2,)).sum()


class Codec(nn.Module):
    """Has parameters of every kind: its own, nested, shared, recomputed, constant, and of an unused module."""

    def setup(self):
        self.first, self.second, self.book = nn.remat(Inner)(), nn.Dense(5), Book()
        self.own = self.param('own', nn.initializers.zeros, (7,))
        self.table = self.variable('constants', 'table', jnp.zeros, (6,))
        self.seen = self.variable('batch_stats', 'seen', jnp.zeros, (8,))  # statistics are not parameters

    def __call__(self, x):
        return self.second(self.first(self.first(x))) + self.book.look().sum() + self.own.sum()


class Book(nn.Module):
    def setup(self):
        self.codes = self.param('codes', nn.initializers.zeros, (4, 3))

    def look(self):
        return self.codes


def test_every_parameter_is_in_one_row_and_rows_follow_the_order_of_calls():
    config = configs.defaults('x')
    config.data.update(source='toy', name='ring', observe='point')
    config.losses.model, config.optimizer.model = dict(fit=1.0), adam(1e-3)

    def build(config, axis=None):
        def init(batch, key):
            return create(initialize({'codec': Network(Codec(), (jnp.zeros((2, 3)),))}, key), {})

        return Experiment(init, None, None)

    codec = description.describe(config, build)['codec']
    rows = [(module['path'], module['type'], module['parameters']) for module in codec['modules']]
    assert rows == [
        ('codec/first', 'Inner', 2),
        ('codec/first/dense', 'Dense', 12),
        ('codec/second', 'Dense', 20),
        ('codec', 'own', 7 + 6),
        ('codec/book', 'own', 12),
    ]
    assert sum(parameters for _, _, parameters in rows) == codec['parameters'] == 59


def test_a_size_that_a_network_refuses_is_an_error_of_the_config():
    config = read(str(CONFIGS / 'dcgan.py'))
    config.data.resolution = 30
    with pytest.raises(ConfigError, match='needs a resolution that is a power of two of at least 16, not 30'):
        description.describe(config, experiment.load(config.experiment))
