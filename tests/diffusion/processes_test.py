"""Tests processes against DDPM's tables, integrals and finite differences, and each against its inverse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from genlab.diffusion import processes
from support.gaussian_data import every_process

PROCESSES = every_process()
PRESERVING = sorted(set(PROCESSES) - {'ve', 'interpolant'})
every = pytest.mark.parametrize('name', PROCESSES)


@functools.cache
def curves(name):
    """Returns the process in float64 at times t [33]: both ends, and 31 between them off the table's knots."""
    process = PROCESSES[name]
    t = process.end * jnp.array([0, *np.linspace(0.0211, 0.9787, 31), 1], jnp.float32)
    step = jnp.float32(4e-3 * process.end)

    def follow(t):
        level, found = processes.log_snr(process, t), {}
        for kind, function, rate in zip(
            ('alpha', 'sigma'), (process.alpha, process.sigma), processes.rates(process, t)
        ):
            slope = (function(t + step) - function(t - step)) / (2 * step)
            found |= {kind: function(t), kind + '_rate': rate, kind + '_slope': slope}
        return found | {'t': t, 'level': level, 'time': process.time(level)}

    return {key: np.float64(value) for key, value in jax.jit(follow)(t).items()}


@every
def test_time_inverts_log_snr(name):
    np.testing.assert_allclose(curves(name)['time'], curves(name)['t'], rtol=2e-4)


@every
def test_log_snr_decreases_from_data_to_noise(name):
    found = curves(name)
    assert (found['level'][1:] < found['level'][:-1]).all()
    assert found['alpha'][-1] / found['sigma'][-1] < 0.0126  # 1 / 80, of ve
    if name == 'from_gamma':
        assert 0 < found['sigma'][0] < 0.02
    else:
        assert found['sigma'][0] == 0 and found['alpha'][0] == 1


@pytest.mark.parametrize('name', PRESERVING)
def test_variance_is_preserved(name):
    np.testing.assert_allclose(curves(name)['alpha'] ** 2 + curves(name)['sigma'] ** 2, 1, rtol=1e-6)


@pytest.mark.parametrize('steps, first, last', [(1000, 1e-4, 0.02), (100, 1e-3, 0.2)])
def test_linear_betas_agree_with_ddpm(steps, first, last):
    """Compares with the product of (1 - beta) in double precision at each discrete time."""
    kept = np.cumprod(1 - np.linspace(first, last, steps))
    process, t = processes.linear(steps), jnp.arange(1, steps + 1, dtype=jnp.float32) / steps
    np.testing.assert_allclose(process.alpha(t), np.sqrt(kept), rtol=1e-5)
    np.testing.assert_allclose(process.sigma(t), np.sqrt(1 - kept), rtol=1e-5)


def test_cosine_is_its_closed_form_except_for_the_last_betas():
    t = np.linspace(0.01, 0.99, 99)
    curve = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    process = processes.cosine()
    np.testing.assert_allclose(process.alpha(jnp.asarray(t, jnp.float32)) ** 2, curve(t) / curve(0), rtol=1e-4)
    last = process.alpha(jnp.asarray(1.0)) ** 2 / process.alpha(jnp.asarray(0.999)) ** 2
    np.testing.assert_allclose(last, 1 - 0.999, rtol=1e-3)


def test_vp_is_the_integral_of_beta():
    process = processes.vp(0.3, 12.0)
    for t in (1e-3, 0.2, 0.7, 1.0):
        integral = quad(lambda s: 0.3 + s * 11.7, 0, t)[0]
        np.testing.assert_allclose(process.alpha(jnp.asarray(t)), np.exp(-integral / 2), rtol=1e-5)
        np.testing.assert_allclose(process.sigma(jnp.asarray(t)), np.sqrt(-np.expm1(-integral)), rtol=1e-5)


def test_linear_betas_tend_to_vp():
    """Compares the chain of 1,000 steps with the SDE with beta from 0.1 to 20, at 1,000 times."""
    np.testing.assert_allclose(curves('linear')['alpha'], curves('vp')['alpha'], atol=2e-3)


@every
def test_rates_against_finite_differences(name):
    found, inside = curves(name), slice(4, -4)
    for kind in ('alpha', 'sigma'):
        rate, slope = found[kind + '_rate'][inside], found[kind + '_slope'][inside]
        np.testing.assert_allclose(rate, slope, atol=5e-3 / PROCESSES[name].end, rtol=5e-3)


def test_rates_at_the_end_of_a_table():
    """Expects the rates of the last interval, not zero: solvers start there."""
    found = curves('linear')
    np.testing.assert_allclose(found['alpha_rate'][-1] / found['alpha'][-1], np.log1p(-0.02) / 2 * 1000, rtol=1e-3)
    assert found['sigma_rate'][-1] > 0


def test_from_gamma():
    """Uses gamma = -8 + 14 t + 3 t^2 and times of any shape."""
    t = curves('from_gamma')['t']
    np.testing.assert_allclose(curves('from_gamma')['level'], 8 - 14 * t - 3 * t**2, atol=1e-4)
    level = functools.partial(processes.log_snr, PROCESSES['from_gamma'])
    together, alone = jax.jit(lambda t: (level(t), level(t[1, 2])))(jnp.array([[0, 0.1, 0.2], [0.3, 0.4, 1.0]]))
    np.testing.assert_allclose(together[0, 1], 6.57, atol=1e-4)
    np.testing.assert_allclose([together[1, 2], alone], -9, atol=1e-4)


def test_diffuse_takes_one_time_or_one_per_example():
    process = PROCESSES['interpolant']
    x0, epsilon = np.float32(np.random.default_rng(0).normal(size=(2, 3, 4, 4, 2)))
    t = np.float32([0.1, 0.5, 0.9])
    mix = functools.partial(processes.diffuse, process, x0, epsilon)
    together, alone = jax.jit(lambda t: (mix(t), mix(t[1])))(t)
    for i in range(3):
        np.testing.assert_allclose(together[i], (1 - t[i]) * x0[i] + t[i] * epsilon[i], rtol=1e-5)
    np.testing.assert_allclose(alone, (x0 + epsilon) / 2, rtol=1e-5)
