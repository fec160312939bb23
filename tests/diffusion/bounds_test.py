"""Tests that the variational bound is a bound, and tight for the exact denoiser of data in {-1, 1}."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genlab.diffusion import bounds, processes
from genlab.diffusion.predictions import Estimate

SHARE = 0.8  # of the ones
ENTROPY = -(SHARE * np.log(SHARE) + (1 - SHARE) * np.log(1 - SHARE))
TIMES, NOISES, CHAIN = 500, 100, 1000


def data(first):
    """Returns x_0, epsilon [N, 1] and u [N] in [0, 1) at quadrature nodes, and weights [N] that sum to 1."""
    nodes, mass = np.polynomial.hermite_e.hermegauss(NOISES)
    x0, epsilon, u = np.meshgrid([1.0, -1.0], nodes, (np.arange(first) + 0.5) / first, indexing='ij')
    weights = np.where(x0 > 0, SHARE, 1 - SHARE) * (mass / mass.sum())[None, :, None] / first
    x0, epsilon, u, weights = (jnp.asarray(values.ravel(), jnp.float32) for values in (x0, epsilon, u, weights))
    return x0[:, None], epsilon[:, None], u, weights


def best(process, x, t, share=SHARE):
    """Returns E[x_0 | x_t] of data that are 1 with probability `share`, and the corresponding noise."""
    alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
    x0 = jnp.tanh(alpha * x / sigma**2 + np.log(share / (1 - share)) / 2)
    return Estimate(x0, (x - alpha * x0) / sigma)


@pytest.fixture(scope='module')
def learned():
    """Returns the fixed schedule of VDM: log-SNR from 13.3 to -8."""
    return processes.from_gamma(lambda t: -13.3 + 21.3 * t)


def continuous(process, share):
    """Returns the mean bound in continuous time, in nats."""
    x0, epsilon, t, weights = data(TIMES)
    x, first = (processes.diffuse(process, x0, epsilon, time) for time in (t, jnp.zeros(())))
    parts = (
        bounds.prior(process, x0),
        bounds.reconstruction(process, x0, first, 2),
        bounds.continuous(process, epsilon, best(process, x, t, share), t),
    )
    return float(sum(weights @ part for part in parts))


def test_the_continuous_bound_of_the_best_denoiser_is_the_entropy(learned):
    assert continuous(learned, SHARE) == pytest.approx(ENTROPY, rel=0.01)


def test_a_worse_denoiser_has_a_larger_bound(learned):
    assert continuous(learned, 0.3) > ENTROPY + 0.1


@pytest.mark.parametrize('variance, most', [('small', 1.05), ('large', 30), ('learned', 1.05)])
def test_the_discrete_bound_of_the_best_denoiser_is_close_to_the_entropy_and_not_below(variance, most):
    """Expects a looser bound of the largest variance, which is too large for a nearly certain x_0."""
    process = processes.linear(CHAIN)

    def term(k, u_weights):
        x0, epsilon, _, weights = u_weights
        t = k / CHAIN
        x = processes.diffuse(process, x0, epsilon, t)
        found = best(process, x, t)._replace(fraction=jnp.zeros_like(x))
        return float(weights @ bounds.step(process, x0, x, found, t, t - 1 / CHAIN, variance, 2))

    x0, epsilon, u, weights = data(CHAIN - 1)
    rest = term(2 + jnp.floor(u * (CHAIN - 1)), (x0, epsilon, u, weights)) * (CHAIN - 1)
    one = data(1)
    total = float(one[3] @ bounds.prior(process, one[0])) + rest + term(jnp.ones(len(one[0])), one)
    assert ENTROPY * 0.99 < total < ENTROPY * most


def test_the_probabilities_of_all_levels_sum_to_one_and_agree_with_scipy():
    levels = np.linspace(-1, 1, 256)
    for mean, deviation in ((0.3, 0.1), (-0.99, 0.02), (0.0, 3.0)):
        found = np.exp(
            bounds.log_of_level(jnp.asarray(levels, jnp.float32), jnp.asarray(mean), jnp.asarray(deviation), 256)
        )
        edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        np.testing.assert_allclose(found, np.diff(stats.norm.cdf(edges, mean, deviation)), atol=2e-5)
        assert found.sum() == pytest.approx(1, abs=1e-3)


def test_the_prior_term_is_the_divergence_of_two_gaussians():
    process, x0 = processes.linear(100, 1e-4, 5e-3), jnp.array([[0.5, -1.0]])
    alpha, sigma = float(process.alpha(jnp.ones(()))), float(process.sigma(jnp.ones(())))
    exact = sum((alpha * value) ** 2 / (2 * sigma**2) for value in (0.5, -1.0))
    assert float(bounds.prior(process, x0)[0]) == pytest.approx(exact, rel=1e-5)


def test_reconstruction_distinguishes_levels_by_the_noise_scale():
    """Expects equal probabilities for noise far above the level spacing, and one certain level far below it."""
    loud, quiet = (processes.from_gamma(lambda t, low=low: low + 20 * t) for low in (12.0, -20.0))
    x0 = jnp.linspace(-1, 1, 256)[None, 100:103]
    assert float(bounds.reconstruction(quiet, x0, quiet.alpha(jnp.zeros(())) * x0, 256)[0]) < 1e-3
    assert float(bounds.reconstruction(loud, x0, jnp.zeros_like(x0), 256)[0]) == pytest.approx(
        3 * np.log(256), rel=0.01
    )
