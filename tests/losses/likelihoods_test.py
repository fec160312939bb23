"""Tests likelihoods against scipy, sums over all levels, and gradients where a naive formula gives NaN."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genlab.losses import likelihoods
from genlab.losses.likelihoods import LIKELIHOODS

SHAPE = (4, 3, 3, 2)


def numbers(seed, low=-1, high=1):
    return np.random.RandomState(seed).uniform(low, high, SHAPE).astype(np.float32)


def levels(seed):
    return (np.random.RandomState(seed).randint(0, 256, SHAPE) / 127.5 - 1).astype(np.float32)


def log_scales():
    return np.array([-2, 0.5], np.float32).reshape(1, 1, 1, 2)


class VariantsTest(chex.TestCase):
    """Compares with scipy with and without jit, for numpy and device arrays, without implicit type promotion."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    def test_against_scipy(self):
        location, scale = numbers(1, -2, 2), np.exp(log_scales())
        bits, grey = np.sign(numbers(0)), levels(2)
        with jax.numpy_dtype_promotion('strict'):
            bernoulli = self.variant(likelihoods.bernoulli)(bits, location)
            gaussian = self.variant(likelihoods.gaussian)(grey, location, log_scales())
            logistic = self.variant(likelihoods.discretized_logistic)(grey, location, log_scales())
        probability = 1 / (1 + np.exp(-np.float64(location)))
        np.testing.assert_allclose(bernoulli, -stats.bernoulli.logpmf(bits > 0, probability).sum((1, 2, 3)), rtol=1e-5)
        np.testing.assert_allclose(gaussian, -stats.norm.logpdf(grey, location, scale).sum((1, 2, 3)), rtol=1e-5)
        upper = np.where(grey > 0.999, np.inf, grey + 1 / 255)
        lower = np.where(grey < -0.999, -np.inf, grey - 1 / 255)
        mass = stats.logistic.cdf(upper, location, scale) - stats.logistic.cdf(lower, location, scale)
        np.testing.assert_allclose(logistic, -np.log(mass).sum((1, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize('mean, log_scale', [(0.1, -2.0), (-1.4, -1.0), (0.999, -7.0), (3.0, 2.0)])
def test_levels_of_the_discretized_logistic_sum_to_one(mean, log_scale):
    x = jnp.arange(256.0)[:, None] / 127.5 - 1
    negative = likelihoods.discretized_logistic(x, jnp.full_like(x, mean), jnp.full((1, 1), log_scale))
    np.testing.assert_allclose(np.exp(-np.float64(negative)).sum(), 1, rtol=1e-5)


def test_fewer_levels_sum_to_one_too():
    x = jnp.arange(4.0)[:, None] / 1.5 - 1
    negative = likelihoods.discretized_logistic(x, jnp.zeros_like(x), jnp.full((1, 1), -1.0), levels=4)
    np.testing.assert_allclose(np.exp(-negative).sum(), 1, rtol=1e-6)


@pytest.mark.parametrize('name', LIKELIHOODS)
@pytest.mark.parametrize('location, log_scale', [(-1e4, -7.0), (1e4, -7.0), (0.3, -12.0), (0.3, 12.0), (-50.0, 0.0)])
def test_extremes_have_finite_values_and_gradients(name, location, log_scale):
    x = jnp.array([[-1.0, 1.0, 0.00392157]]) if name != 'bernoulli' else jnp.array([[-1.0, 1.0, 1.0]])

    def total(location, log_scale):
        return LIKELIHOODS[name].negative_log(x, location, log_scale).sum()

    arguments = jnp.full((1, 3), location), jnp.full((1, 3), log_scale)
    value, gradients = jax.value_and_grad(total, (0, 1))(*arguments)
    assert np.isfinite(value) and all(np.isfinite(gradient).all() for gradient in gradients)


def test_bernoulli_gradients_correct_wrong_logits_only():
    gradient = jax.grad(lambda logits: likelihoods.bernoulli(jnp.array([[1.0, -1.0, 1.0]]), logits).sum())
    np.testing.assert_allclose(gradient(jnp.array([[-1e3, 1e3, 1e3]])), [[-1, 1, 0]], atol=1e-6)


def test_the_mean_is_the_expectation_of_x():
    logits = jnp.array([[-3.0, 0.0, 1.0]])
    on = jax.nn.sigmoid(logits)
    np.testing.assert_allclose(LIKELIHOODS['bernoulli'].mean(logits), on - (1 - on), atol=1e-6)
    np.testing.assert_array_equal(LIKELIHOODS['gaussian'].mean(logits), logits)


def test_shape_mismatch_raises():
    for _name, pair in LIKELIHOODS.items():
        with pytest.raises(AssertionError):
            pair.negative_log(jnp.ones((4, 3)), jnp.ones((4, 1)), jnp.ones((1, 1)))
    with pytest.raises(AssertionError):
        likelihoods.gaussian(jnp.ones((4, 3)), jnp.ones((4, 3)), jnp.ones(3))


@pytest.mark.parametrize('location, log_scale', [(0.0, 0.0), (-1.3, -1.0), (2.0, 0.5)])
def test_the_logit_laplace_density_is_that_of_a_laplace_variable_and_integrates_to_one(location, log_scale):
    logits = np.linspace(location - 18 * np.exp(log_scale), location + 18 * np.exp(log_scale), 20_001)
    x = 1 / (1 + np.exp(-logits))
    negative = likelihoods.logit_laplace(
        jnp.array(x[:, None]), jnp.full((len(x), 1), location), jnp.full((1, 1), log_scale)
    )
    change = np.abs(1 / (x * (1 - x)))  # of variables
    inside = np.abs(logits) < 8  # beyond, 1 - x rounds in float32
    expected = stats.laplace.pdf(logits, location, np.exp(log_scale)) * change
    np.testing.assert_allclose(np.exp(-np.float64(negative))[inside], expected[inside], rtol=2e-3)
    mass = stats.laplace.cdf(8, location, np.exp(log_scale)) - stats.laplace.cdf(-8, location, np.exp(log_scale))
    np.testing.assert_allclose(np.trapezoid(np.exp(-np.float64(negative))[inside], x[inside]), mass, rtol=1e-3)
    assert mass > 0.95


def test_images_are_mapped_into_the_open_interval_and_back():
    images = jnp.array([-1.0, 0.0, 0.5, 1.0])
    values = likelihoods.to_open(images)
    np.testing.assert_allclose(values, [0.1, 0.5, 0.7, 0.9], rtol=1e-6)
    np.testing.assert_allclose(likelihoods.from_open(values), images, atol=1e-6)
    np.testing.assert_array_equal(likelihoods.from_open(jnp.array([0.0, 1.0])), [-1, 1])
