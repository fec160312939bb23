import itertools

import jax
import numpy as np
import pytest

from genlab import config as configs
from genlab.autoregressive import tokens
from genlab.choices import named
from genlab.errors import ConfigError
from genlab.models import autoregressive, priors
from genlab.networks.autoregressive.gated_pixelcnn import GatedPixelCNN


@pytest.fixture(scope='module')
def images():
    """All binary images of 2x4 pixels, [256, 2, 4, 1]."""
    return np.array([*itertools.product((-1, 1), repeat=8)], np.float32).reshape(256, 2, 4, 1)


@pytest.mark.parametrize('patch', [(1, 1), (2, 2), (1, 4), (2, 4)])
def test_images_and_tokens_of_their_patches_are_one_to_one(images, patch):
    rows, columns = patch
    found = tokens.patches((2 // rows, 4 // columns), patch)
    values = found.enter(images)
    assert values.shape == (256, 2 // rows, 4 // columns) and found.entries == 2 ** (rows * columns)
    assert values.min() >= 0 and values.max() == found.entries - 1
    assert len(np.unique(values.reshape(256, -1), axis=0)) == 256
    np.testing.assert_array_equal(found.leave(values), images)


def config_of(patch, **data):
    config = configs.defaults('prior')
    config.data.update({'source': 'digits', 'resolution': 4, 'channels': 1, 'binarise': True, **data})
    config.model.update(autoregressive.settings(named('gated_pixelcnn', width=4, layers=2), patch=patch))
    config.sample.update(autoregressive.sampling())
    return config


def test_the_probabilities_of_all_images_sum_to_one(images):
    network = GatedPixelCNN((1, 2), 16, width=4, layers=2, output_width=8)
    model = autoregressive.Autoregressive(network, autoregressive.categorical(tokens.patches((1, 2), (2, 2))))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), np.zeros((1, 1, 2), np.int32), False))
    random = np.random.RandomState(0)
    variables = {'network': jax.tree.map(lambda leaf: random.randn(*leaf.shape).astype(np.float32), shapes)}
    keys = jax.random.split(jax.random.key(0), len(images))
    nll = jax.jit(lambda x: autoregressive.measure(model, variables, {'x': x}, keys))(images)['nll']
    assert np.exp(-nll).sum() == pytest.approx(1, abs=1e-5) and np.ptp(nll) > 1


@pytest.mark.parametrize('patch, data', [((2, 3), {}), ((4, 4), {}), ((0, 1), {}), ((2, 2), {'binarise': False})])
def test_patches_that_do_not_fit_are_refused(patch, data):
    with pytest.raises(ConfigError, match='config.model.patch='):
        priors.from_config(config_of(patch, **data))
