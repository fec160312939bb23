"""Tests Boltzmann machines in training: placements, exact gradients, starts, likelihoods, clamped units, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import expit

from genlab import data, experiment
from genlab.classical import boltzmann as functions
from genlab.config import small
from genlab.errors import ConfigError
from genlab.models import boltzmann
from genlab.sampling import drawing
from genlab.training import optimizers
from genlab.training.optimizers import sgd
from genlab.training.players import example_keys
from support.runs import FILES, Trained, module_of, with_sgd

MODULE = next(module_of(path) for path in FILES if path.stem == 'rbm')


def tiny(variant='', **model):
    """Returns a small config of 4x4 bars and stripes with two hidden units, which has an exact likelihood."""
    config = small(MODULE.get_config(variant))
    config.data.update(source='bars', resolution=4)
    config.model.update(latent_size=2)
    config.model.update(model)
    config.train.steps_per_call = 1
    return config


def shown(count):
    """Returns a batch of bars and stripes, and its keys."""
    config = tiny()
    return drawing.examples(config)(np.arange(count)), drawing.keys(0, 0, count)


@pytest.fixture(scope='module')
def chained():
    """Returns the state after two steps of PCD on several placements, one with microbatches, and the config."""
    config = with_sgd(tiny('persistent'), 0.5)
    parts = config.copy_and_resolve_references()
    parts.train.microbatches = 2
    runs = {
        'one': Trained(config, 'pmap', jax.devices()[:1]),
        'fsdp': Trained(config, 'fsdp'),
        'pmap': Trained(parts, 'pmap'),
    }
    return {name: (run.start, run.run((run.start, run.zero), 0, 2)[0]) for name, run in runs.items()}, config


@pytest.mark.parametrize('name', ['pmap', 'fsdp'])
def test_persistent_chains_and_parameters_do_not_depend_on_the_devices(chained, name):
    states, config = chained
    (start, one), (_, other) = states['one'], states[name]
    chains = [state.stats['machine']['chains']['visible'] for state in (start, one, other)]
    before, first, second = map(np.asarray, chains)
    assert before.shape == (config.data.batch_size, 16) and (before != first).any(1).all()  # every chain moved
    np.testing.assert_array_equal(first, second)
    for shard in chains[2].addressable_shards:
        np.testing.assert_array_equal(shard.data, second)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params)):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_gradient_with_exact_negatives_is_that_of_the_likelihood():
    """Persistent chains that are exact draws stay exact draws: the terms contrastive and nll then have one gradient."""
    config = tiny()
    config.data.update(resolution=2)  # four pixels
    model, chains = boltzmann.from_config(config)._replace(persistent=True), 10_000
    draw = np.random.default_rng(0)
    shapes = {'weights': (4, 2), 'visible': (4,), 'hidden': (2,)}
    params = {name: jnp.asarray(draw.standard_normal(shape), jnp.float32) for name, shape in shapes.items()}
    theta = boltzmann.parameters({'params': params})
    states, law = functions.probabilities(lambda v: -model.machine.free_energy(theta, v), 4)
    exact = states[draw.choice(16, chains, p=np.asarray(law, np.float64) / np.asarray(law, np.float64).sum())]
    v = jnp.tile(states[jnp.array([3, 5, 5, 14])], (chains // 4, 1))
    position = jnp.arange(chains)
    keys = example_keys(jax.random.key(0), position)

    def loss(params, term):
        own = {'params': params, 'chains': {'visible': exact}}
        value = boltzmann.machine_terms(model, 'machine', own, v, position, keys)[term]()
        return (value[0] if isinstance(value, tuple) else value).mean()

    contrast, likelihood = jax.jit(lambda params: [jax.grad(loss)(params, term) for term in ('contrastive', 'nll')])(
        params
    )
    for name in params:
        np.testing.assert_allclose(contrast[name], likelihood[name], atol=5 / np.sqrt(chains))
        assert np.abs(likelihood[name]).max() > 0.05


def test_weights_of_a_full_machine_stay_symmetric_without_a_diagonal():
    """Updates by momentum and weight decay, from the gradient of the objective."""
    config = tiny('full')
    model, optimizer = boltzmann.from_config(config), optimizers.build(sgd(0.5, momentum=0.9, weight_decay=0.1))
    draw = np.random.default_rng(0)
    params = {'pairs': draw.standard_normal(153), 'bias': draw.standard_normal(18)}
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    v, keys = jnp.asarray(draw.integers(0, 2, (8, 16)), jnp.float32), drawing.keys(0, 0, 8)

    @jax.jit
    def updated(params):
        def loss(params):
            own = {'params': params, 'chains': {'visible': v[::-1]}}
            terms = boltzmann.machine_terms(model, 'machine', own, v, jnp.arange(8), keys)
            return terms['contrastive']()[0].mean()

        updates, _ = optimizer.update(jax.grad(loss)(params), optimizer.init(params), params)
        params = optax.apply_updates(params, updates)
        states = jnp.concatenate([v, v[:, :2]], 1)
        return params, functions.symmetric(params['pairs'], 18), functions.full_energy(functions.Full(**params), states)

    after, weights, energy = jax.device_get(updated(params))
    assert (after['pairs'] != params['pairs']).all()
    np.testing.assert_array_equal(weights, weights.T)
    assert not np.diag(weights).any() and np.count_nonzero(weights) == 18 * 17
    states = np.concatenate([v, v[:, :2]], 1)
    expected = [-s @ weights @ s / 2 - after['bias'] @ s for s in states]
    np.testing.assert_allclose(energy, expected, rtol=1e-4)


def test_densities_of_gaussian_units_are_over_the_pixels():
    """Integrates exp(log_density) over one pixel in [-1, 1], whose deviation is far from 1."""
    config = tiny('gaussian', deviation=0.1)
    model = boltzmann.restricted(config, None, (1,), 2, visible='gaussian')
    assert model.comparable
    draw = np.random.default_rng(0).standard_normal
    own = {'params': {'weights': draw((1, 2)), 'visible': draw(1), 'hidden': draw(2)}}
    own = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), own)
    x = np.linspace(-2, 2, 20_001, dtype=np.float32)
    density = np.exp(boltzmann.log_density(model, own, boltzmann.states(model, jnp.asarray(x)[:, None])))
    assert density.sum(dtype=np.float64) * (x[1] - x[0]) == pytest.approx(1, abs=1e-3)


def test_a_run_starts_with_the_frequencies_of_the_pixels():
    config = MODULE.get_config()
    model, source = boltzmann.from_config(config), data.load(config.data)
    share = source.rows(np.arange(len(source)))['image'].reshape(1500, 64).astype(np.float64).mean(0) / 255
    base = boltzmann.base_rates(model, source, 'image')
    np.testing.assert_allclose(expit(base), (1500 * share + 1) / 1502, rtol=1e-4)
    gaussian = boltzmann.from_config(MODULE.get_config('gaussian'))
    np.testing.assert_allclose(boltzmann.base_rates(gaussian, source, 'image') * 0.4, 2 * share - 1, atol=1e-5)


@pytest.fixture(scope='module')
def begun():
    """Returns (experiment, state with the base rates of digits and random weights)."""
    config = tiny()
    model, batch = experiment.load('rbm')(config), shown(8)[0]
    config.data.source = 'digits'
    state = model.start(jax.jit(model.init)(batch, jax.random.key(0)), data.load(config.data), None)
    weights = jax.random.normal(jax.random.key(1), (16, 2))
    return model, state.replace(params={'machine': {**state.params['machine'], 'weights': weights}})


def test_the_start_sets_the_biases_of_the_visible_units(begun):
    _, state = begun
    biases = np.asarray(state.params['machine']['visible'])
    assert biases.min() < -1 and np.isfinite(biases).all()  # the corners of digits are dark
    np.testing.assert_array_equal(state.stats['machine']['buffers']['base_rates'], biases)


def test_inpainting_keeps_the_known_pixels_and_samples_are_means(begun):
    model, state = begun
    batch, keys = shown(8)
    mask = np.ones((8, 4, 4, 1), np.float32)
    mask[:, :, 2:] = 0
    one, two = (
        np.asarray(jax.jit(model.sampler.inpaint)(state.variables(), {**batch, 'x': x}, mask, keys, {}))
        for x in (batch['x'], np.where(mask > 0, batch['x'], -batch['x']))
    )
    np.testing.assert_array_equal(one[:, :, :2], batch['x'][:, :, :2])
    np.testing.assert_array_equal(one, two)  # what is unknown is not read
    assert set(np.unique(one)) == {-1, 1} and (one[:, :, 2:] != batch['x'][:, :, 2:]).any()
    drawn = np.asarray(jax.jit(model.sampler.sample)(state.variables(), keys, {}))
    assert drawn.shape == (8, 4, 4, 1) and (np.abs(drawn) < 1).all()


def test_probabilities_of_all_images_sum_to_one(begun):
    model, state = begun
    states = functions.states_of(16)
    log_likelihood = jax.jit(model.likelihood.exact)
    nats = log_likelihood(state.variables(), {'x': (2 * states - 1).reshape(-1, 4, 4, 1)}, None)
    assert float(jax.nn.logsumexp(nats)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    'variant, change, message',
    [
        ('full', {'model.latent_size': 11}, 'at most 10'),
        ('gaussian', {'model.deviation': 0.0}, 'above 0'),
        ('', {'model.gibbs_steps': 0}, 'at least 1'),
        ('', {'model.dtype': 'bfloat16'}, 'leave float32'),
    ],
)
def test_settings_that_cannot_work_are_refused(variant, change, message):
    config = MODULE.get_config(variant)
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=message):
        boltzmann.from_config(config)


def test_grey_images_have_no_likelihood_in_binary_units():
    config = MODULE.get_config()
    config.data.binarise = False
    assert experiment.load('rbm')(config).likelihood is None
    assert experiment.load('rbm')(MODULE.get_config()).likelihood.exact is None  # 64 and 64 units
