"""Tests one-step models on Gaussian data, whose flow is known, and their random draws against the papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy.special import erf

from genlab import experiment
from genlab.diffusion import denoising, one_step, times
from genlab.diffusion.processes import interpolant, like, ve
from genlab.diffusion.samplers import Sampler, solve
from genlab.errors import ConfigError
from genlab.models import one_step as models
from genlab.sampling import drawing
from support.runs import FILES, module_of

MEAN, DEVIATION, LOWEST = 0.4, 0.5, 0.002
CONFIGS = {path.stem: module_of(path) for path in FILES if path.stem in ('meanflow', 'shortcut', 'consistency')}


def moments(process, t, x):
    """Returns (mean, standard deviation) of x_t, with the number of axes of x."""
    alpha, sigma = like(process.alpha(t), x), like(process.sigma(t), x)
    return alpha * MEAN, jnp.hypot(alpha * DEVIATION, sigma)


def flow(process, x, t, s):
    """Returns the probability flow of Gaussian data, which preserves the standard score."""
    (centre, spread), (to, deviation) = moments(process, t, x), moments(process, s, x)
    return to + deviation * (x - centre) / spread


def velocity(x, t):
    return jax.jvp(lambda s: flow(interpolant(), x, t, s), (t,), (jnp.ones_like(t),))[1]


def average(x, t, span):
    """Returns the exact mean velocity from t to t - span."""
    jumped = (x - flow(interpolant(), x, t, t - span)) / like(jnp.where(span > 0, span, 1), x)
    return jnp.where(like(span, x) > 0, jumped, velocity(x, t))


def consistent(x, sigma):
    """Returns the exact consistency function."""
    return flow(ve(), x, sigma, jnp.full_like(sigma, LOWEST))


def points(count=64, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(MEAN, 1, (count, 2)), jnp.float32)


def test_the_exact_average_velocity_is_its_own_mean_flow_target():
    x, t = points(), jnp.linspace(0.3, 1, 64)
    for span in (0.5 * t, t, jnp.zeros_like(t)):
        u, target = one_step.mean_flow(average, x, velocity(x, t), t, span)
        np.testing.assert_allclose(u, average(x, t, span), atol=1e-6)
        np.testing.assert_allclose(target, u, atol=1e-5)


def test_no_gradient_flows_into_a_mean_flow_target():
    def target(scale):
        x, t = points(), jnp.linspace(0.3, 1, 64)
        return one_step.mean_flow(lambda *where: scale * average(*where), x, velocity(x, t), t, t / 2)[1].sum()

    assert jax.grad(target)(1.0) == 0


def test_the_exact_average_velocity_is_its_own_shortcut_target():
    x, span = points(), jnp.repeat(0.5 ** jnp.arange(4), 16)
    t = span * (1 + jnp.arange(64) % (1 / span))
    np.testing.assert_allclose(one_step.shortcut_target(average, x, t, span, 1 / 256), average(x, t, span), atol=1e-5)
    shortest = one_step.shortcut_target(average, x, t, jnp.full_like(span, 1 / 8), 1 / 8)  # two steps of Euler
    there = x - velocity(x, t) / 16
    np.testing.assert_allclose(shortest, (velocity(x, t) + velocity(there, t - 1 / 16)) / 2, atol=1e-6)


def test_jumps_follow_the_flow_for_any_number_of_steps():
    x, keys = points(), jax.random.split(jax.random.key(0), 64)
    for steps in (1, 3):
        landed = solve(Sampler(one_step.jump), average, interpolant(), x, times.even(interpolant(), steps), keys)
        np.testing.assert_allclose(landed, flow(interpolant(), x, jnp.ones(64), jnp.zeros(64)), atol=1e-5)


def test_the_exact_consistency_function_is_constant_along_a_path():
    """Checks pairs on one line, and pairs that are a chord of a path."""
    standard, larger, smaller = points() - MEAN, jnp.linspace(0.5, 80, 64), jnp.linspace(0.1, 60, 64)
    far, near = (MEAN + standard * moments(ve(), sigma, standard)[1] for sigma in (larger, smaller))
    epsilon = (far - near) / like(larger - smaller, far)
    student, teacher = one_step.consistency(consistent, far - like(larger, far) * epsilon, epsilon, larger, smaller)
    np.testing.assert_allclose(student, teacher, atol=1e-4)
    np.testing.assert_allclose(student, MEAN + standard * np.hypot(DEVIATION, LOWEST), atol=1e-4)


def test_the_boundary_condition_is_exact():
    x, prediction = points(), points(seed=1)
    at_boundary = one_step.with_boundary(prediction, x, jnp.full(64, LOWEST), DEVIATION, LOWEST)
    np.testing.assert_array_equal(at_boundary, x)
    far = one_step.with_boundary(prediction, x, jnp.full(64, 80.0), DEVIATION, LOWEST)
    skip, out = 0.25 / (79.998**2 + 0.25), 0.5 * 79.998 / np.sqrt(80**2 + 0.25)
    np.testing.assert_allclose(far, skip * x + out * prediction, rtol=1e-5)


def test_the_number_of_intervals_doubles():
    count = jax.jit(functools.partial(one_step.intervals, steps=8000, first=10, last=1280))
    found = [int(count(step)) for step in (0, 999, 1000, 2500, 6999, 7000, 7999)]
    assert found == [10, 10, 20, 40, 640, 1280, 1280]
    assert int(one_step.intervals(jnp.asarray(3), 4, 10, 1280)) == 80  # fewer steps than doublings
    assert int(one_step.intervals(jnp.asarray(99), 100, 10, 50)) == 50  # limited by the last


def test_the_schedule_of_intervals_does_not_depend_on_the_run_if_it_has_steps(monkeypatch):
    """Checks the length that reaches the schedule: that of the run, or its own."""
    seen = []
    monkeypatch.setattr(one_step, 'intervals', lambda step, steps, first, last: seen.append((step, steps)) or 10.0)
    config = CONFIGS['consistency'].get_config('moons')
    for steps, begin in ((0, 0), (400, 0), (400, 100)):
        config.model.one_step.intervals.update(steps=steps, begin=begin)
        jumper = models.from_config(config)
        x = points(8)
        models.consistency_terms(jumper, lambda x, sigma: x, x, x, jnp.linspace(0, 0.9, 8), 150)
    assert [(int(step), steps) for step, steps in seen] == [(150, 6000), (150, 400), (50, 400)]
    with_ramps = [
        name for name in CONFIGS if isinstance(CONFIGS[name].get_config().model.one_step.intervals, ConfigDict)
    ]
    assert with_ramps == ['consistency']  # the runs of the others can be prolonged


def test_pairs_are_neighbours_with_the_probabilities_of_the_paper():
    u, count, mean, deviation = (jnp.arange(100_000) + 0.5) / 100_000, 20, -1.1, 2.0
    draw = jax.jit(functools.partial(one_step.draw_pair, lowest=LOWEST, highest=80.0, rho=7.0))
    larger, smaller = draw(u, jnp.asarray(count), mean, deviation)
    grid = (LOWEST ** (1 / 7) + np.arange(count + 1) / count * (80 ** (1 / 7) - LOWEST ** (1 / 7))) ** 7
    index = np.abs(np.log(np.asarray(smaller))[:, None] - np.log(grid)).argmin(1)
    np.testing.assert_allclose(smaller, grid[index], rtol=1e-4)
    np.testing.assert_allclose(larger, grid[index + 1], rtol=1e-4)
    likely = np.diff(erf((np.log(grid) - mean) / (np.sqrt(2) * deviation)))
    np.testing.assert_allclose(np.bincount(index, minlength=count) / len(index), likely / likely.sum(), atol=1e-4)


def test_the_chosen_share_is_spread_over_the_batch():
    for share, each in ((0.25, 4), (0.5, 2), (1.0, 1)):
        found = np.asarray(one_step.chosen(jnp.arange(64), share)).reshape(-1, each)
        assert (found.sum(1) == 1).all()  # one of any `each` neighbours, on any device
    assert one_step.chosen(jnp.arange(100), 0.75).sum() == 75 and one_step.chosen(jnp.arange(100), 0.0).sum() == 0


def test_jumps_are_powers_of_two_at_multiples_of_their_length():
    keys = jax.random.split(jax.random.key(0), 4000)
    t, span = jax.jit(jax.vmap(lambda key, u: one_step.draw_jump(key, u, 3)))(keys, jnp.linspace(0, 0.9999, 4000))
    sizes, counts = np.unique(span, return_counts=True)
    assert sizes.tolist() == [1 / 8, 1 / 4, 1 / 2, 1] and (np.abs(counts - 1000) < 100).all()
    assert (t % span == 0).all() and (t >= span).all() and t.max() == 1


def exact_prediction(model, variables, process, x, t, condition, train=False, keys=None):
    """Returns the prediction of an exact network."""
    if model.settings.prediction == 'velocity':
        return average(x, t, condition['span']), None
    zero, one = (one_step.with_boundary(jnp.full_like(x, value), x, t, 0.5, LOWEST) for value in (0, 1))
    return (consistent(x, t) - zero) / (one - zero), None


@pytest.mark.parametrize('name', CONFIGS)
def test_an_exact_network_samples_the_data_in_one_step(name, monkeypatch):
    monkeypatch.setattr(denoising, 'predict', exact_prediction)
    config = CONFIGS[name].get_config('moons')
    keys, made = drawing.keys(0, 0, 4000), []
    for config.sample.steps in (1, 3):
        model = experiment.load('one_step')(config.copy_and_resolve_references())
        made.append(jax.jit(model.sampler.sample)({}, keys, {}))
        noise = model.codec.prior({}, keys[:8])
        measured = model.measure({}, {'x': MEAN + DEVIATION * points()[:8]}, keys[:8])
    for points_made in made:
        np.testing.assert_allclose(points_made.mean(0), MEAN, atol=0.03)
        np.testing.assert_allclose(points_made.std(0), DEVIATION, rtol=0.04)
    if name != 'consistency':  # which adds noise between steps
        np.testing.assert_allclose(made[0], made[1], atol=1e-5)
        np.testing.assert_allclose(model.codec.decode({}, noise), made[0][:8], atol=1e-5)
        assert measured['jump_error'].max() < 1e-8


@pytest.mark.parametrize('key, value', [('prediction', 'v'), ('level', 'log_sigma'), ('network.span', False)])
def test_incompatible_settings_are_refused(key, value):
    config = CONFIGS['shortcut'].get_config()
    config.model.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match='config.model'):
        experiment.load('one_step')(config)


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_moons_in_one_evaluation(name, tmp_path):
    from learning_test import judged

    figures = judged(tmp_path, CONFIGS[name].get_config('moons'))
    assert figures['sliced_wasserstein'] < 0.1  # 0.02 for real data, 0.35 for noise
