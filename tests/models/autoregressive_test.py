"""Tests the autoregressive family on tiny grids, where all examples can be enumerated."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from genlab.autoregressive import conditions, filters, tokens
from genlab.autoregressive.filters import Filters
from genlab.choices import named
from genlab.conditioning import Conditions
from genlab.errors import ConfigError
from genlab.models import autoregressive
from genlab.networks.autoregressive.transformer import Transformer

GRID = tokens.codes((1, 3), 2)
NETWORK = Transformer((1, 3), 2, width=8, depth=1, heads=1, classes=2, words=3, length=2)
MODEL = autoregressive.Autoregressive(
    NETWORK, autoregressive.categorical(GRID), conditions=Conditions(2, 3), drop_condition=0.5, joint=True
)
GREEDY = MODEL._replace(values=autoregressive.categorical(GRID, Filters(temperature=0.0)))
ALL = np.array([*itertools.product(range(2), repeat=3)], np.int32).reshape(8, 1, 3)


@pytest.fixture(scope='module')
def batch():
    """Returns all grids under one condition."""
    return {'x': jnp.asarray(ALL), 'label': jnp.full(8, 1), 'caption': jnp.tile(jnp.array([[2, 0]]), (8, 1))}


@pytest.fixture(scope='module')
def variables(batch):
    network = autoregressive.networks(MODEL, batch)['network']
    shapes = jax.eval_shape(lambda: network.module.init(jax.random.key(0), *network.inputs, **network.named))
    random = np.random.RandomState(0)
    return {'network': jax.tree.map(lambda leaf: jnp.asarray(0.7 * random.randn(*leaf.shape), jnp.float32), shapes)}


@pytest.fixture(scope='module')
def keys():
    return jax.random.split(jax.random.key(3), 8)


@pytest.fixture(scope='module')
def nll(variables, batch, keys):
    """Returns measurements of all grids under the condition and under the null condition."""
    null = {'x': batch['x'], 'label': jnp.full(8, 2), 'caption': jnp.zeros((8, 2), jnp.int32)}
    measure = jax.jit(lambda batch: autoregressive.measure(MODEL, variables, batch, keys))
    return jax.tree.map(np.asarray, (measure(batch), measure(null)))


def test_probabilities_of_all_grids_sum_to_one(nll):
    for found in nll:
        np.testing.assert_allclose(np.exp(-found['nll']).sum(), 1, rtol=1e-5)
    assert np.abs(nll[0]['nll'] - nll[1]['nll']).max() > 1e-2  # the condition matters


def test_probabilities_of_all_captions_sum_to_one(variables, keys):
    captions = jnp.asarray([*itertools.product(range(3), repeat=2)])
    batch = {'x': jnp.zeros((9, 1, 3), jnp.int32), 'label': jnp.zeros(9, jnp.int32), 'caption': captions}
    found = jax.jit(lambda: autoregressive.measure(MODEL, variables, batch, keys))()['caption_nll']
    np.testing.assert_allclose(np.exp(-found).sum(), 1, rtol=1e-5)


def test_terms_are_the_likelihoods_of_grid_and_caption(variables, batch, keys, nll):
    offered, _ = jax.jit(lambda: autoregressive.terms(MODEL, variables, batch, keys, jnp.asarray(0)))()
    lost = np.asarray(conditions.dropped(keys, 0.5))
    assert 0 < lost.sum() < 8
    expected = np.where(lost, nll[1]['nll'], nll[0]['nll'])
    np.testing.assert_allclose(offered['cross_entropy'], expected, rtol=1e-4)
    np.testing.assert_allclose(offered['image'], expected / 3, rtol=1e-4)
    np.testing.assert_allclose(offered['text'], np.where(lost, 0, nll[0]['caption_nll'] / 2 / 0.5), rtol=1e-4)


def test_samples_follow_the_likelihood_and_not_the_batch(variables, nll):
    count = 4000
    keys = jax.random.split(jax.random.key(5), count)

    @jax.jit
    def run(keys):
        condition = {'label': jnp.full(len(keys), 1), 'caption': jnp.tile(jnp.array([[2, 0]]), (len(keys), 1))}
        return autoregressive.sample(MODEL, variables, keys, condition)

    found = np.asarray(run(keys))
    assert found.shape == (count, 1, 3) and found.dtype == np.int32
    shares = np.bincount(found.reshape(-1, 3) @ [4, 2, 1], minlength=8) / count
    np.testing.assert_allclose(shares, np.exp(-nll[0]['nll']), atol=0.03)
    np.testing.assert_array_equal(run(keys[:3]), found[:3])


def test_guidance_samples_from_mixed_logits(variables, batch, keys):
    """Compares greedy samples with a search through full passes."""
    model = GREEDY._replace(guidance=3.0)
    condition = {name: batch[name] for name in ('label', 'caption')}
    condition['label'] = jnp.arange(8) % 3
    found = jax.jit(lambda: autoregressive.sample(model, variables, keys, condition))()
    named = conditions.embed(MODEL.conditions, condition)
    logits = jax.jit(lambda x, named: NETWORK.apply(variables['network'], x, **named).reshape(8, 3, 2))
    with_condition, without = (logits(found, case) for case in (named, conditions.null(named)))
    expected = filters.guide(with_condition, without, 3.0).argmax(-1)
    assert (expected != with_condition.argmax(-1)).any()
    np.testing.assert_array_equal(found[:, 0], expected)


def test_complete_keeps_what_is_known(variables, batch, keys):
    mask = np.broadcast_to(np.array([0, 1, 0])[None, None, :, None], (8, 1, 3, 1))
    condition = {name: batch[name] for name in ('label', 'caption')}
    found = jax.jit(lambda: autoregressive.inpaint(GREEDY, variables, batch, mask, keys, condition))()
    np.testing.assert_array_equal(found[:, :, 1], batch['x'][:, :, 1])
    rows = {tuple(row) for row in found[:, 0].tolist()}
    assert len(rows) == 2 and len({row[0] for row in rows}) == 1  # the known place changes what is after it only


def test_tokens_of_levels_and_known_places():
    binary = tokens.levels((1, 2))
    x = jnp.array([[[[-1.0], [1.0]]]])
    np.testing.assert_array_equal(binary.enter(x), [[[0, 1]]])
    np.testing.assert_array_equal(binary.leave(binary.enter(x)), x)
    grey = tokens.levels((1, 4), 256)
    x = (jnp.array([0, 1, 128, 255])[None, None, :, None] / 255) * 2 - 1
    np.testing.assert_array_equal(grey.enter(x), [[[0, 1, 128, 255]]])
    mask = np.ones((1, 4, 4, 1))
    mask[0, 0, 3] = 0
    assert tokens.known_places(mask, (2, 2)).tolist() == [[True, False, True, True]]


def test_null_condition_is_what_dropping_gives(keys):
    named = conditions.embed(Conditions(3, 5), {'label': jnp.array([0, 3]), 'caption': jnp.ones((2, 4), jnp.int32)})
    np.testing.assert_array_equal(named['label'], [[1, 0, 0], [0, 0, 0]])
    found = conditions.drop({**named, 'context': jnp.ones((2, 1, 1))}, jnp.array([True, False]))
    null = conditions.null(named)
    for name in named:
        np.testing.assert_array_equal(found[name], [null[name][0], named[name][1]])
    np.testing.assert_array_equal(found['context'], np.ones((2, 1, 1)))


def config(**sample):
    model = autoregressive.settings(named('transformer'))
    return ConfigDict({'model': model | {'classes': 2}, 'sample': autoregressive.sampling(**sample)})


def test_from_config_reads_the_filters_and_refuses_contradictions():
    build = lambda config, **changes: autoregressive.from_config(
        config, NETWORK, autoregressive.categorical(GRID)._replace(**changes)
    )
    model = build(config(guidance=2.0))
    assert (model.guidance, model.drop_condition, model.conditions) == (2.0, 0.1, Conditions(2, 0))
    assert autoregressive.sampling_filters(config(top_k=3, temperature=0.5)) == Filters(0.5, 3)
    with pytest.raises(ConfigError, match='config.sample.top_p=2.0'):
        build(config(top_p=2.0))
    with pytest.raises(ConfigError, match='predicts logits'):
        build(config(guidance=2.0), mixes=False)
    for key, value, message in (('drop_condition', 0.0, 'null condition'), ('classes', 0, 'needs a condition')):
        wrong = config(guidance=2.0)
        wrong.model[key] = value
        with pytest.raises(ConfigError, match=message):
            build(wrong)
        wrong.sample.guidance = 1.0
        build(wrong)
