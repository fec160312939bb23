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


def test_the_published_size():
    counts = totals(describe(config_file.get_config('f16'), build))
    assert counts['encoder'] + counts['decoder'] + counts['quantizer'] == 72_141_699
    assert counts['quantizer'] == 1024 * 256 and counts['discriminator'] == 2_765_633


def test_the_adaptive_weight_is_the_ratio_of_gradients_at_the_last_layer(begun):
    """Compares with gradients of all parameters of the decoder, of which the last kernel's are kept."""
    config, _, state = begun
    model = vqgan.from_config(config, None, classifier.Network(3))
    variables, x = state.variables(), jnp.asarray(BATCH['x'])
    codes = quantized.infer(model.vqvae, variables, BATCH)[1].codes

    def norm(loss):
        def of(params):
            return loss(model.vqvae.decoder.apply({'params': params}, codes, train=True))

        return jnp.linalg.norm(jax.grad(of)(variables['decoder']['params'])['output']['kernel'])

    def errors(output):
        distance = vqgan.feature_distance(vqgan.maps(model, variables, output), vqgan.maps(model, variables, x))
        return jnp.abs(output - x).mean() + distance.mean()

    fool = lambda output: vqgan.generator_loss(model, variables, x, output).mean()
    offered, _ = vqgan.autoencoder_terms(model, variables, BATCH, None, jnp.zeros(()))
    weight = offered['adaptive_weight']()
    np.testing.assert_allclose(weight, norm(errors) / (norm(fool) + 1e-4), rtol=1e-3)
    output, _ = vqgan.decode(model, variables, codes)
    losses = vqgan.generator_loss(model, variables, x, output)
    assert losses.shape == (4,)
    np.testing.assert_allclose(offered['adversarial'](), weight * losses, rtol=1e-4, atol=1e-6)


def test_each_player_moves_its_own_networks(begun):
    _, model, state = begun
    after, metrics = jax.jit(model.step)(state, jax.tree.map(lambda leaf: leaf[None], BATCH), jax.random.key(1))
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), state.params, after.params)
    assert {name for name, tree in moved.items() if any(jax.tree.leaves(tree))} == {
        'encoder',
        'decoder',
        'discriminator',
    }
    assert {'vae/adaptive_weight', 'vae/perceptual', 'discriminator/logit_gap'} <= {*metrics}
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), state.stats, after.stats)
    assert any(jax.tree.leaves(moved['quantizer'])) and any(jax.tree.leaves(moved['discriminator']))


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
    with pytest.raises(ConfigError, match='is balanced with the errors of the .* weigh one of reconstruction, abs'):
        build(config)
