"""Tests predictions: each determines x_0 and epsilon, and their errors differ by known factors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.diffusion import predictions
from genlab.diffusion.processes import diffuse, like
from support.gaussian_data import every_process

PROCESSES = every_process()
pairs = pytest.mark.parametrize('name', PROCESSES)
DEVIATION = 0.5


def example(process, seed=0):
    """Returns (x0, epsilon [9, 2, 3], t [9]) over the whole process without its two ends."""
    x0, epsilon = jax.random.normal(jax.random.key(seed), (2, 9, 2, 3))
    return x0, epsilon, process.end * jnp.linspace(0.02, 0.97, 9)


@pairs
def test_every_prediction_determines_x0_and_epsilon(name):
    """Expects 1e-5 of the size of x_t, divided by alpha for x_0 and by sigma for epsilon."""
    process = PROCESSES[name]
    x0, epsilon, t = example(process)
    x = diffuse(process, x0, epsilon, t)
    for prediction in predictions.PREDICTIONS:
        output = predictions.target(prediction, process, x0, epsilon, t, DEVIATION)
        found = predictions.estimate(prediction, process, output, x, t, DEVIATION)
        alpha, sigma = like(process.alpha(t), x), like(process.sigma(t), x)
        np.testing.assert_allclose((found.x0 - x0) / jnp.maximum(1, sigma / alpha), 0, atol=1e-5, err_msg=prediction)
        np.testing.assert_allclose(
            (found.epsilon - epsilon) / jnp.maximum(1, alpha / sigma), 0, atol=1e-5, err_msg=prediction
        )


@pairs
def test_error_ratio_is_the_measured_ratio(name):
    """Converts a wrong prediction to another one by x_0 and epsilon, and compares the errors."""
    process = PROCESSES[name]
    x0, epsilon, t = example(process)
    x = diffuse(process, x0, epsilon, t)
    for prediction in predictions.PREDICTIONS:
        right = predictions.target(prediction, process, x0, epsilon, t, DEVIATION)
        wrong = right + jnp.maximum(1, jnp.abs(right))
        found = predictions.estimate(prediction, process, wrong, x, t, DEVIATION)
        for other in predictions.PREDICTIONS:
            error = predictions.target(other, process, found.x0 - x0, found.epsilon - epsilon, t, DEVIATION)
            measured = jnp.square(error / (wrong - right)).mean((1, 2))
            ratio = predictions.error_ratio(prediction, other, process, t, DEVIATION)
            np.testing.assert_allclose(ratio, measured, rtol=2e-2, err_msg=f'{prediction}, {other}')


def test_known_error_ratios():
    """Covers the SNR, the SNR + 1 (Salimans & Ho 2022, section 4) and EDM's weight (Karras et al. 2022, table 1)."""
    process, t = PROCESSES['vp'], jnp.linspace(0.1, 0.9, 9)
    ratio = jnp.square(process.alpha(t) / process.sigma(t))
    np.testing.assert_allclose(predictions.error_ratio('x0', 'epsilon', process, t), ratio, rtol=1e-5)
    np.testing.assert_allclose(predictions.error_ratio('x0', 'v', process, t), ratio + 1, rtol=1e-5)
    sigma = jnp.linspace(0.1, 70, 9)
    weight = (sigma**2 + DEVIATION**2) / (sigma * DEVIATION) ** 2
    np.testing.assert_allclose(
        predictions.error_ratio('x0', 'edm', PROCESSES['ve'], sigma, DEVIATION), weight, rtol=1e-5
    )


def test_edm_follows_the_paper():
    """Checks D = c_skip x + c_out F, and variance 1 of the target of F for data of the given deviation."""
    process, x = PROCESSES['ve'], jax.random.normal(jax.random.key(0), (2, 9, 2, 3))
    sigma = jnp.array([0.002, 0.02, 0.1, 0.3, 0.5, 1.0, 3.0, 20.0, 80.0])
    skip = (DEVIATION**2 / (sigma**2 + DEVIATION**2))[:, None, None]
    out = (sigma * DEVIATION / jnp.sqrt(sigma**2 + DEVIATION**2))[:, None, None]
    found = predictions.estimate('edm', process, x[1], x[0], sigma, DEVIATION)
    np.testing.assert_allclose(found.x0, skip * x[0] + out * x[1], rtol=1e-4, atol=1e-5)
    a, b = predictions.PREDICTIONS['edm'](process, sigma, DEVIATION)
    np.testing.assert_allclose((a * DEVIATION) ** 2 + b**2, 1, rtol=1e-5)


@pairs
def test_velocity_is_the_derivative_of_x(name):
    process = PROCESSES[name]
    x0, epsilon, t = example(process)
    slope = jax.jvp(lambda t: diffuse(process, x0, epsilon, t), (t,), (jnp.ones_like(t),))[1]
    np.testing.assert_allclose(
        predictions.velocity(process, predictions.Estimate(x0, epsilon), t), slope, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(predictions.target('velocity', process, x0, epsilon, t), slope, rtol=1e-4, atol=1e-5)


def test_velocity_of_the_interpolant_is_noise_minus_data():
    x0, epsilon, t = example(PROCESSES['interpolant'])
    velocity = predictions.target('velocity', PROCESSES['interpolant'], x0, epsilon, t)
    np.testing.assert_allclose(velocity, epsilon - x0, rtol=1e-6)


def test_v():
    process = PROCESSES['cosine']
    x0, epsilon, t = example(process)
    expected = like(process.alpha(t), x0) * epsilon - like(process.sigma(t), x0) * x0
    np.testing.assert_allclose(predictions.target('v', process, x0, epsilon, t), expected, rtol=1e-6, atol=1e-7)
