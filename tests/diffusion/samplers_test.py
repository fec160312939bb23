"""Tests samplers with the exact denoiser of Gaussian data: final distribution, order, and documented properties."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtri

from genlab.diffusion import guidance, samplers, times
from genlab.diffusion.guidance import keep_known
from genlab.diffusion.processes import log_snr
from genlab.noise import normal, stream
from support.gaussian_data import denoiser, every_process, flow, moments

PROCESSES = every_process()
STANDARD = (
    ndtri((np.arange(4000) + 0.5) / 4000).reshape(40, 100).astype(np.float32)
)  # [40, 100], of mean 0, deviation 1
FEW = STANDARD[::4, :2]  # [10, 2]


def keys(number, seed=0):
    return jax.random.split(jax.random.key(seed), number)


# Noise of each step and of its corrector. It compiles in a third of the time of random keys.
NOISE = np.random.default_rng(0).normal(size=(301, 2, *STANDARD.shape)).astype(np.float32)


def noise_from(table):
    """Replaces the noise of `solve` by a table [steps + 1, 2, B, ...]."""
    drawn = lambda number, shape, name: jnp.asarray(table)[number, int(name == 'corrector')]
    return mock.patch.multiple(samplers, stream=lambda keys, name, number: number, normal=drawn)


def begin(process, standard=STANDARD, at=None):
    """Samples x from its exact distribution at the end of a process, or at another time."""
    mean, deviation = moments(process, jnp.asarray(process.end if at is None else at, jnp.float32))
    return mean + deviation * standard


def run(process, steps, name, **options):
    """Returns x [40, 100] at time 0 after steps on EDM's grid, started from its exact distribution at the end."""

    def sample(table):
        sampler, grid = samplers.make(name, **options), times.karras(process, steps)
        with noise_from(table):
            return samplers.solve(sampler, denoiser(process), process, begin(process), grid, None)

    return jax.jit(sample)(NOISE)


def errors(process, x, at=0.0):
    """Returns the errors of the mean and of the standard deviation, in standard deviations."""
    mean, deviation = moments(process, jnp.asarray(at))
    x = np.float64(x)
    return (x.mean() - mean) / deviation, x.std() / deviation - 1


@pytest.mark.parametrize('process', ['cosine', 've', 'interpolant'])
@pytest.mark.parametrize('name, steps', [('ddim', 400), ('euler', 400), ('heun', 60), ('dpm_solver', 60)])
def test_deterministic_samplers_end_in_the_distribution_of_the_data(name, steps, process):
    """Expects 1 % in many steps of order 1 or few of order 2: without noise only the solver has an error."""
    process = PROCESSES[process]
    np.testing.assert_allclose(errors(process, run(process, steps, name)), 0, atol=0.01)


@pytest.mark.parametrize('process', ['vp', 've', 'interpolant'])
@pytest.mark.parametrize(
    'name, steps, options',
    [
        ('ancestral', 150, {'variance': 'large'}),
        ('ddim', 250, {'eta': 0.5}),
        ('heun', 60, {'churn': 0.2}),
        ('dpm_solver', 60, {'stochastic': True}),
        ('euler_maruyama', 150, {}),
        ('predictor_corrector', 300, {}),
    ],
)
def test_stochastic_samplers_end_in_the_distribution_of_the_data(name, steps, options, process):
    """Allows four standard errors (0.016 and 0.011, of 4,000 values), which cover a solver error of 0.02 or 0.03."""
    if name == 'euler_maruyama' and process == 'interpolant':
        options = {'diffusion': 'sigma'}  # the rate of the process is infinite at the end
    process = PROCESSES[process]
    mean, deviation = errors(process, run(process, steps, name, **options))
    assert abs(mean) < 0.064 and abs(deviation) < 0.045


CHAIN = 4
COUNTS = (*range(1, CHAIN + 1), CHAIN + 1, 2 * CHAIN)
EVERY = [
    ('ancestral', {'variance': 'small'}),
    ('ancestral', {'variance': 'large'}),
    ('ancestral', {'variance': 'learned'}),
    ('ddim', {}),
    ('ddim', {'eta': 1.0, 'keep_epsilon': True}),
    ('euler', {}),
    ('heun', {}),
    ('heun', {'churn': 0.3}),
    ('dpm_solver', {}),
    ('dpm_solver', {'stochastic': True}),
    ('euler_maruyama', {'diffusion': 'process'}),
    ('euler_maruyama', {'diffusion': 'sigma'}),
    ('predictor_corrector', {}),
]


@pytest.fixture(scope='module')
def grids():
    """Returns every grid of a chain, [grids, COUNTS, CHAIN + 1], with zeros at the end of shorter ones."""
    process = PROCESSES['linear']._replace(chain=CHAIN)

    def every():
        return [times.visited(grid, process, steps) for grid in times.GRIDS.values() for steps in COUNTS]

    found = [np.pad(grid, (0, CHAIN + 1 - len(grid))) for grid in jax.jit(every)()]
    return np.reshape(found, (len(times.GRIDS), len(COUNTS), CHAIN + 1))


def test_a_chain_clamps_the_number_of_steps_and_has_equal_times(grids):
    np.testing.assert_array_equal(grids[:, CHAIN:], np.repeat(grids[:, CHAIN - 1 : CHAIN], 2, 1))
    np.testing.assert_allclose(np.round(grids * CHAIN), grids * CHAIN, atol=1e-5)
    repeated = (grids[:, CHAIN - 1, 1:] == grids[:, CHAIN - 1, :-1]).any(1)
    assert {name for name, equal in zip(times.GRIDS, repeated) if equal} >= {'karras', 'even_log_snr', 'quadratic'}


@pytest.mark.parametrize('name, options', EVERY)
def test_samples_are_finite_on_every_grid_with_any_number_of_steps(name, options, grids):
    """Runs all grids of a chain at once. They have equal times, and reach 0 early."""
    process = PROCESSES['linear']
    x, fraction = np.float32([[-3, 0, 3]]), np.float32([[0, 0.5, 1]])
    exact = guidance.clipped(lambda x, t: denoiser(process)(x, t)._replace(fraction=fraction), process)
    solve = functools.partial(samplers.solve, samplers.make(name, **options), exact, process)
    with noise_from(np.ones((CHAIN + 1, 2, 1, 3), np.float32)):
        found = jax.jit(jax.vmap(lambda grid: solve(jnp.asarray(x), grid, None)))(grids.reshape(-1, CHAIN + 1))
    assert np.isfinite(found).all()


@pytest.mark.parametrize('process', ['vp', 'interpolant'])
@pytest.mark.parametrize('name, order', [('ddim', 1), ('euler', 1), ('heun', 2), ('dpm_solver', 2)])
def test_order_of_convergence(name, order, process):
    """Measures the slope of the error against the exact flow map, from t = 0.9 to t = 0.1 in 64 to 256 steps."""
    process, sampler = PROCESSES[process], samplers.make(name)
    step = jax.jit(lambda *place: sampler.step(samplers.Inputs(denoiser(process), process, *place)))
    start = begin(process, FEW, 0.9)
    exact, sizes, found = flow(process, start, jnp.asarray(0.9), jnp.asarray(0.1)), (64, 128, 256), []
    unused = keys(10)
    for steps in sizes:
        x, memory, grid = start, sampler.start(start), np.linspace(0.9, 0.1, steps + 1, dtype=np.float32)
        if name == 'dpm_solver':  # its steps are in log-SNR
            first, last = log_snr(process, jnp.array([0.9, 0.1]))
            grid = np.asarray(process.time(np.linspace(first, last, steps + 1)))
        for t, s in zip(grid[:-1], grid[1:]):
            x, memory = step(x, memory, t, s, unused)
        found.append(np.abs(x - exact).max())
    slope = -np.polyfit(np.log(sizes), np.log(found), 1)[0]
    assert abs(slope - order) < 0.2, (slope, found)


def test_ddim_inverts_and_samples_again():
    """Inverts x to the noise that generates it, and samples x again."""
    process, grid = PROCESSES['vp'], jnp.linspace(0.9, 0.1, 5001)
    solve = jax.jit(functools.partial(samplers.solve, samplers.make('ddim'), denoiser(process), process))
    x = begin(process, FEW, 0.1)
    noise = solve(x, grid[::-1], keys(10))
    np.testing.assert_allclose(noise, flow(process, x, grid[-1], grid[0]), atol=1e-3)
    np.testing.assert_allclose(solve(noise, grid, keys(10)), x, atol=1e-3)


def one_step(name, process, t=0.7, s=0.6, denoise=None, **options):
    step = samplers.make(name, **options).step
    given = samplers.Inputs(denoise or denoiser(process), process, None, (), jnp.float32(t), jnp.float32(s), keys(10))
    return jax.jit(lambda x: step(given._replace(x=x))[0])


@pytest.mark.parametrize('process', ['vp', 've'])
def test_ddim_of_eta_1_is_the_ancestral_sampler(process):
    """Compares values for the same noise and the smallest variance (Song et al. 2021, section 4.1)."""
    process = PROCESSES[process]
    x = begin(process, FEW, 0.7)
    ddim, ancestral = (
        one_step(name, process, **options)(x)
        for name, options in (('ddim', {'eta': 1.0}), ('ancestral', {'variance': 'small'}))
    )
    np.testing.assert_allclose(ddim, ancestral, atol=1e-5)


def test_a_learned_variance_lies_between_the_smallest_and_the_largest():
    """Checks the interpolation of the logarithm (Nichol & Dhariwal 2021, equation 15) per example and per value."""
    process, fraction = PROCESSES['vp'], np.float32(np.linspace(0, 1, 20).reshape(10, 2))
    x = begin(process, FEW, 0.7)
    small, large = (one_step('ancestral', process, variance=variance)(x) for variance in ('small', 'large'))
    learned = one_step(
        'ancestral',
        process,
        variance='learned',
        denoise=lambda x, t: denoiser(process)(x, t)._replace(fraction=fraction),
    )(x)
    np.testing.assert_allclose(learned[0, 0], small[0, 0], atol=1e-6)
    np.testing.assert_allclose(learned[-1, -1], large[-1, -1], atol=1e-6)
    smallest, largest = (float(value) for value in samplers.variances(process, jnp.float32(0.7), jnp.float32(0.6)))
    noise = (large - small) / (largest**0.5 - smallest**0.5)
    deviation = smallest ** (0.5 - fraction / 2) * largest ** (fraction / 2)
    np.testing.assert_allclose(learned - small, (deviation - smallest**0.5) * noise, atol=1e-5)


def test_a_step_of_no_length_changes_nothing():
    """Checks samples, the memory of a multistep solver, and the known part; the noise of other steps is the same."""
    process, x = PROCESSES['linear'], begin(PROCESSES['linear'], FEW)
    between = lambda x, t, keys: x + 1
    short, long = np.float32([1, 0.6, 0.2, 0]), np.float32([1, 1, 0.6, 0.2, 0, 0])
    solve = functools.partial(
        samplers.solve, samplers.make('dpm_solver'), denoiser(process), process, keys=None, between=between
    )
    with noise_from(NOISE[:6, :, :10, :2]):
        found = jax.jit(lambda: [solve(x, times=grid) for grid in (short, long)])()
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_no_variance_is_negative():
    t = jnp.linspace(1e-3, 1, 999)
    names = 'linear', 'cosine', 'vp'
    found = jax.jit(lambda: [samplers.variances(PROCESSES[name], t, t) for name in names])()
    assert np.min(found) >= 0
    assert np.isfinite(samplers.interpolate_variance(jnp.array([0.0, 0.5, 1.0]), jnp.zeros(3), jnp.zeros(3))).all()


def test_ddim_keeps_the_epsilon_of_the_network_or_agrees_with_the_clipped_estimate():
    process, x = PROCESSES['vp'], 3 * begin(PROCESSES['vp'], FEW, 0.7)
    wild = denoiser(process, 0.4, 1.5)
    clip = guidance.clipped(wild, process)
    t, s = jnp.float32(0.7), jnp.float32(0.6)
    kept, agreed = (one_step('ddim', process, denoise=clip, keep_epsilon=keep)(x) for keep in (True, False))
    x0 = np.clip(wild(x, t).x0, -1, 1)
    assert (np.abs(x0) == 1).any()
    recomputed = (x - process.alpha(t) * x0) / process.sigma(t)
    for found, epsilon in ((kept, wild(x, t).epsilon), (agreed, recomputed)):
        np.testing.assert_allclose(found, process.alpha(s) * x0 + process.sigma(s) * epsilon, atol=1e-5)
    same = one_step('ddim', process, denoise=wild, keep_epsilon=True)(x)
    np.testing.assert_array_equal(same, one_step('ddim', process, denoise=wild)(x))


def test_variances_agree_with_ddpm():
    """Compares with beta and beta tilde of DDPM (Ho et al. 2020, equations 2 and 7)."""
    betas = np.linspace(1e-4, 0.02, 1000)
    kept = np.cumprod(1 - betas)
    k = np.array([2, 100, 500, 1000])
    small, large = samplers.variances(PROCESSES['linear'], jnp.float32(k / 1000), jnp.float32((k - 1) / 1000))
    np.testing.assert_allclose(large, betas[k - 1], rtol=2e-3)
    np.testing.assert_allclose(small, betas[k - 1] * (1 - kept[k - 2]) / (1 - kept[k - 1]), rtol=2e-3)


def test_posterior_mean_agrees_with_ddpm():
    """Compares with Ho et al. 2020, equation 7."""
    betas = np.linspace(1e-4, 0.02, 1000)
    kept, k = np.cumprod(1 - betas), 400
    x, x0, t, s = np.float32([0.8, -0.3, 0.4, 0.399])
    mean = jax.jit(functools.partial(samplers.posterior_mean, PROCESSES['linear']))(x, x0, t, s)
    of_x0 = np.sqrt(kept[k - 2]) * betas[k - 1] / (1 - kept[k - 1])
    of_x = np.sqrt(1 - betas[k - 1]) * (1 - kept[k - 2]) / (1 - kept[k - 1])
    np.testing.assert_allclose(mean, of_x0 * -0.3 + of_x * 0.8, rtol=1e-4)


@pytest.mark.parametrize('process', ['linear', 'interpolant'])
def test_churn_preserves_the_distribution(process):
    """Checks that churn gives x at a later time, up to the end of the process, inside its interval only."""
    process = PROCESSES[process]
    churn = jax.jit(lambda x, t, limit: samplers.churned(process, x, t, keys(40), 0.3, 0.0, limit, 1.0))
    for part in (0.5, 0.999, 1.0):
        t = jnp.float32(part * process.end)
        x, later = churn(begin(process, at=t), t, jnp.inf)
        mean, deviation = errors(process, x, later)
        assert abs(mean) < 0.064 and abs(deviation) < 0.045, (part, mean, deviation)
        ratio = [process.sigma(time) / process.alpha(time) for time in (t, later)]
        if part == 0.5:
            np.testing.assert_allclose(ratio[1] / ratio[0], 1.3, rtol=1e-3)
            same, now = churn(begin(process, at=t), t, ratio[0] / 2)
            np.testing.assert_allclose(same, begin(process, at=t), rtol=1e-6)
            assert now == t


def test_the_noise_of_an_example_does_not_depend_on_the_batch():
    process = PROCESSES['interpolant']
    solve = jax.jit(functools.partial(samplers.solve, samplers.make('ancestral'), denoiser(process), process))
    x, own, grid = FEW[:, :1], keys(10), np.float32([1, 0.7, 0.3, 0])
    np.testing.assert_allclose(solve(x, grid, own)[3:5], solve(x[3:5], grid, own[3:5]), rtol=1e-6)
    assert (solve(x, grid, own) != solve(x, grid, keys(10, 1))).all()


def test_noise_is_fresh_at_each_step():
    """Checks that two steps that only add noise add different noise."""
    noise = lambda given: (given.x + normal(given.keys, given.x.shape[1:], 'noise'), given.memory)
    solve = jax.jit(functools.partial(samplers.solve, samplers.Sampler(noise), None, None))
    zero = jnp.zeros((40, 100))
    once = normal(stream(keys(40), 'solver', 1), (100,), 'noise')
    twice = solve(zero, jnp.arange(3.0), keys(40))
    assert abs(np.corrcoef(np.ravel(twice - once), np.ravel(once))[0, 1]) < 0.05 and abs(np.std(twice) - 2**0.5) < 0.05


def test_progress_names_every_step():
    seen = []
    process = PROCESSES['interpolant']
    solve = functools.partial(samplers.solve, samplers.make('euler'), denoiser(process), process)
    grid = np.linspace(1, 0, 8, dtype=np.float32)
    x = jax.jit(lambda x: solve(x, grid, keys(10), progress=lambda number: seen.append(int(number))))(FEW)
    jax.block_until_ready(x)
    jax.effects_barrier()
    assert sorted(seen) == [1, 2, 3, 4, 5, 6, 7]


def test_the_known_part_is_kept_and_the_rest_is_sampled():
    """Checks the known part: exact at the end, with the right noise before; one mask for all channels."""
    process = PROCESSES['vp']
    known = np.full((40, 10, 10), 0.7, np.float32)
    mask = (np.arange(10) < 3).astype(np.float32)[:, None] * np.ones((40, 1, 1), np.float32)
    between = keep_known(process, known, mask)
    start = np.reshape(begin(process), (40, 10, 10))

    def solve():
        sampler, grid = samplers.make('ancestral'), times.karras(process, 100)
        end = samplers.solve(sampler, denoiser(process), process, start, grid, keys(40), between=between)
        return end, between(jnp.asarray(start), jnp.float32(0.4), keys(40))

    end, halfway = jax.jit(solve)()
    np.testing.assert_array_equal(end[:, :3], known[:, :3])
    mean, deviation = errors(process, end[:, 3:])
    assert abs(mean) < 0.08 and abs(deviation) < 0.06
    np.testing.assert_array_equal(halfway[:, 3:], start[:, 3:])
    np.testing.assert_allclose(halfway[:, :3].mean(), 0.7 * process.alpha(0.4), atol=0.08)
    np.testing.assert_allclose(halfway[:, :3].std(), process.sigma(0.4), rtol=0.06)
