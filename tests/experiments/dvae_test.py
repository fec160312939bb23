"""Tests the discrete VAE: its published size, the relaxation of its codes, its schedules and its terms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import dvae
from genlab import experiment
from genlab.config import ramp, small
from genlab.errors import ConfigError
from genlab.models import discrete
from genlab.run.describe import describe, totals
from genlab.training.players import example_keys

build = experiment.load('dvae')


@pytest.fixture(scope='module')
def begun():
    """Returns (config, model, variables with nonzero parameters, a batch)."""
    config, noise = small(dvae.get_config()), np.random.default_rng(0)
    config.model.networks.update(groups=2, start=4)
    config.model.quantizer.entries = 6
    batch = {'x': jax.random.uniform(jax.random.key(0), (4, 16, 16, 1), minval=-1), 'position': jnp.arange(4)}
    vae = discrete.from_config(config)
    shapes = jax.eval_shape(build(config).init, batch, jax.random.key(0)).params
    rough = lambda leaf: jnp.array(0.3 * noise.normal(size=leaf.shape), leaf.dtype)
    return config, vae, {name: {'params': tree} for name, tree in jax.tree.map(rough, shapes).items()}, batch


def test_the_published_size():
    counts = totals(describe(dvae.get_config('dalle'), build))
    assert counts == {'encoder': 53_786_240, 'decoder': 43_829_766}


def test_the_relaxation_is_a_draw_of_the_categorical_distribution_as_the_temperature_falls():
    logits = jnp.log(jnp.array([0.5, 0.3, 0.2]))
    keys = jax.random.split(jax.random.key(0), 4000)
    weights = discrete.relax(jnp.broadcast_to(logits, (4000, 3)), keys, 1e-3)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(weights.mean(0), [0.5, 0.3, 0.2], atol=4 * 0.5 / 4000**0.5)
    assert (weights.max(-1) > 0.99).mean() > 0.99
    np.testing.assert_allclose(discrete.relax(logits[None], keys[:1], 1e6), 1 / 3, rtol=1e-4)
    alone = discrete.relax(jnp.broadcast_to(logits, (2, 3)), keys[:2], 1e-3)
    np.testing.assert_allclose(alone, weights[:2], atol=1e-3)


def test_the_temperature_follows_its_ramp():
    config = small(dvae.get_config('dalle'))
    temperature = discrete.from_config(config).gumbel.temperature
    np.testing.assert_allclose(
        [temperature(step) for step in (0, 75_000, 150_000, 10**6)], [1, 17 / 32, 1 / 16, 1 / 16]
    )
    config.model.quantizer.temperature = ramp(1, 0.5, steps=-1)
    with pytest.raises(ConfigError, match='quantizer.temperature.steps=-1'):
        discrete.from_config(config)


def test_codes_are_the_most_probable_entries_and_terms_agree_with_the_measures(begun):
    """With certain posteriors, a cold relaxation is the code itself, so the terms are the measures."""
    _, vae, variables, batch = begun
    cold = vae._replace(gumbel=vae.gumbel._replace(temperature=1e-3))
    last = jax.tree.map(lambda leaf: 1e6 * leaf, variables['encoder']['params']['output'])
    certain = {**variables, 'encoder': {'params': {**variables['encoder']['params'], 'output': last}}}

    @jax.jit
    def look(variables):
        keys = example_keys(jax.random.key(1), batch['position'])
        codes = discrete.encode(cold, variables, batch)
        terms, _ = discrete.terms(cold, variables, batch, keys, jnp.zeros(()))
        return codes, discrete.decode(cold, variables, codes), terms, discrete.measure(cold, variables, batch, keys)

    codes, output, terms, measures = jax.device_get(look(certain))
    made = discrete.tokenizer(vae)
    assert codes.shape[1:] == made.shapes == (8, 8) and codes.dtype == np.int32 and made.entries == 6
    assert output.shape == batch['x'].shape and np.abs(output).max() <= 1
    error = np.square((output - batch['x']) / 2).sum((1, 2, 3))
    np.testing.assert_allclose(measures['squared_error'], error, rtol=1e-4)
    for name in ('reconstruction', 'kl'):
        np.testing.assert_allclose(terms[name], measures[name], rtol=1e-3)
    np.testing.assert_allclose(terms['kl'], 64 * np.log(6), rtol=1e-2)
    share = np.bincount(codes.ravel(), minlength=6) / codes.size
    np.testing.assert_allclose(terms['perplexity'], np.exp(-sum(p * np.log(p) for p in share if p)), rtol=1e-4)
