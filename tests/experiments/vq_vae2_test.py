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
    """Returns (config, model, state before the first step with nonzero parameters, a batch)."""
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
    return config, model, state.replace(params=jax.tree.map(rough, shapes.params)), batch


@pytest.fixture(scope='module')
def seen(begun):
    """Returns codes and images of the batch: codes, their images, images of other codes, and so on."""
    _, model, state, batch = begun

    @jax.jit
    def look(variables):
        codes = model.codec.encode(variables, batch)
        decode = lambda codes: model.codec.decode(variables, codes)
        entries = variables['top_quantizer']['params']['entries']
        shifted = {**variables, 'top_quantizer': {**variables['top_quantizer'], 'params': {'entries': entries + 3}}}
        return {
            'codes': codes,
            'decoded': decode(codes),
            'others': {level: decode({**codes, level: (codes[level] + 1) % 6}) for level in codes},
            'bottom_of_another_top': model.codec.encode(shifted, batch)['bottom'],
            'reconstructed': model.reconstruct(variables, batch, None)['output'],
            'measures': model.measure(variables, batch, None),
        }

    return jax.device_get(look(state.variables()))


def test_the_known_size():
    counts = totals(describe(vq_vae2.get_config('faces'), build))
    assert sum(counts.values()) == 1_388_867 and counts['top_quantizer'] == counts['bottom_quantizer'] == 0


def test_codes_are_two_grids_that_decode_to_the_reconstruction(begun, seen):
    config, _, state, _ = begun
    made = hierarchical_quantized.tokenizer(hierarchical_quantized.from_config(config))
    assert {level: grid.shape[1:] for level, grid in seen['codes'].items()} == made.shapes
    assert made.shapes == {'top': (2, 2), 'bottom': (4, 4)} and made.entries == {'top': 6, 'bottom': 6}
    assert {*made.names} == {*state.params}
    assert all(grid.dtype == np.int32 and len(np.unique(grid)) > 1 for grid in seen['codes'].values())
    np.testing.assert_allclose(seen['decoded'], seen['reconstructed'], atol=1e-4)
    for output in seen['others'].values():  # both grids matter
        assert np.abs(output - seen['decoded']).max() > 1e-3
    assert (seen['bottom_of_another_top'] != seen['codes']['bottom']).any()


def test_a_step_trains_both_levels_and_its_terms_are_sums_over_them(begun, seen):
    _, model, state, batch = begun
    after, metrics = jax.jit(model.step)(state, jax.tree.map(lambda leaf: leaf[None], batch), jax.random.key(1))
    moved = jax.tree.map(lambda old, new: bool(np.any(old != new)), *jax.device_get((state.params, after.params)))
    assert all(any(jax.tree.leaves(tree)) for tree in moved.values())
    for level, grid in seen['codes'].items():
        share = np.bincount(grid.ravel(), minlength=6) / grid.size
        entropy = -sum(p * np.log(p) for p in share if p)
        np.testing.assert_allclose(metrics[f'vae/{level}_perplexity'], np.exp(entropy), rtol=1e-4)
    np.testing.assert_allclose(metrics['vae/reconstruction'], seen['measures']['relative_error'].mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics['vae/commitment'], metrics['vae/codebook'], rtol=1e-5)
    loss = metrics['vae/reconstruction'] + 0.25 * metrics['vae/commitment'] + metrics['vae/codebook']
    np.testing.assert_allclose(metrics['vae/loss'], loss, rtol=1e-5)
