"""Tests the probability-flow ODE against the exact flow of Gaussian data, and likelihoods against the density."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genlab.diffusion import ode
from genlab.diffusion.predictions import Estimate
from genlab.errors import UserError
from support.gaussian_data import DEVIATION, MEAN, denoiser, every_process, flow, moments

pytest.importorskip('diffrax')
PROCESSES = every_process()
DATA = np.float32(MEAN + DEVIATION * np.random.default_rng(0).normal(size=(4, 3, 2)))
WILD = np.concatenate([DATA[:1], 30 * DATA[1:]])  # the first example among others


def integrate(name, **options):
    return jax.jit(functools.partial(ode.integrate, denoiser(PROCESSES[name]), PROCESSES[name], **options))


@pytest.mark.parametrize('name', ['cosine', 've', 'interpolant', 'from_gamma'])
def test_adaptive_steps_follow_the_exact_flow(name):
    """Integrates from data to noise and back, to 1e-4 of the scale of x, independently per example."""
    process, follow = PROCESSES[name], integrate(name, tolerance=1e-5)
    start, end = jnp.float32(1e-4 * process.end), jnp.float32(process.end)
    scale, exact = ode.scale(process, end), flow(process, DATA, start, end)
    noise = follow(DATA, start, end)
    np.testing.assert_allclose(noise / scale, exact / scale, atol=1e-4)
    np.testing.assert_allclose(follow(exact, end, start), DATA, atol=1e-4)
    np.testing.assert_allclose(follow(WILD, start, end)[0], noise[0], rtol=1e-6)


def test_the_solver_takes_the_requested_number_of_steps():
    """Expects a quarter of the error in twice the steps (heun, order 2). It includes t = 0."""
    process = PROCESSES['vp']
    x = flow(process, DATA, jnp.float32(0), jnp.float32(1))
    errors = [np.abs(integrate('vp', solver='heun', steps=steps)(x, 1.0, 0.0) - DATA).max() for steps in (8, 16)]
    assert 3 < errors[0] / errors[1] < 6 and errors[1] < 0.02, errors


@pytest.mark.parametrize('name', ['vp', 've', 'interpolant'])
def test_likelihood_of_gaussian_data(name):
    """Expects the density of the data to 0.05 nats for 6 values, and the density of the flow to 0.005.

    The flow density starts from N(0, sigma(end)^2). The Jacobian is a multiple of the identity: any probe is exact."""
    process, keys = PROCESSES[name], jax.random.split(jax.random.key(0), 4)
    likelihood = jax.jit(functools.partial(ode.log_likelihood, denoiser(process), process, tolerance=1e-5))
    found = likelihood(DATA, keys)
    exact = stats.norm(MEAN, DEVIATION).logpdf(DATA).sum((1, 2))
    np.testing.assert_allclose(found, exact, atol=0.05)
    start, end = jnp.float32(1e-5 * process.end), jnp.float32(process.end)
    noise = np.float64(flow(process, DATA, start, end))
    growth = np.log(np.float64(moments(process, end)[1] / moments(process, start)[1]))
    brought = stats.norm(0, np.float64(process.sigma(end))).logpdf(noise).sum((1, 2)) + DATA[0].size * growth
    np.testing.assert_allclose(found, brought, atol=5e-3)
    np.testing.assert_allclose(likelihood(WILD, keys)[0], found[0], rtol=1e-5)


def test_the_trace_is_estimated_without_bias():
    """Uses correlated values. Four probes halve the deviation of one; equal keys give equal signs."""
    process = PROCESSES['interpolant']
    covariance = np.float32(0.25 * (0.4 * np.eye(4) + 0.6))
    values, axes = np.linalg.eigh(covariance)

    def denoise(x, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        whitened = (x @ axes) / (alpha**2 * values + sigma**2)[None] @ axes.T
        return Estimate(alpha * whitened @ covariance, sigma * whitened)

    x = np.float32([0.3, -0.2, 0.6, 0.1])
    exact = stats.multivariate_normal(np.zeros(4), covariance).logpdf(x)
    keys, spread = jax.random.split(jax.random.key(1), 256), {}
    for probes in (1, 4):
        likelihood = functools.partial(ode.log_likelihood, denoise, process, probes=probes, solver='heun', steps=30)
        found = np.asarray(jax.jit(likelihood)(np.tile(x, (256, 1)), keys.at[255].set(keys[0])))
        spread[probes] = found.std()
        assert abs(found.mean() - exact) < 4 * found.std() / 16 + 0.02, (found.mean(), exact)
        assert found[0] == found[255]
    assert 1.6 < spread[1] / spread[4] < 2.4, spread


def test_without_diffrax_the_error_names_the_package_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'diffrax', None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[ode\]'"):
        ode.integrate(denoiser(PROCESSES['vp']), PROCESSES['vp'], DATA, 1.0, 0.5)
