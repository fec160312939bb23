"""Tests attention by distances and to a text: closed forms, the scale of logits, masks, gradients at equal places."""

import jax
import jax.numpy as jnp
import numpy as np

from genlab.networks.layers.equalized_attention import DistanceAttention, TextAttention, distance_logits

NAMES = 'query_key', 'value', 'output'


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_logits_are_scaled_squared_distances():
    query, key = normal(0, 2, 3, 2, 4), normal(1, 2, 5, 2, 4)
    found = distance_logits(query, key)
    assert found.shape == (2, 2, 3, 5)
    for b, h, n, m in np.ndindex(found.shape):
        squared = np.square(query[b, n, h] - key[b, m, h]).sum()
        np.testing.assert_allclose(found[b, h, n, m], -squared / np.sqrt(32), rtol=1e-5, atol=1e-6)


def test_logits_of_random_places_have_unit_variance():
    found = distance_logits(normal(2, 4, 64, 1, 32), normal(3, 4, 64, 1, 32))
    np.testing.assert_allclose(jnp.std(found), 1, atol=0.1)


def test_self_attention_is_the_mean_of_values_weighted_by_distances():
    x, layer = normal(4, 2, 5, 4), DistanceAttention(heads=1)
    variables = {'params': {name: {'kernel': normal(7 + n, 4, 4)} for n, name in enumerate(NAMES)}}
    tied, value, output = (variables['params'][name]['kernel'] / 2 for name in NAMES)
    weights = jax.nn.softmax(distance_logits((x @ tied)[:, :, None], (x @ tied)[:, :, None])[:, 0])
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(layer.apply(variables, x) ** 2)))
    np.testing.assert_allclose(layer.apply(variables, x), weights @ (x @ value) @ output, atol=1e-5)
    np.testing.assert_array_equal(weights.argmax(-1), [range(5)] * 2)  # a query is its own key
    assert np.isfinite(
        gradient(jnp.broadcast_to(x[:, :1], x.shape))
    ).all()  # distances of 0 have no root to differentiate


def test_padding_of_a_text_is_not_seen():
    x, context, layer = normal(5, 2, 3, 4), normal(6, 2, 6, 8), TextAttention(heads=2)
    mask = jnp.arange(6)[None] < jnp.array([[4], [6]])
    sizes = {'query': 4, 'key': 8, 'value': 8, 'output': 4}
    variables = {'params': {name: {'kernel': normal(size, size, 4)} for name, size in sizes.items()}}
    apply = jax.jit(lambda context: layer.apply(variables, x, context, mask))
    found, seen = apply(context), mask[..., None]
    np.testing.assert_allclose(apply(jnp.where(seen, context, 9.0)), found, atol=1e-5)
    assert not np.allclose(apply(jnp.where(seen, context + 1, context)), found, atol=1e-3)
