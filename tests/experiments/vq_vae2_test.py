"""Tests the autoencoder with two grids: the known size, its codes, and which networks see what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vq_vae2
from genlab import experiment
from genlab.config import small
from genlab.models import hierarchical_quantized
from genlab.run.describe import describe, totals

build = experiment.load('vq_vae2')


@pytest.fixture(scope='module')
def begun():
    """Returns (model, state before the first step with nonzero parameters, a batch, its codes)."""
    config, noise = small(vq_vae2.get_config()), np.random.default_rng(0)
    config.model.networks.width = 4
    config.model.quantizer.update(entries=6, latent_size=2, decay=0.0)
    config.model.variance = 0.4
    config.losses.vae.codebook = 1.0
    batch = {'x': jax.random.uniform(jax.random.key(0), (8, 16, 16, 1), minval=-1), 'position': jnp.arange(8)}
    model = build(config)
    shapes = jax.eval_shape(model.init, batch, jax.random.key(0))
    rough = lambda leaf: jnp.array(noise.normal(size=leaf.shape), leaf.dtype)
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    state = state.replace(params=jax.tree.map(rough, shapes.params))
    return config, model, state, batch, model.codec.encode(state.variables(), batch)


def test_the_known_size():
    counts = totals(describe(vq_vae2.get_config('faces'), build))
    assert sum(counts.values()) == 1_388_867 and counts['top_quantizer'] == counts['bottom_quantizer'] == 0


def test_codes_are_two_grids_that_decode_to_the_reconstruction(begun):
    config, model, state, batch, codes = begun
    variables = state.variables()
    fields = hierarchical_quantized.tokenizer_fields(hierarchical_quantized.from_config(config))
    assert jax.tree.map(lambda grid: grid.shape[1:], codes) == fields['shapes'] == {'top': (2, 2), 'bottom': (4, 4)}
    assert fields['entries'] == {'top': 6, 'bottom': 6} and {*fields['names']} == {*variables}
    assert all(grid.dtype == jnp.int32 and len(np.unique(grid)) > 1 for grid in codes.values())
    output = model.reconstruct(variables, batch, None)['output']
    np.testing.assert_allclose(model.codec.decode(variables, codes), output, atol=1e-4)
    for level in codes:  # both grids matter
        other = {**codes, level: (codes[level] + 1) % 6}
        assert np.abs(model.codec.decode(variables, other) - output).max() > 1e-3


def test_the_bottom_codes_depend_on_the_top_codes(begun):
    config, model, state, batch, codes = begun
    variables = state.variables()
    entries = variables['top_quantizer']['params']['entries']
    shifted = {**variables, 'top_quantizer': {**variables['top_quantizer'], 'params': {'entries': entries + 3}}}
    moved = model.codec.encode(shifted, batch)
    assert (moved['bottom'] != codes['bottom']).any()


def test_a_step_trains_both_levels_and_its_terms_are_sums_over_them(begun):
    config, model, state, batch, codes = begun
    after, metrics = jax.jit(model.step)(state, jax.tree.map(lambda leaf: leaf[None], batch), jax.random.key(1))
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), state.params, after.params)
    assert all(any(jax.tree.leaves(tree)) for tree in moved.values())
    for level in ('top', 'bottom'):
        share = np.bincount(codes[level].ravel(), minlength=6) / codes[level].size
        entropy = -sum(p * np.log(p) for p in share if p)
        np.testing.assert_allclose(metrics[f'vae/{level}_perplexity'], np.exp(entropy), rtol=1e-4)
    relative = model.measure(state.variables(), batch, None)['relative_error'].mean()
    np.testing.assert_allclose(metrics['vae/reconstruction'], relative, rtol=1e-4)
    np.testing.assert_allclose(metrics['vae/commitment'], metrics['vae/codebook'], rtol=1e-5)
    loss = metrics['vae/reconstruction'] + 0.25 * metrics['vae/commitment'] + metrics['vae/codebook']
    np.testing.assert_allclose(metrics['vae/loss'], loss, rtol=1e-5)
