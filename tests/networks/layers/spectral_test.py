"""Tests spectral normalisation against the singular value decomposition."""

import jax
import jax.numpy as jnp
import numpy as np

from genlab.networks.layers.spectral import SpectralConv, SpectralDense, largest_singular_value


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_power_iteration_finds_the_largest_singular_value_and_its_gradient():
    matrix, u = normal(0, 12, 5), normal(1, 5)
    value, u = largest_singular_value(matrix, u / jnp.linalg.norm(u), 100)
    left, values, right = np.linalg.svd(np.asarray(matrix))
    np.testing.assert_allclose(value, values[0], rtol=1e-5)
    np.testing.assert_allclose(abs(u @ right[0]), 1, rtol=1e-5)
    gradient = jax.grad(lambda matrix: largest_singular_value(matrix, u, 1)[0])(matrix)
    np.testing.assert_allclose(gradient, np.outer(left[:, 0], right[0]), atol=1e-4)


def test_the_vector_moves_in_training_only_and_the_norm_is_one():
    layer, x = SpectralConv(6), normal(2, 2, 4, 4, 3)
    variables = layer.init(jax.random.key(0), x, False)
    _, moved = layer.apply(variables, x, True, mutable=['spectral'])
    assert not np.array_equal(moved['spectral']['u'], variables['spectral']['u'])
    _, kept = layer.apply(variables, x, False, mutable=['spectral'])
    np.testing.assert_array_equal(kept['spectral']['u'], variables['spectral']['u'])
    kernel = np.asarray(variables['params']['kernel']).reshape(-1, 6)
    scaled = {**variables, 'params': {**variables['params'], 'kernel': 100 * variables['params']['kernel']}}
    np.testing.assert_allclose(layer.apply(scaled, x, False), layer.apply(variables, x, False), rtol=1e-4, atol=1e-6)
    unit = np.eye(27, dtype=np.float32).reshape(27, 3, 3, 3)
    response = SpectralConv(6, padding='VALID').apply(variables, jnp.asarray(unit), False).reshape(27, 6)
    np.testing.assert_allclose(np.linalg.svd(response)[1][0], 1, rtol=1e-2)
    np.testing.assert_allclose(response, kernel / np.linalg.svd(kernel)[1][0], atol=1e-2)


def test_a_dense_layer_is_1_lipschitz():
    layer, x = SpectralDense(7), normal(3, 9, 5)
    variables = layer.init(jax.random.key(1), x, False)
    matrix = layer.apply(variables, jnp.eye(5), False) - layer.apply(variables, jnp.zeros((5, 5)), False)
    np.testing.assert_allclose(np.linalg.svd(matrix)[1][0], 1, rtol=1e-3)
