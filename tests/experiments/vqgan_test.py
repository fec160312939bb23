"""Tests VQGAN: its published size, the balance of its gradients, its players, and its perceptual network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vqgan as config_file
from genlab import experiment
from genlab.config import small
from genlab.errors import ConfigError
from genlab.evaluation.features import classifier
from genlab.losses.perceptual import feature_distance
from genlab.models import quantized, vqgan
from genlab.run.describe import describe, totals
from genlab.training import parallel

build = experiment.load('vqgan')
BATCH = {'x': np.random.RandomState(0).uniform(-1, 1, (4, 16, 16, 1)).astype(np.float32), 'position': np.arange(4)}


def config_of():
    config = small(config_file.get_config())
    config.model.networks.width = 4
    config.model.quantizer.update(entries=6, latent_size=2)
    config.model.perceptual.classes = 3
    config.model.variance = 0.4
    config.losses.vae.adversarial = 2.0
    config.losses.discriminator.adversarial = 1.0
    config.train.order = ('vae', 'discriminator')
    return config


@pytest.fixture(scope='module')
def begun():
    """Returns (config, experiment, state before the first step with nonzero parameters)."""
    config, noise = config_of(), np.random.default_rng(0)
    model = build(config)
    shapes = jax.eval_shape(model.init, BATCH, jax.random.key(0))
    rough = lambda leaf: jnp.array(0.3 * noise.normal(size=leaf.shape), leaf.dtype)
    stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes.stats)
    stats['quantizer']['codebook']['entries'] = rough(shapes.stats['quantizer']['codebook']['entries'])
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return config, model, zero.replace(params=jax.tree.map(rough, shapes.params), stats=stats)


@pytest.fixture(scope='module')
def stepped(begun):
    """Returns (state, metrics) after a step, in which the autoencoder moves first."""
    _, model, state = begun
    return jax.jit(model.step)(state, jax.tree.map(lambda leaf: leaf[None], BATCH), jax.random.key(1))


def test_the_published_size():
    counts = totals(describe(config_file.get_config('f16'), build))
    assert counts['encoder'] + counts['decoder'] + counts['quantizer'] == 72_141_699
    assert counts['quantizer'] == 1024 * 256 and counts['discriminator'] == 2_765_633


def test_the_adaptive_weight_is_the_ratio_of_gradients_at_the_last_layer(begun, stepped):
    """Compares with gradients of all parameters of the decoder, of which the last kernel's are kept."""
    config, _, state = begun
    model, x = vqgan.from_config(config, None, classifier.Network(3)), jnp.asarray(BATCH['x'])

    @jax.jit
    def expected(variables):
        codes = quantized.infer(model.vqvae, variables, BATCH)[1].codes
        decode = lambda params: model.vqvae.decoder.apply({'params': params}, codes, train=True)

        def errors(params):
            output = decode(params)
            distance = feature_distance(vqgan.maps(model, variables, output), vqgan.maps(model, variables, x))
            return jnp.abs(output - x).mean() + distance.mean()

        def fool(params):
            losses = vqgan.generator_loss(model, variables, x, decode(params))
            assert losses.shape == (4,)
            return losses.mean()

        params = variables['decoder']['params']
        norms = [jnp.linalg.norm(jax.grad(loss)(params)['output']['kernel']) for loss in (errors, fool)]
        return norms[0] / (norms[1] + 1e-4), fool(params)

    weight, loss = expected(state.variables())
    _, metrics = stepped
    np.testing.assert_allclose(metrics['vae/adaptive_weight'], weight, rtol=1e-3)
    np.testing.assert_allclose(metrics['vae/adversarial'], weight * loss, rtol=1e-3)


def test_each_player_moves_its_own_networks(begun, stepped):
    state, (after, metrics) = begun[2], stepped
    moved = jax.tree.map(lambda old, new: bool(np.any(old != new)), *jax.device_get((state, after)))
    assert {name for name, tree in moved.params.items() if any(jax.tree.leaves(tree))} == {
        'encoder',
        'decoder',
        'discriminator',
    }
    assert {'vae/perceptual', 'vae/perplexity', 'discriminator/logit_gap'} <= {*metrics}
    assert any(jax.tree.leaves(moved.stats['quantizer'])) and any(jax.tree.leaves(moved.stats['discriminator']))


def test_the_classifier_of_the_data_becomes_the_perceptual_network(begun, monkeypatch):
    config, model, state = begun
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), state.params['perceptual'])
    monkeypatch.setattr(classifier, 'load', lambda data: classifier.Classifier(('a', 'b', 'c'), 1.0, params))

    class Labelled:
        fields, name = {'label': None}, 'digits'

    placement = parallel.place('pmap', jax.devices()[:1])
    started = model.start(state, Labelled, placement)
    jax.tree.map(np.testing.assert_array_equal, started.params['perceptual'], params)
    Labelled.fields = {}
    with pytest.raises(ConfigError, match='perceptual=classifier needs labels, and digits has none: choose random'):
        model.start(state, Labelled, placement)


def test_an_adversarial_term_needs_an_error_to_balance_it():
    config = config_of()
    del config.losses.vae.absolute_error, config.losses.vae.perceptual
    with pytest.raises(
        ConfigError, match='is balanced with the errors of the .* give a weight to one of reconstruction, abs'
    ):
        build(config)
