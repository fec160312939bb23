"""Tests variational diffusion: the released count, initialisation and inputs of the U-Net, and a monotone schedule."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.diffusion.vdm import MonotoneSchedule, VariationalUNet, fourier
from genlab.run.describe import count

NETWORK = VariationalUNet(width=8, depth=1, classes=3, dropout=0.5, groups=4)


@pytest.fixture(scope='module')
def inputs():
    x = np.random.RandomState(0).randn(2, 4, 4, 2).astype(np.float32)
    return {
        'x': jnp.array(x),
        'level': jnp.array([10.0, 500.0]),
        'labels': jnp.array([0, 2]),
        'span': jnp.array([0.5, 1.0]),
    }


@pytest.fixture(scope='module')
def fresh(inputs):
    return jax.jit(lambda: NETWORK.init(jax.random.key(0), train=True, **inputs))()


@pytest.fixture(scope='module')
def variables(fresh):
    """Returns variables without zeros, unlike the initial ones."""
    noise = np.random.RandomState(2)
    return jax.tree.map(lambda leaf: leaf + 0.3 * noise.randn(*leaf.shape).astype(np.float32), fresh)


@pytest.fixture(scope='module')
def output(variables, inputs):
    return apply(variables, inputs)


@jax.jit
def apply(variables, inputs):
    return NETWORK.apply(variables, train=True, **inputs)


def shapes(network, side=4, channels=2):
    return jax.eval_shape(
        lambda: network.init(jax.random.key(0), jnp.zeros((2, side, side, channels)), jnp.zeros(2), False)
    )


def test_the_released_network_and_its_schedule_have_the_released_count():
    network = shapes(VariationalUNet(), 32, 3)
    line, wide = (
        jax.eval_shape(MonotoneSchedule(width=width).init, jax.random.key(0), jnp.zeros(1)) for width in (0, 1024)
    )
    assert count(network) == 30_578_179
    assert count(network) + count(line) == 30_578_181
    assert count(wide) == 2 + 3 * 1024


def test_attention_follows_every_block_except_the_last_of_the_middle():
    one = 2 * 8 + 4 * (8 * 8 + 8)
    assert count(shapes(NETWORK.copy(attention=True))) == count(shapes(NETWORK)) + 3 * one


def test_a_new_network_returns_its_input(fresh, inputs):
    np.testing.assert_array_equal(apply(fresh, inputs), inputs['x'])


@pytest.mark.parametrize('name', ['x', 'level', 'labels', 'span'])
def test_each_input_changes_its_own_example_only(variables, inputs, output, name):
    other = apply(variables, {**inputs, name: inputs[name].at[1].add(1)})
    np.testing.assert_allclose(other[0], output[0], atol=1e-4)
    assert jnp.abs(other[1] - output[1]).max() > 1e-2


def test_a_missing_label_is_the_last_class_and_a_missing_span_is_zero(variables, inputs):
    without = apply(variables, {**inputs, 'labels': None, 'span': None})
    said = apply(variables, {**inputs, 'labels': jnp.array([3, 3]), 'span': jnp.zeros(2)})
    np.testing.assert_allclose(without, said, atol=1e-4)


def test_remat_drops_the_same_numbers_and_every_weight_learns(variables, inputs, output):
    def loss(variables, keys):
        y = NETWORK.copy(remat=True).apply(variables, train=True, keys=keys, **inputs)
        return jnp.square(y).mean(), y

    keys = jax.random.split(jax.random.key(0), 2)
    plain = apply(variables, {**inputs, 'keys': keys})
    gradients, again = jax.jit(jax.grad(loss, has_aux=True))(variables, keys)
    np.testing.assert_allclose(again, plain, atol=1e-4)
    assert jnp.abs(plain - output).max() > 0.1  # something was dropped
    assert all(gradient.any() for gradient in jax.tree.leaves(gradients))


@pytest.mark.parametrize('train', [False, True])
def test_dropout_is_off_outside_training(variables, inputs, train):
    keys = jax.random.split(jax.random.key(0), 2)
    program = jax.make_jaxpr(lambda keys: NETWORK.apply(variables, train=train, keys=keys, **inputs))(keys)
    assert ('random_unwrap' in str(program)) == train  # drawing reads the words of the keys


def test_bfloat16_gives_float32_and_keeps_the_fourier_features_exact(variables, inputs, output):
    network = NETWORK.copy(dtype='bfloat16')
    rough = jax.jit(lambda: network.apply(variables, train=False, **inputs))()
    assert rough.dtype == jnp.float32
    assert 0 < jnp.abs(rough - output).max() < 0.1 * jnp.abs(output).max()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes(network)))


def test_fourier_features_have_periods_of_one_and_two_grey_levels():
    x = np.linspace(-1, 1, 500, dtype=np.float32)[:, None]
    features, shifted = fourier(x), fourier(x + 2 / 256)  # images in [-1, 1]: one grey level is 2 / 256
    assert features.shape == (500, 4)
    np.testing.assert_allclose(
        features,
        np.stack([wave(2.0**n * np.pi * np.float64(x[:, 0])) for wave in (np.sin, np.cos) for n in (7, 8)], 1),
        atol=1e-3,
    )
    np.testing.assert_allclose(features[:, 1::2], shifted[:, 1::2], atol=1e-3)
    np.testing.assert_allclose(features[:, ::2], -shifted[:, ::2], atol=1e-3)


@pytest.mark.parametrize('width', [0, 1024])
def test_a_new_schedule_is_linear_between_its_ends(width):
    t = jnp.linspace(0, 1, 11)
    gamma = jax.jit(lambda: MonotoneSchedule(width=width).init_with_output(jax.random.key(0), t)[0])()
    np.testing.assert_allclose(gamma[jnp.array([0, -1])], [-13.3, 5.0], rtol=1e-6)
    np.testing.assert_allclose(gamma, -13.3 + 18.3 * t, atol=0.02)


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
@partial(jax.value_and_grad, argnums=1)
def schedule(params, t):
    return MonotoneSchedule(width=16).apply({'params': params}, t[None])[0]


@pytest.mark.parametrize('seed', range(3))
def test_a_schedule_with_any_parameters_is_increasing(seed):
    noise = np.random.RandomState(seed)
    shape = {name: 3 * noise.randn(16).astype(np.float32) for name in ('slopes', 'places', 'heights')}
    gamma, slope = schedule({'lowest': -7.0, 'range': -4.0, **shape}, np.linspace(0, 1, 101))
    assert slope.min() > 0 and (np.diff(gamma) > 0).all()
    np.testing.assert_allclose(gamma[jnp.array([0, -1])], [-7, -3], rtol=1e-6)
    assert np.abs(gamma - np.linspace(-7, -3, 101)).max() > 0.1  # no longer linear
    np.testing.assert_allclose(np.cumsum(slope)[:-1] / 100 - 7, gamma[1:], atol=0.1)
