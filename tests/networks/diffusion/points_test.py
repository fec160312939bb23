"""Tests the network for points: zero initialisation, the effect of each input, and outputs by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.diffusion.points import PointNetwork
from genlab.networks.layers.embedding import sinusoidal
from genlab.run.describe import count

NETWORK = PointNetwork((16, 16, 8), classes=3, span=True)


@pytest.fixture(scope='module')
def inputs():
    return {
        'x': jnp.array([[1.0, 2.0], [-1.0, 0.5]]),
        'level': jnp.array([1.0, 500.0]),
        'labels': jnp.array([0, 2]),
        'span': jnp.array([3.0, 300.0]),
    }


@pytest.fixture(scope='module')
def fresh(inputs):
    return jax.jit(lambda: NETWORK.init(jax.random.key(0), train=True, **inputs))()


@pytest.fixture(scope='module')
def variables(fresh):
    noise = np.random.RandomState(2)
    return jax.tree.map(lambda leaf: leaf + 0.3 * noise.randn(*leaf.shape).astype(np.float32), fresh)


@pytest.fixture(scope='module')
def output(variables, inputs):
    return apply(variables, inputs)


@jax.jit
def apply(variables, inputs):
    return NETWORK.apply(variables, train=False, **inputs)


def test_count(fresh):
    embedding, labels = 64 * 16 + 16 + 16 * 16 + 16, 4 * 16
    layers = sum(fan_in * width + width + 16 * width for fan_in, width in [(2, 16), (16, 16), (16, 8)])
    assert count(fresh) == 2 * embedding + labels + layers + 8 * 2 + 2


def test_a_new_network_predicts_zero(fresh, inputs):
    assert not apply(fresh, inputs).any()


def test_numbers_by_hand(variables, inputs, output):
    params = jax.tree.map(np.asarray, variables['params'])
    silu = lambda x: x / (1 + np.exp(-x))
    dense = lambda tree, x: x @ tree['kernel'] + tree.get('bias', 0)
    embed = lambda tree, values: dense(
        tree['Dense_1'], silu(dense(tree['Dense_0'], np.asarray(sinusoidal(values, 64))))
    )
    condition = embed(params['level'], inputs['level']) + embed(params['span'], inputs['span'])
    condition = silu(condition + params['label']['embedding'][[0, 2]])
    x = np.asarray(inputs['x'])
    for number in range(3):
        layer = params[f'layer_{number}']
        y = silu(dense(layer['dense'], x) + dense(layer['condition'], condition))
        x = x + y if number == 1 else y
    np.testing.assert_allclose(output, dense(params['output'], x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', ['x', 'level', 'labels', 'span'])
def test_each_input_changes_its_own_example_only(variables, inputs, output, name):
    other = apply(variables, {**inputs, name: inputs[name].at[1].add(1)})
    np.testing.assert_allclose(other[0], output[0], atol=1e-5)
    assert jnp.abs(other[1] - output[1]).max() > 1e-3


def test_a_missing_label_is_the_last_class_and_a_missing_span_is_zero(variables, inputs):
    without = apply(variables, {**inputs, 'labels': None, 'span': None})
    said = apply(variables, {**inputs, 'labels': jnp.array([3, 3]), 'span': jnp.zeros(2)})
    np.testing.assert_allclose(without, said, atol=1e-5)


def test_remat_and_bfloat16(variables, inputs, output):
    def loss(variables, network):
        y = network.apply(variables, train=True, **inputs)
        return jnp.square(y).mean(), y

    gradients, again = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)(variables, NETWORK.copy(remat=True))
    np.testing.assert_allclose(again, output, atol=1e-5)
    assert all(gradient.any() for gradient in jax.tree.leaves(gradients))
    rough = jax.jit(loss, static_argnums=1)(variables, NETWORK.copy(dtype='bfloat16'))[1]
    assert rough.dtype == jnp.float32
    assert 0 < jnp.abs(rough - output).max() < 0.1 * jnp.abs(output).max()


def test_another_number_of_channels(inputs):
    network = PointNetwork((4,), channels=5)
    assert jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), inputs['x'], inputs['level'], False))[
        0
    ].shape == (2, 5)
