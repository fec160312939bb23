"""Tests latent diffusion: trained and frozen networks, the scale of codes, conditions, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from genlab import conditioning, data, experiment
from genlab.choices import named
from genlab.config import small
from genlab.diffusion import conditions
from genlab.errors import ConfigError
from genlab.models import diffusion, latent_diffusion, variational
from genlab.models.first_stage import FirstStage
from genlab.networks.layers.latent_scale import LatentScale
from genlab.run.describe import describe, totals
from genlab.sampling import drawing
from support.runs import FILES, module_of, resolved

CONFIGS = {path.stem: module_of(path) for path in FILES}
build = experiment.load('latent_diffusion')


def config_of(variant='scenes'):
    """Returns a config of scenes at 16x16 with classes and captions, after the first stage."""
    config = resolved(small(CONFIGS['latent_diffusion'].get_config(variant)))
    config.model.update(classes=8, scale_steps=2)
    config.model.network = named('transformer', patch=2, width=8, depth=1, heads=2)
    config.model.autoencoder.networks.update(width=4, multipliers=(1, 2))
    config.train.order = ('denoiser',)
    config.sample.steps = 2
    return config


@pytest.fixture(scope='module')
def begun():
    """Returns (config, experiment, state before the first step with nonzero parameters, a batch)."""
    config, noise = config_of(), np.random.default_rng(0)
    model, batch = build(config), drawing.examples(config)(np.arange(8))
    state = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(model.init, batch, jax.random.key(0))
    )
    rough = lambda leaf: jnp.array(0.3 * noise.normal(size=leaf.shape), jnp.float32)
    state.stats['scale']['latents']['variance'] += 1
    return config, model, state.replace(params=jax.tree.map(rough, state.params)), batch


@pytest.fixture(scope='module')
def variables(begun):
    return begun[2].variables()


def test_the_autoencoder_is_frozen_and_the_scale_is_measured_from_its_codes(begun):
    config, model, before, batch = begun
    step, state = jax.jit(model.step), before
    for _ in range(3):
        state, _ = step(state, jax.tree.map(lambda leaf: leaf[None], batch), jax.random.key(1))
    moved = {
        name: not all(map(np.array_equal, jax.tree.leaves(before.params[name]), jax.tree.leaves(state.params[name])))
        for name in before.params
    }
    assert moved == {'encoder': False, 'decoder': False, 'denoiser': True, 'text': True, 'scale': False}
    vae = config.copy_and_resolve_references()
    vae.model = ConfigDict({'dtype': 'float32', **config.model.autoencoder})
    encoder = variational.from_config(vae).encoder
    apply = jax.jit(lambda variables, x: encoder.apply(variables, x, jnp.zeros((8, 0)), False))
    mean, log_variance = apply(before.variables()['encoder'], batch['x'])
    expected = np.sqrt(mean.var() + np.exp(log_variance).mean())
    latents = state.stats['scale']['latents']
    np.testing.assert_allclose(np.sqrt(latents['variance']), expected, rtol=0.06)
    assert latents['count'] == 2  # measured in the first two of three steps


def test_codes_are_divided_by_their_deviation_and_multiplied_again():
    """Checks codes of mean 0 and deviation 3; the scale of training includes the batch."""
    first = FirstStage(
        (2, 1, 1), lambda variables, batch, keys: batch['x'], lambda variables, codes: codes, *[None] * 4, ()
    )
    space = latent_diffusion.scaled(first, LatentScale(10))
    latents = {'count': jnp.array(1), 'mean': jnp.array(0.0), 'variance': jnp.array(9.0)}
    variables, batch = {'scale': {'latents': latents}}, {'x': jnp.array([-1.0, 1.0]).reshape(1, 2, 1, 1)}
    x, collections = space.enter(variables, batch, None, False)
    np.testing.assert_allclose(x, batch['x'] / 3, rtol=1e-6)
    assert collections == {}
    np.testing.assert_allclose(space.leave(variables, x), batch['x'], rtol=1e-6)
    x, collections = space.enter(variables, batch, None, True)
    np.testing.assert_allclose(x, batch['x'] / np.sqrt(5), rtol=1e-6)  # the mean variance of 9 and 1
    assert set(space.updates) == {*collections} and collections['scale']['latents']['count'] == 2


def test_words_and_classes_change_the_output_and_padding_does_not(begun, variables):
    _, model, _, batch = begun
    keys = jax.random.split(jax.random.key(2), 8)
    error = jax.jit(lambda variables, batch: model.measure(variables, batch, keys)['epsilon_error'])
    whole = error(variables, batch)
    for field, value in (('caption', batch['caption'].at[:, 1].set(15)), ('label', (batch['label'] + 1) % 8)):
        assert not np.isclose(error(variables, {**batch, field: value}), whole, rtol=1e-5).all()
    text = variables['text']['params']
    padding = {**text, 'words': {'embedding': text['words']['embedding'].at[0].mul(-3.0)}}
    np.testing.assert_allclose(error({**variables, 'text': {'params': padding}}, batch), whole, rtol=1e-5)


def test_a_dropped_condition_is_the_null_condition(begun, variables):
    config, _, _, batch = begun

    @jax.jit
    def embed(variables, given):
        return conditions.embed(config.model, variables, given), conditions.null(config.model, variables, 8)

    embedded, null = embed(variables, {'label': batch['label'], 'caption': batch['caption']})
    dropped = conditions.without(config.model, embedded)
    np.testing.assert_array_equal(dropped['labels'], null['labels'])
    np.testing.assert_array_equal(dropped['context_mask'], null['context_mask'])
    np.testing.assert_array_equal(dropped['context'][:, 0], null['context'][:, 0])  # the only token that the mask keeps


def test_samples_are_decoded_codes(begun, variables):
    _, model, _, batch = begun
    keys = jax.random.split(jax.random.key(3), 2)
    random = conditioning.random(model.conditions, keys, batch['caption'].shape[1])
    codes, samples = jax.jit(
        lambda variables: (model.codec.prior(variables, keys), model.sampler.sample(variables, keys, random))
    )(variables)
    assert codes.shape == (2, 8 * 8 * 4) and samples.shape == (2, 16, 16, 3)
    np.testing.assert_allclose(jax.jit(model.codec.decode)(variables, codes), samples, atol=1e-5)


def test_codes_of_a_quantised_autoencoder_are_those_before_quantisation():
    """Checks that the codebook belongs to the decoder and is frozen with it."""
    config, noise = config_of('vq'), np.random.default_rng(0)
    model, batch = build(config), {'x': jnp.ones((2, 16, 16, 1)), 'label': jnp.arange(2), 'position': jnp.arange(2)}
    shapes = jax.eval_shape(model.init, batch, jax.random.key(0))
    state = jax.tree.map(lambda leaf: jnp.array(noise.normal(size=leaf.shape), leaf.dtype), shapes)
    _, metrics = jax.eval_shape(model.step, state, jax.tree.map(lambda leaf: leaf[None], batch), jax.random.key(1))
    assert 'denoiser/epsilon' in metrics and not any(name.startswith('vae') for name in metrics)
    assert {*state.stats['quantizer']['codebook']} == {
        'entries',
        'count',
        'sum',
        'steps',
        'idle',
    } and model.codec.entries == 0
    variables = state.variables()
    encode = lambda variables, batch: (model.codec.encode(variables, batch), model.reconstruct(variables, batch, None))
    codes, made = jax.jit(encode)(variables, batch)
    assert codes.shape == (2, 8 * 8 * 4) and codes.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(model.codec.decode)(variables, codes), made['output'], atol=1e-4)


def test_a_position_is_known_where_all_of_its_pixels_are():
    mask = jnp.ones((1, 8, 8, 1)).at[0, 3, 4, 0].set(0)
    np.testing.assert_array_equal(np.argwhere(diffusion.coarse_mask(mask, (4, 4, 3)) == 0), [[0, 1, 2, 0]])
    np.testing.assert_array_equal(diffusion.coarse_mask(mask, (8, 8, 1)), mask)


def test_dit_s2_over_kl_f8():
    config = CONFIGS['dit'].get_config('s2')
    counts = totals(describe(config, build))
    assert counts['denoiser'] == 32_963_360 and counts['encoder'] + counts['decoder'] == 83_653_863


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda config: config.model.update(first_stage='runs/vae'), 'exclude each other'),
        (lambda config: config.model.autoencoder.networks.update(name='dense'), 'codes lie on a grid'),
        (lambda config: config.model.update(bound=named('discrete')), "bound='discrete' is for 8-bit levels"),
    ],
)
def test_incompatible_settings_are_refused(change, message):
    config = config_of()
    change(config)
    with pytest.raises(ConfigError, match=message):
        build(config)


def test_words_need_captions():
    config = config_of('')
    config.model.words = 38
    batch = data.load(config.data).rows(np.arange(2))
    with pytest.raises(ConfigError, match="set config.data.fields=\\('caption',\\)"):
        jax.eval_shape(build(config).init, {**batch, 'x': jnp.zeros((2, 16, 16, 1))}, jax.random.key(0))
