"""Tests times: training draws against scipy's distributions, and grids of solvers against their papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genlab.diffusion import times
from genlab.diffusion.processes import log_snr
from support.gaussian_data import every_process

PROCESSES = every_process()
U = jnp.array([0, *np.linspace(0.01, 0.99, 31), 1 - 2**-24], jnp.float32)  # the least and the most that are drawn


def test_stratified_times_have_one_per_interval():
    for seed in range(20):
        u = times.stratified(jax.random.key(seed), jnp.arange(16), 16)
        np.testing.assert_array_equal(np.sort(np.floor(u * 16)), np.arange(16))


def test_stratified_numbers_are_uniform_and_their_mean_varies_little():
    u = jax.vmap(lambda key: times.stratified(key, jnp.arange(16), 16))(jax.random.split(jax.random.key(0), 500))
    assert stats.kstest(u[:, 5], 'uniform').pvalue > 0.01
    assert u.mean(1).std() < 0.1 * (1 / 12 / 16) ** 0.5 * 4  # of independent ones: sqrt(1 / 12 / 16) = 0.07


def test_stratified_does_not_depend_on_the_split_of_the_batch():
    key = jax.random.key(3)
    whole = times.stratified(key, jnp.arange(8), 8)
    np.testing.assert_array_equal(whole[4:], times.stratified(key, jnp.arange(4, 8), 8))


@pytest.mark.parametrize('name', PROCESSES)
def test_quantiles_against_scipy(name):
    process, u = PROCESSES[name], np.float64(U)
    quantiles = times.uniform(0.1), times.logit_normal(0.3, 0.8), times.discrete(1000), times.log_normal(-1.2, 1.2)
    drawn = jax.jit(lambda u: [quantile(process, u) for quantile in quantiles])(U)
    uniform, logit_normal, discrete, log_normal = drawn
    for t in drawn:
        assert np.isfinite(t).all() and (t >= 0).all() and (name == 've' or (t <= 1).all())
    np.testing.assert_allclose(uniform, 0.1 + (process.end - 0.1) * u, rtol=1e-5)
    inside = slice(1, -1)
    logit = stats.norm(0.3, 0.8).ppf(u[inside])
    np.testing.assert_allclose(logit_normal[inside], process.end / (1 + np.exp(-logit)), rtol=1e-4)
    level = -log_snr(process, log_normal) / 2
    np.testing.assert_allclose(level[inside], stats.norm(-1.2, 1.2).ppf(u[inside]), atol=3e-3)
    np.testing.assert_allclose(np.asarray(discrete)[[0, -1]], [process.end / 1000, process.end], rtol=1e-6)


def test_discrete_times_are_equally_likely():
    t = times.discrete(10)(PROCESSES['linear'], jnp.arange(1000) / 1000 + 5e-4)
    found, counts = np.unique(np.round(np.float64(t) * 10), return_counts=True)
    np.testing.assert_array_equal(found, np.arange(1, 11))
    np.testing.assert_array_equal(counts, 100)


@functools.cache
def grids(grid):
    """Returns name -> number of steps -> (times, their log-SNR)."""

    def both(process, steps):
        t = times.GRIDS[grid](process, steps)
        return t, log_snr(process, t)

    found = jax.jit(
        lambda: {name: {steps: both(process, steps) for steps in (1, 18)} for name, process in PROCESSES.items()}
    )()
    return jax.device_get(found)


@pytest.mark.parametrize('grid', [grid for grid in times.GRIDS if grid not in times.CHAIN_GRIDS])
def test_grids_decrease_from_the_end_to_zero(grid):
    for name, process in PROCESSES.items():
        for steps, (t, _levels) in grids(grid)[name].items():
            assert t.shape == (steps + 1,) and t[0] == np.float32(process.end) and t[-1] == 0, (name, steps)
            assert (np.diff(t[:-1]) < 0).all() and t[-2] >= 0, (name, steps)


@pytest.mark.parametrize('name', ['ve', 'linear', 'vp'])
def test_karras_is_equation_5(name):
    """Checks sigma, and sigma / alpha where the process scales the data."""
    levels = np.float64(grids('karras')[name][18][1])
    first, i = np.exp(-levels[0] / 2), np.arange(18)
    expected = (first ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - first ** (1 / 7))) ** 7
    np.testing.assert_allclose(np.exp(-levels[:-1] / 2), expected, rtol=2e-3)
    assert name != 've' or np.isclose(first, 80)


def test_even_log_snr_is_even():
    levels = grids('even_log_snr')['vp'][18][1][:-1]
    np.testing.assert_allclose(np.diff(levels), np.diff(levels).mean(), rtol=1e-3)
    np.testing.assert_allclose(levels[-1], -2 * np.log(0.002), rtol=1e-3)


@pytest.mark.parametrize('grid', ['karras', 'even_log_snr'])
def test_a_grid_stays_within_the_noise_levels_of_the_process(grid):
    np.testing.assert_allclose(grids(grid)['from_gamma'][18][1][-2:], 8, atol=1e-3)
    assert grids(grid)['from_gamma'][18][1][-3] < 7.9


def test_sub_sequences_of_ddim():
    """Checks evenly spaced times, and c i^2 (Song et al. 2021, appendix D.2)."""
    i = np.arange(18, -1, -1)
    np.testing.assert_allclose(grids('even')['linear'][18][0], i / 18, rtol=1e-5)
    np.testing.assert_allclose(grids('quadratic')['linear'][18][0], (i / 18) ** 2, rtol=1e-5)


def test_times_of_a_chain_have_their_known_names():
    """Compares with the formulas of Lin et al. 2024, table 2, in the numbers from 0 of diffusers."""
    chain, steps = PROCESSES['linear']._replace(chain=1000), (1, 3, 7, 50, 999, 1000)
    expected = {
        'leading': lambda n: np.arange(n)[::-1] * (1000 // n),
        'trailing': lambda n: np.round(np.arange(1000, 0, -1000 / n))[:n] - 1,
        'linspace': lambda n: np.linspace(0, 999, n).round()[::-1],
    }
    for name in times.CHAIN_GRIDS:
        for n in steps:
            found = np.float64(times.GRIDS[name](chain, n)) * 1000
            np.testing.assert_allclose(found, [*(expected[name](n) + 1), 0], atol=1e-3, err_msg=f'{name} {n}')
            np.testing.assert_allclose(times.visited(times.GRIDS[name], chain, n) * 1000, found, atol=1e-3)


def test_shift_moves_the_log_snr():
    """Checks that a shift of m lowers log-SNR of the interpolant by 2 log m (Esser et al. 2024, equation 23)."""
    even, moved = (grids(grid)['interpolant'][18][1][1:-1] for grid in ('even', 'shifted'))
    np.testing.assert_allclose(even - moved, 2 * np.log(3), rtol=1e-4)
