"""Tests pix2pix: what the networks see, its terms against direct computations, its noise, and its published sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import pix2pix as config_file
from genlab import experiment
from genlab.errors import ConfigError
from genlab.losses.adversarial import PAIRS
from genlab.models import translation
from genlab.training.state import initialize

CLASSES = 3
KEYS = jax.random.split(jax.random.key(0), 2)
NOISE = np.random.default_rng(0)
BATCH = {
    'segmentation': NOISE.integers(0, CLASSES, (2, 4, 4, 1)).astype(np.int32),
    'x': NOISE.uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32),
}


class Colours(nn.Module):
    """Paints each class in a colour, with a brightness of each key."""

    @nn.compact
    def __call__(self, images, train, keys=None):
        colours = self.param('colours', lambda key: jnp.asarray([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]]))
        bright = 1.0 if keys is None else jax.vmap(jax.random.uniform)(keys)[:, None, None, None]
        return images @ colours * bright


class Sum(nn.Module):
    """Takes weighted sums of the channels of pixels as logits of patches."""

    @nn.compact
    def __call__(self, images, train):
        return images @ self.param('weights', lambda key: jnp.arange(6) / 3 - 1)


MODEL = translation.Translator(Colours(), Sum(), PAIRS['non_saturating'], 'segmentation', CLASSES)
VARIABLES = lambda: initialize(translation.networks(MODEL, BATCH), jax.random.key(0))


def test_terms_agree_with_a_direct_computation():
    """A map of classes enters both networks as one channel per class, beside the image for the discriminator."""
    variables = VARIABLES()
    fake = np.asarray(translation.sample(MODEL, variables, KEYS, {'segmentation': BATCH['segmentation']}))
    colours, weights = variables['generator']['params']['colours'], variables['discriminator']['params']['weights']
    bright = np.asarray(jax.vmap(jax.random.uniform)(KEYS))
    assert bright[0] != bright[1]
    given = np.eye(CLASSES, dtype=np.float32)[BATCH['segmentation'][..., 0]]
    np.testing.assert_allclose(fake, given @ np.asarray(colours) * bright[:, None, None, None], rtol=1e-5)

    def logits(image):
        return np.concatenate([given, image], -1) @ np.asarray(weights)

    softplus, mean = lambda x: np.logaddexp(0, x), lambda x: x.mean((1, 2))
    terms, _ = translation.discriminator_terms(MODEL, variables, BATCH, KEYS, 0)
    expected = mean(softplus(-logits(BATCH['x']))) + mean(softplus(logits(fake)))
    np.testing.assert_allclose(terms['adversarial'], expected, rtol=1e-5)
    np.testing.assert_allclose(terms['logit_gap'], mean(logits(BATCH['x']) - logits(fake)), rtol=1e-4, atol=1e-6)
    terms, _ = translation.generator_terms(MODEL, variables, BATCH, KEYS, 0)
    np.testing.assert_allclose(terms['adversarial'](), mean(softplus(-logits(fake))), rtol=1e-5)
    error = np.abs(fake - BATCH['x']).mean((1, 2, 3))
    np.testing.assert_allclose(terms['l1'], error, rtol=1e-5)
    np.testing.assert_allclose(translation.measure(MODEL, variables, BATCH, KEYS)['l1'], error, rtol=1e-5)


def test_images_are_taken_as_they_are():
    image = jnp.full((1, 2, 2, 3), 0.5)
    assert translation.channels(image, 9) is image


def test_an_input_that_the_data_lack_is_refused():
    with pytest.raises(
        ConfigError, match="input='edges': the data have segmentation: choose one, or name it in config"
    ):
        translation.input_of('edges', BATCH)
    with pytest.raises(
        ConfigError, match=r"input='label' has the shape \(\), and the target \(4, 4, 3\): choose a field"
    ):
        translation.input_of('label', BATCH | {'label': np.zeros(2, np.int32)})


def test_the_published_sizes():
    config = config_file.get_config('facades')
    with config.ignore_type():
        config.model.map_classes = 0
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    state = jax.eval_shape(experiment.load('translation')(config).init, {'x': image, 'input': image}, jax.random.key(0))
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in state.params.items()}
    assert sizes == {'generator': 54_413_955, 'discriminator': 2_768_705}
