"""Tests equalised layers, pixel normalisation, and the minibatch standard deviation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genlab.networks.layers.equalized import EqualizedConv, EqualizedDense, minibatch_deviation, pixel_norm


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_an_equalised_layer_changes_the_update_and_not_the_output():
    """With kernel w / c and output constant c, one Adam step of rate r moves the output c times as far."""
    x, layer = normal(0, 16, 64), EqualizedDense(8, gain=2.0, use_bias=False)
    params = layer.init(jax.random.key(0), x)['params']
    constant = 2 / 64**0.5
    plain = params['kernel'] * constant
    np.testing.assert_allclose(layer.apply({'params': params}, x), x @ plain, atol=1e-5)
    assert abs(float(jnp.std(params['kernel'])) - 1) < 0.1

    def moved(loss, params):
        optimizer = optax.adam(0.01)
        updates, _ = optimizer.update(jax.grad(loss)(params), optimizer.init(params))
        return updates

    equalised = moved(lambda params: layer.apply({'params': params}, x).sum(), params)['kernel'] * constant
    ordinary = moved(lambda kernel: (x @ kernel).sum(), plain)
    np.testing.assert_allclose(equalised, ordinary * constant, rtol=1e-4)


@pytest.mark.parametrize('multiplier', [1.0, 0.01])
def test_outputs_have_the_gain_whatever_the_learning_rate(multiplier):
    x = normal(1, 256, 128)
    layer = EqualizedDense(64, gain=1.5, multiplier=multiplier, bias=1.0)
    params = layer.init(jax.random.key(1), x)['params']
    y = layer.apply({'params': params}, x) - multiplier
    assert abs(float(jnp.std(y)) - 1.5) < 0.1
    np.testing.assert_array_equal(params['bias'], np.ones(64))


def test_a_convolution_has_the_gain():
    x = normal(2, 8, 8, 8, 32)
    layer = EqualizedConv(16, gain=1.0)
    y = layer.apply(layer.init(jax.random.key(2), x), x)[:, 1:-1, 1:-1]
    assert abs(float(jnp.std(y)) - 1) < 0.1


def test_pixel_norm():
    y = pixel_norm(7 * normal(3, 2, 4, 4, 16))
    np.testing.assert_allclose(np.square(y).mean(-1), 1, rtol=1e-5)


def test_minibatch_deviation_by_hand():
    x = np.zeros((4, 1, 1, 2), np.float32)
    x[:2, 0, 0] = [[1, 5], [3, 5]]  # deviations 1 and 0
    x[2:, 0, 0] = [[0, 0], [4, 8]]  # deviations 2 and 4
    y = minibatch_deviation(jnp.asarray(x), 2)
    np.testing.assert_array_equal(y[..., :2], x)
    np.testing.assert_allclose(y[:, 0, 0, 2], [0.5, 0.5, 3, 3], atol=1e-3)
    assert minibatch_deviation(jnp.asarray(x[:2]), 4).shape == (2, 1, 1, 3)
    with pytest.raises(ValueError, match='groups of 3 examples do not divide the 4 examples'):
        minibatch_deviation(jnp.asarray(x), 3)
