"""Tests the masked family with a network that knows the true distribution, and with a tiny transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.autoregressive import conditions, masking, tokens
from genlab.autoregressive.filters import Filters
from genlab.choices import named
from genlab.conditioning import Conditions
from genlab.errors import ConfigError
from genlab.models import masked
from genlab.networks.autoregressive.masked_transformer import MaskedTransformer

GRID = tokens.codes((2, 2), 3)
P = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.05, 0.9, 0.05], [1 / 3, 1 / 3, 1 / 3]], np.float32)
X = jnp.asarray([[[0, 2], [1, 0]], [[2, 0], [0, 2]]])


class Known(nn.Module):
    """Returns log-probabilities of independent tokens."""

    def __call__(self, x, train=False, keys=None):
        return jnp.broadcast_to(jnp.log(P)[None], (len(x), *P.shape)).reshape(*x.shape, 3)


def model(network, schedule='linear', **changes):
    sampler = masked._iterate(steps=3)
    return masked.Masked(network, GRID, masking.SCHEDULES[schedule], sampler, batch_size=4000)._replace(**changes)


@pytest.mark.parametrize('schedule', ['linear', 'cosine'])
def test_the_bound_of_the_true_distribution_is_the_negative_log_likelihood(schedule):
    expected = -np.log(P[np.arange(4)[None], np.asarray(X).reshape(2, 4)]).sum(1)
    true = model(Known(), schedule, bound_times=4000)
    found = jax.jit(lambda keys: masked.measure(true, {'network': {}}, {'x': X}, keys))
    np.testing.assert_allclose(found(jax.random.split(jax.random.key(0), 2))['nll_bound'], expected, rtol=0.1)


def test_the_bound_in_training_averages_to_the_entropy():
    """Draws examples of the true distribution; its entropy is the mean of the bound over examples and times."""
    random, count = np.random.RandomState(0), 4000
    x = np.stack([random.choice(3, count, p=row / row.sum()) for row in P.astype(np.float64)], 1).reshape(count, 2, 2)
    batch = {'x': jnp.asarray(x), 'position': jnp.arange(count)}
    run = jax.jit(lambda keys: masked.terms(model(Known()), {'network': {}}, batch, keys, jnp.asarray(0))[0]['bound']())
    found = run(jax.random.split(jax.random.key(1), count))
    assert found.shape == (count,)
    np.testing.assert_allclose(found.mean(), -(P * np.log(P)).sum(), rtol=0.1)


@pytest.fixture(scope='module')
def small():
    """Returns a conditional model, its variables and a batch."""
    network = MaskedTransformer((2, 2), 3, width=8, depth=1, heads=1, classes=2)
    made = model(network, 'cosine', conditions=Conditions(2), drop_condition=0.5, smoothing=0.1, batch_size=4)
    batch = {'x': jnp.tile(X, (2, 1, 1)), 'label': jnp.array([0, 1, 0, 1]), 'position': jnp.arange(4)}
    given = masked.networks(made, batch)['network']
    shapes = jax.eval_shape(lambda: given.module.init(jax.random.key(0), *given.inputs, **given.named))
    random = np.random.RandomState(0)
    return (
        made,
        {'network': jax.tree.map(lambda leaf: jnp.asarray(random.randn(*leaf.shape), jnp.float32), shapes)},
        batch,
    )


def test_cross_entropy_is_that_of_the_masked_tokens_with_dropped_labels(small):
    made, variables, batch = small
    keys = jax.random.split(jax.random.key(2), 4)
    network = made.network

    @jax.jit
    def run():
        found = masked.terms(made, variables, batch, keys, jnp.asarray(0))[0]['cross_entropy']()
        mask = masking.mask_some(keys, made.schedule(masked.uniform(keys, (), 'share')), 4).reshape(4, 2, 2)
        label = jax.nn.one_hot(jnp.where(conditions.dropped(keys, 0.5), 2, batch['label']), 2)
        logits = network.apply(variables['network'], jnp.where(mask, 3, batch['x']), label=label)
        return found, mask, jax.nn.log_softmax(logits)

    found, mask, log_p = jax.tree.map(np.asarray, run())
    target = 0.9 * np.eye(3)[np.asarray(batch['x'])] + 0.1 / 3
    np.testing.assert_allclose(found, -((target * log_p).sum(-1) * mask).sum((1, 2)), rtol=1e-4)


def test_samples_keep_what_is_known_and_do_not_depend_on_the_batch(small):
    made, variables, batch = small
    keys = jax.random.split(jax.random.key(3), 4)
    mask = np.zeros((4, 4, 4, 1))
    mask[:, :2, :2] = 1  # the first place, at twice the resolution

    @jax.jit
    def run(batch, mask, keys):
        return masked.inpaint(made, variables, batch, mask, keys, {'label': batch['label']})

    found = run(batch, mask, keys)
    np.testing.assert_array_equal(found[:, 0, 0], batch['x'][:, 0, 0])
    assert found.shape == (4, 2, 2) and found.min() >= 0 and found.max() < 3
    part = jax.tree.map(lambda leaf: leaf[1:3], batch)
    np.testing.assert_array_equal(run(part, mask[1:3], keys[1:3]), found[1:3])


def test_guidance_mixes_conditional_and_null_logits(small):
    """In one greedy step, samples are the likeliest tokens of the mixed logits."""
    made, variables, batch = small
    labels, keys = jnp.array([0, 1, 2, 0]), jax.random.split(jax.random.key(4), 4)
    greedy = made._replace(filtered=Filters(temperature=0.0, guidance=4.0), sampler=masked._iterate(steps=1))

    @jax.jit
    def run():
        found = masked.sample(greedy, variables, keys, {'label': labels})
        logits = lambda label: made.network.apply(variables['network'], jnp.full((4, 2, 2), 3), label=label)
        null = logits(jnp.zeros((4, 2)))
        return found, null + 4 * (logits(jax.nn.one_hot(labels, 2)) - null)

    found, logits = run()
    np.testing.assert_array_equal(found, logits.argmax(-1))


def test_from_config_binds_the_sampler_and_refuses_contradictions():
    settings = dict(
        model=masked.settings(named('masked_transformer')) | {'classes': 0},
        sample=masked.sampling(sampler=named('denoise', steps=5), top_p=0.9),
        data={'batch_size': 8},
        seed=3,
    )
    build = lambda **changes: masked.from_config(
        ConfigDict({**settings, **changes}, type_safe=False), Known(), tokens.codes((2, 2), 3)
    )
    made = build()
    assert made.sampler.func is masking.denoise and made.sampler.keywords == {'steps': 5}
    assert (made.filtered.top_p, made.drop_condition, made.smoothing, made.seed) == (0.9, 0.0, 0.1, 3)
    for changes, message in (
        ({'model': settings['model'] | {'schedule': 'cosin'}}, 'config.model.schedule'),
        ({'model': settings['model'] | {'smoothing': 1.0}}, 'config.model.smoothing=1.0'),
        ({'sample': masked.sampling(sampler=named('denoise', noise=1.0))}, 'config.sample.sampler.noise'),
        ({'sample': masked.sampling(sampler=named('iterate', steps=0))}, 'config.sample.sampler.steps=0'),
        ({'sample': masked.sampling(guidance=2.0)}, 'needs a condition'),
    ):
        with pytest.raises(ConfigError, match=message):
            build(**changes)
