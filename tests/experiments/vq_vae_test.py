"""Tests the vector-quantised autoencoder: its published size, its codes for tools and diffusion, and its terms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import experiment
from genlab.config import small
from genlab.errors import ConfigError
from genlab.models import quantized
from genlab.run.describe import describe, totals
from genlab.training import pretrained
from support.runs import FILES, module_of

CONFIGS = {path.stem: module_of(path) for path in FILES}
build = experiment.load('vq_vae')


def config_of(variant=''):
    config = small(CONFIGS['vq_vae'].get_config(variant))
    config.model.networks.width = 4
    config.model.quantizer.update(entries=6, latent_size=2)
    config.model.variance = 0.406
    return config


@pytest.fixture(scope='module')
def begun():
    """Returns (config, experiment, state before the first step with nonzero parameters, a batch)."""
    config, noise = config_of('gradients'), np.random.default_rng(0)
    model, x = build(config), jax.random.uniform(jax.random.key(0), (8, 16, 16, 1), minval=-1)
    batch = {'x': x, 'position': jnp.arange(8)}
    state = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(model.init, batch, jax.random.key(0))
    )
    rough = lambda leaf: jnp.array(noise.normal(size=leaf.shape), jnp.float32)
    return config, model, state.replace(params=jax.tree.map(rough, state.params)), batch


def test_the_cifar10_networks_have_the_known_size():
    for variant, codebook in (('cifar10', 0), ('gradients', 64 * 16)):
        counts = totals(describe(CONFIGS['vq_vae'].get_config(variant), build))
        assert counts['quantizer'] == codebook  # moving averages are no parameters
        assert variant != 'cifar10' or (counts['encoder'], counts['decoder']) == (364_160 + 8_256, 290_307)


def test_codes_are_entries_that_decode_to_the_reconstruction(begun):
    config, model, state, batch = begun
    variables = state.variables()
    codes = model.codec.encode(variables, batch)
    assert codes.shape == (8, 4, 4) and codes.dtype == jnp.int32 and model.codec.entries == 6
    assert codes.min() >= 0 and codes.max() < 6 and len(np.unique(codes)) > 1
    made = model.reconstruct(variables, batch, None)
    np.testing.assert_allclose(model.codec.decode(variables, codes), made['output'], atol=1e-5)
    error = np.square((made['output'] - batch['x']) / 2).sum((1, 2, 3))
    measures = model.measure(variables, batch, None)
    np.testing.assert_allclose(measures['squared_error'], error, rtol=1e-4)
    np.testing.assert_allclose(measures['relative_error'], error * 4 / 256 / config.model.variance, rtol=1e-4)


def test_codes_before_quantisation_are_quantised_by_the_decoder(begun):
    config, model, state, batch = begun
    variables = state.variables()
    first = quantized.first_stage(quantized.from_config(config))
    shape, encode, decode = first[:3]
    codes = encode(variables, batch, None)
    assert codes.shape == (8, *shape) == (8, 4, 4, 2)
    np.testing.assert_allclose(decode(variables, codes), model.reconstruct(variables, batch, None)['output'], atol=1e-5)
    entries = variables['quantizer']['params']['entries'][model.codec.encode(variables, batch)]
    np.testing.assert_allclose(decode(variables, 0.9 * entries + 0.1 * codes), decode(variables, codes), atol=1e-5)


def test_the_terms_of_a_step_equal_the_measures_before_it(begun):
    _, model, state, batch = begun
    measures = model.measure(state.variables(), batch, None)
    after, metrics = jax.jit(model.step)(state, jax.tree.map(lambda leaf: leaf[None], batch), jax.random.key(1))
    for term, measure in {
        'reconstruction': 'relative_error',
        'commitment': 'commitment',
        'codebook': 'commitment',
    }.items():
        np.testing.assert_allclose(metrics[f'vae/{term}'], measures[measure].mean(), rtol=1e-4)
    usage = np.bincount(model.codec.encode(state.variables(), batch).ravel(), minlength=6) / 128
    np.testing.assert_allclose(metrics['vae/perplexity'], np.exp(-sum(p * np.log(p) for p in usage if p)), rtol=1e-4)
    assert int(after.stats['quantizer']['codebook']['steps']) == 1


def test_the_first_stage_of_latent_diffusion_matches_a_config():
    wanted = CONFIGS['latent_diffusion'].get_config('vq,frozen').model
    pretrained.expect(CONFIGS['vq_vae'].get_config('spatial'), wanted.autoencoder, '', '')
    assert wanted.first_stage == 'runs/vq_vae-spatial'  # the folder that main uses


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda config: config.model.quantizer.update(decay=0.0),
            'decay=0.0: a codebook learns by moving averages, or',
        ),
        (lambda config: config.losses.vae.update(codebook=1.0), 'decay=0.99: a codebook learns by moving averages, or'),
        (
            lambda config: config.model.networks.update(halvings=5),
            'resolution=16 cannot be halved 5 times: take a multiple of 32',
        ),
        (
            lambda config: config.model.networks.update(name='dense'),
            "networks='dense': choose one of residual, spatial",
        ),
    ],
)
def test_incompatible_settings_are_refused(change, message):
    config = config_of()
    change(config)
    with pytest.raises(ConfigError, match=message):
        build(config)
