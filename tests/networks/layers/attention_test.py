"""Tests attention against the definition, with gradients, and dense layers over tokens against flax's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab.networks.layers.attention import attend
from genlab.networks.layers.dense import Dense


def plain(query, key, value, mask):
    """Attends by the definition, with all scores: [B, N, heads, D]."""
    scores = jnp.einsum('bnhd,bmhd->bhnm', query, key) / np.sqrt(query.shape[-1])
    return jnp.einsum('bhnm,bmhd->bnhd', jax.nn.softmax(jnp.where(mask, scores, -jnp.inf)), value)


@pytest.mark.parametrize('count, masked', [(9, True), (2, False)], ids=['blocks of unequal sizes', 'fewer than blocks'])
def test_causal_attention_is_the_definition(count, masked):
    random = np.random.RandomState(0)
    query, key, value, weights = (random.randn(2, count, 3, 4).astype(np.float32) for _ in range(4))
    allowed = random.rand(count, count) < 0.6 if masked else np.ones((count, count), bool)
    allowed |= np.eye(count, dtype=bool)
    mask = (allowed & np.tri(count, dtype=bool))[None, None]
    given = jnp.asarray(allowed)[None, None] if masked else None

    @jax.jit
    def both(*inputs):
        ways = (lambda *x: attend(*x, given, causal=True), lambda *x: plain(*x, mask))
        found = [jax.vjp(way, *inputs) for way in ways]
        return [(output, *back(weights)) for output, back in found]

    for found, expected in zip(*both(query, key, value)):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_no_gradient_comes_from_a_later_place():
    x = jnp.asarray(np.random.RandomState(0).randn(1, 6, 1, 2), jnp.float32)
    gradients = jax.jit(jax.jacobian(lambda key, value: attend(x, key, value, causal=True)[0, :, 0].sum(-1), (0, 1)))
    for found in gradients(x, x):
        moved = np.abs(found[:, 0, :, 0]).sum(-1) != 0
        np.testing.assert_array_equal(moved | np.eye(6, dtype=bool), np.tri(6, dtype=bool))


def test_attention_to_valid_keys_only():
    """Compares with JAX's function, which also averages all values where no key is valid."""
    random = np.random.RandomState(0)
    query, key, value = (random.randn(2, count, 3, 4).astype(np.float32) for count in (5, 4, 4))
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 0]], bool)[:, None, None]
    ways = jax.jit(lambda *x: (attend(*x, mask), jax.nn.dot_product_attention(*x, mask=mask)))
    np.testing.assert_allclose(*ways(query, key, value), atol=1e-5)


def test_a_dense_layer_over_tokens_is_flax_s():
    x = jnp.asarray(np.random.RandomState(0).randn(2, 3, 4), jnp.float32)
    variables = nn.Dense(5).init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, Dense(5).init(jax.random.key(0), x))
    np.testing.assert_allclose(Dense(5).apply(variables, x), nn.Dense(5).apply(variables, x), atol=1e-6)
