"""Tests guidance, clipping and conversion between processes with the exact denoisers of Gaussian data."""

import jax.numpy as jnp
import numpy as np
import pytest

from genlab.diffusion import guidance
from genlab.diffusion.predictions import Estimate
from genlab.diffusion.processes import log_snr
from support.gaussian_data import denoiser, every_process, moments

PROCESSES = every_process()
LEVELS = jnp.linspace(7.5, -7.5, 9)  # log-SNR within the range of every process


def noisy(process, t, seed=0):
    """Returns x [9, 2, 3] at times t [9], of about the right scale."""
    mean, deviation = moments(process, t)
    standard = np.float32(np.random.default_rng(seed).normal(size=(9, 2, 3)))
    return mean[:, None, None] + deviation[:, None, None] * standard


def test_guidance_of_scale_1_is_the_conditional_model():
    conditional, unconditional = denoiser(PROCESSES['vp'], 1.0, 0.2), denoiser(PROCESSES['vp'])
    assert guidance.guided(conditional, unconditional, PROCESSES['vp'], 1.0) is conditional


@pytest.mark.parametrize('name', ['vp', 've', 'interpolant'])
def test_guidance_of_two_gaussians(name):
    """Expects (1 - w) D_u + w D_c, consistent with x_t, per example and inside the interval only."""
    process = PROCESSES[name]
    conditional, unconditional = denoiser(process, 1.0, 0.2), denoiser(process, 0.4, 0.5)
    t = process.time(LEVELS)
    x = noisy(process, t)

    everywhere = guidance.guided(conditional, unconditional, process, 3.0)
    found, c, u = everywhere(x, t), conditional(x, t), unconditional(x, t)
    inside = guidance.guided(conditional, unconditional, process, 3.0, (0.1, 2.0))(x, t)
    one = everywhere(x, t[0])
    for kind in ('x0', 'epsilon'):
        np.testing.assert_allclose(
            getattr(found, kind), 3 * getattr(c, kind) - 2 * getattr(u, kind), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(getattr(one, kind)[0], getattr(found, kind)[0], rtol=1e-4, atol=1e-5)
    guided = (jnp.exp(-LEVELS / 2) >= 0.1) & (jnp.exp(-LEVELS / 2) <= 2)
    assert 2 < guided.sum() < 7
    np.testing.assert_allclose(inside.x0, jnp.where(guided[:, None, None], found.x0, c.x0), rtol=1e-5)
    alpha, sigma = process.alpha(t)[:, None, None], process.sigma(t)[:, None, None]
    np.testing.assert_allclose(alpha * found.x0 + sigma * found.epsilon, x, atol=2e-5 * process.end)


def test_guidance_of_the_first_channels():
    process, t = PROCESSES['vp'], PROCESSES['vp'].time(LEVELS)
    conditional, unconditional = denoiser(process, 1.0, 0.2), denoiser(process, 0.4, 0.5)
    x = noisy(process, t)
    first, every = (guidance.guided(conditional, unconditional, process, 3.0, channels=n)(x, t) for n in (2, 0))
    for kind in ('x0', 'epsilon'):
        np.testing.assert_array_equal(getattr(first, kind)[..., :2], getattr(every, kind)[..., :2])
        np.testing.assert_allclose(getattr(first, kind)[..., 2], getattr(conditional(x, t), kind)[..., 2], atol=1e-6)


@pytest.mark.parametrize('name', ['cosine', 've'])
def test_clipped_estimates_are_consistent_with_x(name):
    process = PROCESSES[name]
    t = process.time(LEVELS)
    x = 3 * noisy(process, t)
    wild = denoiser(process, 0.4, 1.5)
    found, before = guidance.clipped(wild, process)(x, t), wild(x, t)
    alpha, sigma = process.alpha(t)[:, None, None], process.sigma(t)[:, None, None]
    np.testing.assert_allclose(alpha * found.x0 + sigma * found.epsilon, x, rtol=1e-5, atol=1e-5)
    inside = np.abs(before.x0) <= 1
    assert 0.1 < inside.mean() < 0.9 and np.abs(found.x0).max() == 1
    np.testing.assert_array_equal(found.x0[inside], before.x0[inside])
    np.testing.assert_allclose(found.epsilon[inside], before.epsilon[inside], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize('name', PROCESSES)
def test_a_denoiser_converts_to_every_other_process(name):
    """Checks that the exact denoiser of P, converted to Q, is the exact denoiser of Q."""
    process = PROCESSES[name]
    t = process.time(LEVELS)
    x = noisy(process, t)

    own = denoiser(process)(x, t)
    for trained, other in PROCESSES.items():
        found = guidance.converted(denoiser(other), other, process)(x, t)
        np.testing.assert_allclose(found.x0, own.x0, atol=1e-3, err_msg=trained)
        np.testing.assert_allclose(found.epsilon, own.epsilon, atol=1e-3, err_msg=trained)


@pytest.mark.parametrize('name', PROCESSES)
def test_an_end_of_pure_noise_maps_to_the_end_of_the_other_process(name):
    """Covers alpha = 0, the end of the interpolant, which no other process reaches."""
    trained, process = PROCESSES[name], PROCESSES['interpolant']
    called = []

    def denoise(x, t):
        called.append(t)
        return Estimate(x, x)

    scaled = guidance.converted(denoise, trained, process)(jnp.ones((1, 2)), jnp.asarray(1.0)).x0
    end = jnp.asarray(trained.end)
    np.testing.assert_allclose(called[0], end, rtol=1e-4)
    np.testing.assert_allclose(scaled, jnp.hypot(trained.alpha(end), trained.sigma(end)), rtol=1e-4)
    assert log_snr(process, jnp.asarray(1.0)) == -jnp.inf
