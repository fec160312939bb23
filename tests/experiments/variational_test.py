"""Tests the variational experiment: exact bounds, names of measures, classes, and terms over several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genlab import config as configs
from genlab import experiment
from genlab.choices import named
from genlab.config import small
from genlab.errors import ConfigError
from genlab.losses.divergences import importance_bound
from genlab.models.variational import settings
from genlab.training.optimizers import sgd
from genlab.training.players import example_keys
from support.runs import FILES, module_of, resolved

CONFIGS = {path.stem: module_of(path) for path in FILES}
build = experiment.load('variational')


def points(**terms):
    """Returns a VAE of points without hidden layers: a linear Gaussian model with known likelihood."""
    config = configs.defaults('variational')
    config.data.update(source='toy', name='moons', observe='point')
    networks, likelihood = named('dense', features=()), named('gaussian', scale=1.0)
    known = dict(dimensions=2, importance=8, examples=100, free_bits=0.1)
    config.model.update(settings(networks, latent_size=3, likelihood=likelihood, **known))
    config.losses.vae = terms or dict(reconstruction=1.0, kl=1.0)
    config.optimizer.vae = sgd(0.1)
    config.train.order = ('vae',)
    return config


def batch_of(count):
    x = jax.random.normal(jax.random.key(5), (count, 2)) / 2
    return {'x': x, 'position': jnp.arange(count)}, jax.random.split(jax.random.key(6), count)


@pytest.fixture(scope='module')
def linear():
    model = build(points())
    batch, keys = batch_of(4)
    variables = jax.jit(model.init)(batch, jax.random.key(0)).variables()
    near = jax.tree.map(lambda leaf: leaf / 2, variables)  # posteriors close to the prior, so that no weight dominates
    return model, near, batch, keys


@pytest.fixture(scope='module')
def log_weights(linear):
    """Returns log weights [samples, B]."""
    model, variables, batch, keys = linear
    many = jax.vmap(lambda key: jax.random.split(key, 4000), out_axes=1)(keys)
    return np.asarray(
        jax.jit(jax.vmap(lambda keys: model.likelihood.log_weight(variables, batch, keys)))(many), np.float64
    )


def test_the_bound_of_many_samples_is_the_known_log_likelihood(linear, log_weights):
    """Compares with the density of x = W z + b + noise, N(b, W W' + I)."""
    layer = jax.device_get(linear[1]['decoder']['params']['MLP_0']['Dense_0'])
    law = stats.multivariate_normal(layer['bias'], layer['kernel'].T @ layer['kernel'] + np.eye(2))
    np.testing.assert_allclose(importance_bound(jnp.asarray(log_weights)), law.logpdf(linear[2]['x']), atol=0.1)


def test_the_mean_log_weight_is_the_evidence_lower_bound(linear, log_weights):
    """Uses the closed form of a linear model: the square at the mean, plus the variance transformed by W."""
    _, variables, batch, _ = linear
    variables, x = jax.device_get(variables), np.asarray(batch['x'], np.float64)
    up, down = variables['encoder']['params']['MLP_0']['Dense_0'], variables['decoder']['params']['MLP_0']['Dense_0']
    mean, log_variance = np.split(x @ up['kernel'] + up['bias'], 2, 1)
    square = np.square(x - mean @ down['kernel'] - down['bias']).sum(1)
    square += (np.exp(log_variance) @ np.square(down['kernel'])).sum(1)
    expected = -square / 2 - np.log(2 * np.pi) - (mean**2 + np.exp(log_variance) - log_variance - 1).sum(1) / 2
    error = 5 * log_weights.std(0) / len(log_weights) ** 0.5
    assert (np.abs(log_weights.mean(0) - expected) < error).all()


def terms(config, batch, key):
    """Returns the metrics of a first step, and the keys of its examples."""
    model = build(config)
    state = jax.jit(model.init)(batch, jax.random.key(0))
    metrics = jax.jit(model.step)(state, jax.tree.map(lambda leaf: leaf[None], batch), key)[1]
    keys = example_keys(jax.random.fold_in(jax.random.fold_in(key, 0), 0), batch['position'])
    return {name.removeprefix('vae/'): value for name, value in metrics.items()}, model, state.variables(), keys


def test_the_importance_weighted_term_is_the_bound_of_its_samples():
    batch, _ = batch_of(64)
    config, values = points(importance_weighted=1.0, reconstruction=0.0, kl=0.0), []
    for config.model.importance in (1, 32):
        metrics, model, variables, keys = terms(config, batch, jax.random.key(1))
        values.append(metrics['importance_weighted'])
    np.testing.assert_allclose(
        values[0], -model.likelihood.log_weight(variables, batch, keys).mean(), rtol=1e-5
    )  # the same draw
    assert values[1] < values[0] - 0.05


def test_every_term_is_offered_and_the_parts_of_the_kl_sum_to_it():
    names = ('reconstruction', 'kl', 'free_bits_kl', 'mutual_information', 'total_correlation', 'dimension_kl')
    metrics = terms(points(**dict.fromkeys(names, 1.0)), *[batch_of(2048)[0], jax.random.key(2)])[0]
    np.testing.assert_allclose(
        sum(metrics[name] for name in names[3:]), metrics['kl'], rtol=0.1
    )  # one sample per example
    assert metrics['kl'] <= metrics['free_bits_kl'] + 1e-4 and 'gradient_norm' in metrics


def test_terms_of_the_whole_batch_are_the_same_on_two_devices():
    """Covers total correlation and free bits, which use examples of all devices, and their gradients."""
    config, key = (
        points(total_correlation=2.0, mutual_information=1.0, dimension_kl=1.0, free_bits_kl=1.0),
        jax.random.key(3),
    )
    batch, _ = batch_of(6)
    whole, split = build(config), build(config, 'devices')
    state = jax.jit(whole.init)(batch, jax.random.key(0))
    one, metrics = jax.jit(whole.step)(state, jax.tree.map(lambda leaf: leaf[None], batch), key)
    halves = jax.tree.map(lambda leaf: leaf.reshape(2, 1, 3, *leaf.shape[1:]), batch)
    step = jax.vmap(split.step, (None, 0, None), axis_name='devices')
    two, metrics_of_two = jax.tree.map(lambda leaf: leaf[1], jax.jit(step)(state, halves, key))
    for a, b in zip(jax.tree.leaves((one, metrics)), jax.tree.leaves((two, metrics_of_two)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'likelihood, data, expected',
    [
        ('bernoulli', dict(binarise=True), True),
        ('bernoulli', {}, False),
        ('bernoulli', dict(dequantise=True), False),
        ('discretized_logistic', {}, True),
        ('discretized_logistic', dict(dequantise=True), False),
        ('gaussian', {}, False),
        ('gaussian', dict(dequantise=True), True),
    ],
)
def test_only_a_likelihood_of_the_data_gives_nll_bound(likelihood, data, expected):
    config = small(CONFIGS['vae'].get_config())
    config.model.likelihood, config.data.binarise = named(likelihood), False
    config.data.update(data)
    model = build(config)
    assert (model.likelihood is not None) == expected
    x = jnp.zeros((2, 16, 16, 1))
    variables = jax.eval_shape(model.init, {'x': x}, jax.random.key(0)).variables()
    names = jax.eval_shape(model.measure, variables, {'x': x}, jax.random.split(jax.random.key(0), 2))
    assert ('nll_bound' in names) == expected == ('negative_elbo' not in names)


def test_a_density_of_dequantised_images_is_given_in_nats_of_their_levels():
    config, bounds = small(CONFIGS['vae'].get_config()), []
    config.model.likelihood, config.data.binarise = named('gaussian'), False
    batch = {'x': jnp.zeros((2, 16, 16, 1))}
    for config.data.dequantise in (False, True):
        model = build(config)
        variables = jax.jit(model.init)(batch, jax.random.key(0)).variables()
        measures = model.measure(variables, batch, jax.random.split(jax.random.key(1), 2))
        bounds.append(measures['nll_bound' if config.data.dequantise else 'negative_elbo'])
    np.testing.assert_allclose(bounds[1] - bounds[0], 256 * np.log(128), rtol=1e-5)


def test_classes_are_the_condition_and_a_part_of_the_code():
    model = build(resolved(small(CONFIGS['conditional_vae'].get_config())))
    batch = {'x': jnp.zeros((3, 16, 16, 1)), 'label': jnp.array([7, 0, 9])}
    variables, keys = jax.jit(model.init)(batch, jax.random.key(0)).variables(), jax.random.split(jax.random.key(1), 3)
    np.testing.assert_array_equal(model.codec.encode(variables, batch)[:, -10:].argmax(1), batch['label'])
    codes = model.codec.prior(variables, keys)
    np.testing.assert_array_equal(codes[:, -10:].sum(1), 1)
    labelled = jnp.concatenate([codes[:, :-10], jax.nn.one_hot(batch['label'], 10)], 1)
    np.testing.assert_allclose(
        model.sampler.sample(variables, keys, {'label': batch['label']}),
        model.codec.decode(variables, labelled),
        atol=1e-6,
    )


def test_points_are_sampled_with_the_noise_of_the_likelihood():
    model = build(points())
    batch, keys = batch_of(1000)
    variables = jax.jit(model.init)(batch, jax.random.key(0)).variables()
    noise = jax.jit(model.sampler.sample)(variables, keys, {}) - model.codec.decode(
        variables, model.codec.prior(variables, keys)
    )
    assert stats.kstest(np.asarray(noise).ravel(), 'norm', (0, 1)).pvalue > 0.01


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda config: config.losses.update(vae=dict(free_bits_kl=1.0)),
            'vae.free_bits_kl needs config.model.free_bits',
        ),
        (
            lambda config: config.model.likelihood.update(name='poisson'),
            "likelihood='poisson': choose one of bernoulli",
        ),
        (lambda config: config.model.update(dimensions=2), "points need 'gaussian'"),
        (lambda config: config.model.networks.update(name='deep'), "networks='deep': choose one of dense"),
    ],
)
def test_incompatible_settings_are_refused(change, message):
    config = CONFIGS['vae'].get_config()
    change(config)
    with pytest.raises(ConfigError, match=message):
        build(config)
