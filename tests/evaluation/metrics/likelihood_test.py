"""Tests likelihoods of a linear Gaussian model, and bits of known densities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from genlab import data
from genlab.data.load import defaults
from genlab.evaluation.metrics import likelihood
from genlab.noise import stream

SIGMA = 0.5  # z ~ N(0, 1), x | z ~ N(z, SIGMA^2), so x ~ N(0, 1 + SIGMA^2) and z | x ~ N(x / (1 + SIGMA^2), ...)
EXACT = {'slope': np.float32(1 / (1 + SIGMA**2)), 'scale': np.float32(SIGMA / np.sqrt(1 + SIGMA**2))}
WIDE = {'slope': np.float32(0.5), 'scale': np.float32(0.8)}


def log_weight(variables, batch, keys):
    mean, scale = variables['slope'] * batch['x'][:, 0], variables['scale']
    z = mean + scale * jax.vmap(jax.random.normal)(keys)
    log_normal = jax.scipy.stats.norm.logpdf
    return log_normal(z) + log_normal(batch['x'][:, 0], z, SIGMA) - log_normal(z, mean, scale)


@pytest.fixture(scope='module')
def held_out():
    return {'x': np.linspace(-3, 3, 6, dtype=np.float32)[:, None]}, jax.random.split(jax.random.key(0), 6)


@functools.cache
def estimator(count, chunk, log_weight=log_weight):
    return jax.jit(functools.partial(likelihood.importance_weighted, log_weight, count=count, chunk=chunk))


def test_the_exact_posterior_gives_the_likelihood_with_one_latent(held_out):
    exact = scipy.stats.norm.logpdf(held_out[0]['x'][:, 0], 0, np.sqrt(1 + SIGMA**2))
    for found in estimator(7, 3)(EXACT, *held_out):
        np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_the_bounds_do_not_depend_on_the_chunk_size(held_out):
    batch, keys = held_out
    folded = jax.vmap(lambda j: stream(keys, 'importance', j))(jnp.arange(7))
    draws = np.float64(jax.jit(jax.vmap(functools.partial(log_weight, WIDE, batch)))(folded))
    for chunk in (3, 20):
        bound, elbo = estimator(7, chunk)(WIDE, *held_out)
        np.testing.assert_allclose(bound, scipy.special.logsumexp(draws, axis=0) - np.log(7), rtol=1e-5)
        np.testing.assert_allclose(elbo, draws.mean(0), rtol=1e-5)
    part = jax.tree.map(lambda leaf: leaf[2:4], held_out)
    np.testing.assert_allclose(estimator(7, 3)(WIDE, *part)[0], bound[2:4], rtol=1e-5)  # in any batch


def test_many_latents_approach_the_likelihood_and_the_mean_is_the_elbo(held_out):
    x = held_out[0]['x'][:, 0]
    exact = scipy.stats.norm.logpdf(x, 0, np.sqrt(1 + SIGMA**2))
    bound, elbo = estimator(8000, 8)(WIDE, *held_out)
    np.testing.assert_allclose(bound, exact, atol=0.05)
    mean, variance = EXACT['slope'] * x, EXACT['scale'] ** 2
    divergence = 0.5 * (
        np.log(variance / 0.64) + (0.64 + (WIDE['slope'] * x - mean) ** 2) / variance - 1
    )  # q to posterior
    np.testing.assert_allclose(elbo, exact - divergence, atol=0.2)
    assert (bound > elbo).all()


def test_memory_does_not_depend_on_the_number_of_latents(held_out):
    def bytes_of(chunk):
        compiled = estimator(8000, chunk).lower(WIDE, *held_out).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert bytes_of(8) < 8000 * 6 * 4 < bytes_of(8000)  # the log weights of all latents, float32


def test_zero_and_extreme_weights_give_no_nan(held_out):
    constant = estimator(3, 2, lambda value, batch, keys: jnp.full(len(keys), value))
    for value in (-1e30, -5000.0, 5000.0, -np.inf):
        for found in constant(value, *held_out):
            np.testing.assert_allclose(found, value, rtol=1e-5)


def test_a_uniform_density_is_eight_bits():
    log_density = np.full(3, -12 * np.log(2))  # over 12 values, each in [-1, 1)
    np.testing.assert_allclose(likelihood.bits_per_dimension(-log_density, 12, dequantised=True), 8)
    np.testing.assert_allclose(np.exp(likelihood.of_levels(log_density, 12)), 256.0**-12)
    np.testing.assert_allclose(likelihood.bits_per_dimension(12 * np.log(256), 12, dequantised=False), 8)


def test_densities_convert_to_probabilities_of_dequantised_levels():
    """Uses a density that is constant per level, so that the bound is the probability itself."""
    share = np.random.default_rng(0).dirichlet(np.ones(256))
    levels = np.arange(256, dtype=np.uint8)
    values = np.asarray(data.transforms.dequantise(levels, jax.random.key(0)))
    density = share[np.floor((values + 1) * 128).astype(int)] * 128
    np.testing.assert_allclose(np.exp(likelihood.of_levels(np.log(density), 1)), share)


def test_the_treatment_is_described():
    digits = data.load(defaults(source='digits', resolution=8), 'test')
    assert likelihood.treatment(defaults(), digits) == '8-bit levels'
    assert likelihood.treatment(defaults(binarise=True), digits) == 'binarised with new noise per epoch'
    assert likelihood.treatment(defaults(dequantise=True), digits) == 'uniformly dequantised 8-bit levels'
    ring = data.load(defaults(source='toy', name='ring', observe='point'), 'test')
    assert likelihood.treatment(defaults(observe='point'), ring) == 'points'
