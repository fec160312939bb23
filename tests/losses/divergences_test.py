"""Tests divergences against quadrature, sampling and scipy, and bounds against each other."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from genlab.losses import divergences

decompose = jax.jit(divergences.decompose_kl, static_argnames='examples')


def gaussians(seed, shape=(5, 3)):
    """Returns mean and log-variance of posteriors, then of priors."""
    state = np.random.RandomState(seed)
    return [state.uniform(-1, 1, shape).astype(np.float32) for _ in range(4)]


def by_quadrature(mean, log_variance, prior_mean, prior_log_variance):
    q, p = stats.norm(mean, np.exp(log_variance / 2)), stats.norm(prior_mean, np.exp(prior_log_variance / 2))
    return integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), mean - 12, mean + 12)[0]


@functools.cache
def integrals():
    """Returns the KL divergences of `gaussians(0)` from their priors and from N(0, 1), by quadrature."""
    parts, integral = gaussians(0), np.vectorize(by_quadrature)
    return integral(*parts), integral(*parts[:2], 0.0, 0.0)


class VariantsTest(chex.TestCase):
    """Runs with and without jit, for numpy and device arrays, without implicit type promotion."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    def test_kl_is_the_integral(self):
        mean, log_variance, prior_mean, prior_log_variance = gaussians(0)
        with jax.numpy_dtype_promotion('strict'):
            kl = self.variant(divergences.gaussian_kl)(mean, log_variance, prior_mean, prior_log_variance)
            standard = self.variant(divergences.standard_kl)(mean, log_variance)
        for found, expected in zip((kl, standard), integrals()):
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_kl_is_the_mean_of_the_log_ratio():
    parts = [jnp.asarray(part[:1, :1]) for part in gaussians(1)]
    z = parts[0] + jnp.exp(parts[1] / 2) * jax.random.normal(jax.random.key(0), (200_000, 1))
    ratio = divergences.log_normal(z, *parts[:2]) - divergences.log_normal(z, *parts[2:])
    np.testing.assert_allclose(
        ratio.mean(), divergences.gaussian_kl(*parts)[0, 0], atol=5 * ratio.std() / len(z) ** 0.5
    )


def test_kl_is_zero_at_the_prior_with_zero_gradient():
    mean, log_variance, _, _ = gaussians(2)
    value, gradient = jax.value_and_grad(lambda m: divergences.gaussian_kl(m, log_variance, mean, log_variance).sum())(
        mean
    )
    assert value == 0 and not gradient.any()


def test_log_normal_agrees_with_scipy():
    z, mean, log_variance, _ = gaussians(3)
    np.testing.assert_allclose(
        divergences.log_normal(z, mean, log_variance),
        stats.norm.logpdf(z, mean, np.exp(log_variance / 2)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_free_bits_are_a_minimum_without_gradient_below_it():
    kl = jnp.array([[0.1, 2.0], [0.3, 4.0]])
    value, gradient = jax.value_and_grad(lambda kl: divergences.free_bits(kl, nats=0.5))(kl)
    np.testing.assert_allclose(value, 0.5 + 3.0)
    np.testing.assert_allclose(gradient, [[0, 0.5], [0, 0.5]])
    np.testing.assert_allclose(divergences.free_bits(kl, nats=0.0), kl.sum(1).mean(), rtol=1e-6)


def test_free_bits_use_the_batch_of_all_devices():
    kl = jnp.array([[[0.1, 2.0]], [[0.9, 4.0]]])  # two devices: their means are below and above the free bits
    value = jax.vmap(lambda kl: divergences.free_bits(kl, nats=0.5, axis='devices'), axis_name='devices')(kl)
    np.testing.assert_allclose(value, 0.5 + 3.0)


def test_importance_bound_is_the_log_of_the_mean_weight():
    log_weights = np.random.RandomState(0).uniform(-1000, -990, (7, 3)).astype(np.float32)
    exact = np.log(np.mean(np.exp(np.float64(log_weights) + 995), 0)) - 995
    np.testing.assert_allclose(divergences.importance_bound(log_weights), exact, rtol=1e-6)
    np.testing.assert_array_equal(divergences.importance_bound(log_weights[:1]), log_weights[0])


def test_more_samples_bound_tighter():
    """Checks L_1 <= L_5 <= L_50 in expectation over exchangeable samples."""
    log_weights = jax.random.normal(jax.random.key(1), (50, 2000))
    bounds = [divergences.importance_bound(log_weights[:count]).mean() for count in (1, 5, 50)]
    assert bounds == sorted(bounds) and bounds[0] < 0.1 and abs(bounds[2] - 0.5) < 0.05  # log E exp(N(0, 1)) = 1/2


def test_decomposition_sums_to_the_kl_estimate_whatever_the_number_of_examples():
    z, mean, log_variance, _ = gaussians(4)
    estimate = (divergences.log_normal(z, mean, log_variance) - stats.norm.logpdf(z)).sum(1)
    for examples in (5, 60_000):
        parts = decompose(z, mean, log_variance, mean, log_variance, examples=examples)
        np.testing.assert_allclose(sum(parts), estimate, rtol=1e-4, atol=1e-5)


def test_decomposition_against_loops():
    z, mean, log_variance, _ = gaussians(5)
    density = stats.norm.pdf(
        z[:, None], mean, np.exp(log_variance / 2)
    )  # [i, j, d] of z_i under the posterior of example j
    joint, product = density.prod(2).sum(1) / (40 * 5), np.prod(density.sum(1) / (40 * 5), 1)
    own = np.einsum('iid->id', density).prod(1)
    expected = np.log([own / joint, joint / product, product / stats.norm.pdf(z).prod(1)])
    parts = decompose(z, mean, log_variance, mean, log_variance, examples=40)
    np.testing.assert_allclose(parts, expected, rtol=1e-4, atol=1e-5)


def test_total_correlation_distinguishes_dependent_from_independent_latents():
    """Uses N = 1, where the estimate lacks only the minibatch constant, and latents that repeat each other."""
    first, second = np.random.RandomState(6).normal(size=(2, 400, 1)).astype(np.float32)
    narrow = np.full((400, 2), -3, np.float32)

    def correlation(mean):
        return decompose(mean, mean, narrow, mean, narrow, examples=1)[1].mean()

    assert abs(correlation(np.hstack([first, second]))) < 0.5 < correlation(np.hstack([first, first])) - 0.3


def test_shape_mismatch_raises():
    with pytest.raises(AssertionError):
        divergences.gaussian_kl(jnp.ones((4, 3)), jnp.ones((4, 3)), jnp.ones((1, 3)), jnp.ones((4, 3)))
    with pytest.raises(AssertionError):
        divergences.free_bits(jnp.ones(4), nats=0.1)
    with pytest.raises(AssertionError):
        divergences.importance_bound(jnp.ones(4))
    with pytest.raises(AssertionError):
        divergences.decompose_kl(*[jnp.ones((4, 3))] * 4, jnp.ones((4, 1)), examples=4)


def test_the_kl_divergence_from_a_uniform_prior_is_what_the_entropy_lacks():
    logits = np.random.RandomState(7).normal(size=(2, 3, 5)).astype(np.float32)
    with jax.numpy_dtype_promotion('strict'):
        kl = divergences.uniform_kl(logits)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(kl, np.log(5) - stats.entropy(probabilities, axis=-1), rtol=1e-5)
    certain = jnp.array([[0.0, 0, 0, 0], [300, -300, 0, 0]])
    np.testing.assert_allclose(divergences.uniform_kl(certain), [0, np.log(4)], atol=1e-6)
    assert np.isfinite(jax.grad(lambda logits: divergences.uniform_kl(logits).sum())(certain)).all()
