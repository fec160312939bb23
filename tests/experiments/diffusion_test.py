"""Tests diffusion models as experiments, beyond the battery, on points and tiny images."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import diffusion
from genlab import experiment
from genlab.choices import named
from genlab.config import small
from genlab.diffusion import bounds, denoising, generation, settings
from genlab.diffusion.model import make_model
from genlab.errors import ConfigError
from genlab.models import diffusion as models
from genlab.sampling import drawing
from genlab.training.players import example_keys
from support.runs import FILES, made_up, module_of


def config_of(name, variant='', **model):
    config = small(module_of(next(path for path in FILES if path.stem == name)).get_config(variant))
    config.model.update(model)
    return config


def started(config):
    """Returns (experiment, batch, variables without zeros, keys) of a config."""
    built, batch = experiment.load(config.experiment)(config), drawing.examples(config)(np.arange(8))
    state = made_up(lambda: built.init(batch, jax.random.key(0)))
    return built, batch, state.variables(), example_keys(jax.random.key(1), jnp.arange(8))


@pytest.fixture(scope='module')
def ddpm():
    config = config_of('ddpm')
    return config, *started(config)


@pytest.fixture(scope='module')
def toy():
    config = config_of('diffusion_toy', 'flow')
    return config, *started(config)


def losses(config, terms):
    """Returns the mean of each of `terms` in a step of a config, from the same initial state."""
    with config.unlocked():
        config.losses.denoiser = dict.fromkeys(terms, 0.0) | {terms[0]: 1.0}
    built, batch = experiment.load(config.experiment)(config), drawing.examples(config)(np.arange(8))
    state = jax.jit(built.init)(batch, jax.random.key(0))
    _, metrics = jax.jit(built.step)(state, jax.tree.map(lambda leaf: leaf[None], batch), jax.random.key(2))
    return {term: float(metrics[f'denoiser/{term}']) for term in terms}


def test_a_new_network_predicts_zero_and_the_terms_are_the_sizes_of_their_targets():
    """Uses points of unit variance: E|epsilon|^2 = E|x_0|^2 = 1, E|epsilon - x_0|^2 = 2."""
    config = config_of('diffusion_toy', 'flow')
    config.data.batch_size = 8
    found = losses(config, ('velocity', 'min_snr'))
    assert found['velocity'] == pytest.approx(2, abs=1.2)
    assert np.isfinite(found['min_snr'])


def test_the_same_error_in_two_predictions_differs_by_a_weight():
    """Expects factors (1 - t)^2 for epsilon and t^2 for x_0 where the network predicts the velocity."""
    config = config_of('diffusion_toy', 'flow')
    config.model.times = named('discrete', steps=1)  # all at the end, where t = 1
    found = losses(config, ('velocity', 'x0', 'epsilon'))
    assert found['x0'] == pytest.approx(found['velocity'], rel=1e-5)
    assert found['epsilon'] == pytest.approx(0, abs=1e-6)


def test_codes_decode_to_the_data(toy):
    config, built, batch, variables, _ = toy
    config = config.copy_and_resolve_references()
    config.sample.steps = 200
    built = experiment.load(config.experiment)(config)
    codes = jax.jit(built.codec.encode)(variables, batch)
    np.testing.assert_allclose(jax.jit(built.codec.decode)(variables, codes), batch['x'], atol=0.02)
    assert np.abs(codes - batch['x']).max() > 0.1


def test_inpainting_keeps_the_known_part_and_resamples_the_rest(ddpm):
    _, built, batch, variables, keys = ddpm
    mask = np.ones((8, 16, 16, 1), np.float32)
    mask[:, :, 8:] = 0
    made = np.asarray(jax.jit(built.sampler.inpaint)(variables, batch, mask, keys, {}))
    np.testing.assert_allclose(made[:, :, :8], batch['x'][:, :, :8], atol=1e-3)
    assert np.abs(made[:, :, 8:] - batch['x'][:, :, 8:]).mean() > 0.1


def test_image_to_image_with_little_noise_changes_little(ddpm):
    config, _, batch, variables, keys = ddpm
    config = config.copy_and_resolve_references()
    changes = []
    for strength in (0.02, 0.9):
        config.sample.strength = strength
        made = jax.jit(experiment.load(config.experiment)(config).sampler.image_to_image)(variables, batch, keys, {})
        changes.append(float(np.abs(made - batch['x']).mean()))
    assert changes[0] < 0.2 < changes[1]


@pytest.mark.parametrize(
    'change',
    [
        dict(sampler=named('heun', churn=0.2), grid=named('karras', rho=5.0), steps=3),
        dict(sampler=named('dpm_solver', stochastic=True)),
        dict(process='ve', grid=named('karras')),
        dict(guidance=3.0, guidance_to=1.0),
    ],
    ids=str,
)
def test_a_network_works_with_every_sampler(ddpm, change):
    config, _, _, variables, keys = ddpm
    config = config.copy_and_resolve_references()
    config.sample.update(change)
    made = jax.jit(experiment.load(config.experiment)(config).sampler.sample)(variables, keys, {})
    assert made.shape == (8, 16, 16, 1) and np.isfinite(made).all()


def test_the_network_sees_the_steps_of_a_chain_counted_from_0():
    """Expects (k - 1) 1000 / T, as in DDPM and improved DDPM; continuous times are seen as they are."""
    seen = []

    def apply(variables, x, level, train, keys):
        seen.append(np.asarray(level))
        return x

    config = config_of('ddpm')
    for times, process in (
        (named('discrete', steps=1000), ''),
        (named('discrete', steps=4000), ''),
        (named('discrete', steps=1000), 've'),
        (named('uniform'), ''),
    ):
        config.model.times, config.sample.process = times, process
        model = make_model(config, (2,))._replace(network=SimpleNamespace(apply=apply))
        t = jnp.array([0.001, 0.5, 1.0])
        denoising.predict(model, {'denoiser': {}}, model.process({}), jnp.zeros((3, 2)), t, {})
    expected = [0, 499, 999], [0.75, 499.75, 999.75], [0, 499, 999], [1, 500, 1000]
    np.testing.assert_allclose(seen, expected, atol=1e-3)


@pytest.mark.parametrize('steps', [1000, 4000])
def test_the_variance_term_is_the_bound_of_the_whole_chain(steps, monkeypatch):
    """Expects T times the bound of a step in bits per dimension, the scale of L_vlb with weight 0.001."""
    config = config_of('improved_ddpm')
    config.model.process.steps = config.model.times.steps = steps
    diffusion = models.from_config(config, models.pixels(config))
    zeros = lambda model, variables, process, x, t, condition, **rest: (jnp.zeros_like(x), jnp.zeros_like(x))
    monkeypatch.setattr(denoising, 'predict', zeros)
    monkeypatch.setattr(bounds, 'step', lambda process, x0, *rest: jnp.ones(len(x0)))
    batch = {'x': jnp.zeros((8, 16, 16, 1)), 'position': jnp.arange(8)}
    term = models.terms(diffusion, {}, batch, example_keys(jax.random.key(1), jnp.arange(8)), 0)[0]['variance']
    np.testing.assert_allclose(term(), steps / (256 * np.log(2)), rtol=1e-6)


def test_image_to_image_starts_at_the_first_time_of_the_grid():
    """Checks a chain of 10 steps at a strength of 0.65, and a grid whose first time is before the end."""
    config = config_of('ddpm')
    config.model.times.steps = 10
    begun = []
    for name in ('even', 'leading'):
        config.sample.update(sampler=named('ddim'), grid=named(name), steps=3)
        network = SimpleNamespace(apply=lambda variables, x, level, train, keys: x)
        model = make_model(config, (2,))._replace(network=network)
        start = lambda process, t, keys: begun.append(t) or jnp.zeros((1, 2))
        grid = generation.grid(model, generation.shortened(model.process({}), 0.65))
        keys = jax.random.split(jax.random.key(0), 1)
        generation.generate(model, {'denoiser': {}}, keys, {}, start=start, part=0.65)
        np.testing.assert_allclose(begun[-1], grid[0])
    np.testing.assert_allclose(begun, [0.7, 0.5])


def test_more_steps_than_a_chain_has_are_clamped_with_one_line(capsys):
    config = config_of('ddpm')
    config.model.times.steps, config.sample.steps = 7, 9
    for _ in range(2):
        model = models.from_config(config, models.pixels(config)).model
    assert len(generation.grid(model, model.process({}))) == 8
    assert capsys.readouterr().err.splitlines() == [
        'genlab: warning: config.sample.steps=9: there are 7 discrete times, so samples take 7 steps'
    ]


def test_augmentation_and_its_condition_apply_in_training_only(monkeypatch):
    config = config_of('edm', augmentation=0.9)
    with pytest.raises(ConfigError, match='config.model.network.augmentation=9'):
        diffusion.build(config)
    config.model.network.augmentation = 9
    batch, keys = drawing.examples(config)(np.arange(8)), example_keys(jax.random.key(1), jnp.arange(8))
    seen, augmentations = [], []

    def listen(model, variables, process, x, t, condition, *more, **rest):
        seen.append(x)
        augmentations.append(condition.get('augmentation'))
        return jnp.zeros_like(x), None

    monkeypatch.setattr(denoising, 'predict', listen)

    def train():
        objective = partial(models.terms, models.from_config(config, models.pixels(config)))
        return np.asarray(jax.jit(lambda: (objective({}, batch, keys, 0), seen[-1])[1])())

    moved, numbers = train(), augmentations.pop()
    assert numbers.shape == (8, 9)
    model = diffusion.build(config)
    jax.eval_shape(lambda: (model.measure({}, batch, keys), model.sampler.sample({}, keys, {})))
    augment = partial(models.augment, models.from_config(config, models.pixels(config)))
    difference = jax.jit(augment)(batch['x'], keys)[0] - batch['x']
    config.model.augmentation = 0.0
    still = train()
    np.testing.assert_allclose(moved - still, difference, atol=1e-3)
    assert len(augmentations) > 2 and set(augmentations) == {None}
    assert np.abs(moved - still).max((1, 2, 3)).min() > 0.1


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(prediction='noise'), 'epsilon, x0, v'),
        (dict(bound=named('all')), "config.model.bound='all': choose one of none, discrete, continuous"),
        (dict(learned_variance=True), 'need each other'),
        (dict(level='gamma'), 'log_sigma'),
    ],
    ids=str,
)
def test_incompatible_settings_are_refused_in_one_line(change, words):
    config = config_of('ddpm', **change)
    with pytest.raises(ConfigError, match=words):
        started(config)


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(sampler=named('euler_marujama')), 'euler_maruyama'),
        (dict(sampler=named('ode', solver='rk4')), 'config.sample.sampler.solver=.rk4.: choose one of euler'),
        (dict(sampler=named('euler_maruyama', diffusion='beta')), 'choose one of process, sigma'),
        (dict(sampler=named('ancestral', variance='tiny')), 'choose one of small, large, learned'),
        (dict(sampler=named('ancestral', variance='learned')), 'the network learns none'),
        (dict(sampler=named('euler_maruyama')), "set it to 'sigma'"),
        (dict(sampler=named('euler_maruyama'), process='interpolant'), "set it to 'sigma'"),
        (dict(sampler=named('ddim', churn=0.1)), 'config.sample.sampler.churn: ddim has no such option; it has eta'),
        (dict(grid=named('leading')), "'leading' numbers the steps of a chain, .* set it to 'even'"),
        (
            dict(grid=named('karras', sigma=0.1)),
            'config.sample.grid.sigma: karras has no such option; it has lowest, rho',
        ),
    ],
    ids=str,
)
def test_impossible_sampling_is_refused_before_training(change, words):
    config = config_of('flow_matching')
    config.sample.update(change)
    with pytest.raises(ConfigError, match=words):
        experiment.load('diffusion')(config)


def test_settings_that_suit_the_interpolant_are_accepted():
    config = config_of('flow_matching')
    for square, process in (('sigma', ''), ('process', 've')):
        config.sample.update(sampler=named('euler_maruyama', diffusion=square), process=process)
        assert experiment.load('diffusion')(config).sampler


def test_unknown_options_are_named():
    config = config_of('ddpm')
    config.model.process = named('cosine', first=1.0)
    with pytest.raises(
        ConfigError, match='config.model.process.first: cosine has no such option; it has offset, steps'
    ):
        started(config)
    with pytest.raises(ConfigError, match='config.model.speed'):
        settings.model(named('points'), speed=3)
    config = config_of('ddpm')
    config.model.network.update(depth=3)
    with pytest.raises(ConfigError, match='config.model.network.depth: unet has no such option'):
        started(config)
