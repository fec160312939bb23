"""Tests autoencoders: published counts, layers by hand, tied kernels with gradients of both uses, nested dropout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.autoencoders.deterministic import ConvolutionalAutoencoder, DenseAutoencoder, truncate
from genlab.run.describe import count


def parameters(module, shape):
    return count(jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))['params'])


@pytest.mark.parametrize(
    'number, side, features, more',
    [
        (2_837_314, 28, (1000, 500, 250, 30), {}),
        (1_420_814, 28, (1000, 500, 250, 30), {'tied': True}),
        (50_176, 28, (32,), {'use_bias': False}),
        (25_088, 28, (32,), {'use_bias': False, 'tied': True}),
        (3289, 8, (25,), {}),
    ],
)
def test_counts(number, side, features, more):
    shape = (side, side, 1)
    assert parameters(DenseAutoencoder(shape, features, **more), shape) == number


@pytest.mark.parametrize('tied', [False, True])
def test_layers_by_hand(tied):
    module = DenseAutoencoder((2, 3), (5, 4), jnp.sin, jnp.tanh, jnp.cos, tied)
    x = jax.random.normal(jax.random.key(0), (7, 2, 3))
    fresh = jax.jit(module.init)(jax.random.key(1), x)['params']
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.1), fresh)  # nonzero biases
    kernels = [params[f'encoder_{level}']['kernel'] for level in (0, 1)]
    back = [kernels[1].T, kernels[0].T] if tied else [params[f'decoder_{level}']['kernel'] for level in (0, 1)]
    assert ('kernel' in params['decoder_0']) != tied

    def layer(x, kernel, name):
        return np.asarray(x, np.float64) @ np.asarray(kernel) + np.asarray(params[name]['bias'])

    codes = np.tanh(layer(np.sin(layer(x.reshape(7, 6), kernels[0], 'encoder_0')), kernels[1], 'encoder_1'))
    logits = layer(np.sin(layer(codes, back[0], 'decoder_0')), back[1], 'decoder_1').reshape(7, 2, 3)
    for method, argument, expected in (
        ('encode', x, codes),
        ('logits', codes, logits),
        ('decode', codes, np.cos(logits)),
        ('__call__', x, np.cos(logits)),
    ):
        result = jax.jit(functools.partial(module.apply, method=method))({'params': params}, jnp.float32(argument))
        np.testing.assert_allclose(result, expected, atol=1e-5, err_msg=method)


def test_a_tied_kernel_learns_from_both_uses():
    """Expects the gradient of the untied encoder, plus the transposed gradient of the untied decoder."""
    x = jax.random.normal(jax.random.key(0), (7, 6))
    tied, free = (DenseAutoencoder((6,), (5, 4), tied=tied) for tied in (True, False))
    params = jax.jit(tied.init)(jax.random.key(1), x)['params']
    copied = {name: dict(layer) for name, layer in params.items()}
    for level in (0, 1):
        copied[f'decoder_{1 - level}']['kernel'] = params[f'encoder_{level}']['kernel'].T

    def slope(module, params):
        return jax.jit(jax.grad(lambda params: jnp.square(module.apply({'params': params}, x) - x).sum()))(params)

    one, two = slope(tied, params), slope(free, copied)
    for level in (0, 1):
        both = two[f'encoder_{level}']['kernel'] + two[f'decoder_{1 - level}']['kernel'].T
        np.testing.assert_allclose(one[f'encoder_{level}']['kernel'], both, atol=1e-5)
        np.testing.assert_allclose(one[f'decoder_{level}']['bias'], two[f'decoder_{level}']['bias'], atol=1e-5)


def test_convolutions_decode_to_the_shape_of_the_image():
    module = ConvolutionalAutoencoder((12, 8, 3), (20, 5), width=4, output=jnp.tanh)
    x = jnp.zeros((2, 12, 8, 3))
    (output, variables), codes = jax.eval_shape(
        lambda key: (made := module.init_with_output(key, x), module.apply(made[1], x, method='encode')),
        jax.random.key(0),
    )
    params = variables['params']
    assert output.shape == x.shape and codes.shape == (2, 5)
    assert params['down_1']['kernel'].shape == (4, 4, 4, 8) and params['up_1']['kernel'].shape == (4, 4, 4, 3)
    assert params['dense']['encoder_0']['kernel'].shape == (3 * 2 * 8, 20)


def test_a_side_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match='2 halvings of 10x10: take a multiple of 4'):
        parameters(ConvolutionalAutoencoder((10, 10, 1), (5,), width=4), (10, 10, 1))


@pytest.mark.parametrize(
    'module',
    [
        DenseAutoencoder((8, 8, 1), (5, 4), tied=True, dtype=jnp.bfloat16),
        ConvolutionalAutoencoder((8, 8, 1), (5, 4), width=4, dtype=jnp.bfloat16),
    ],
)
def test_bfloat16_layers_have_float32_outputs(module):
    shapes = jax.eval_shape(module.init_with_output, jax.random.key(0), jnp.zeros((2, 8, 8, 1)))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes))


def test_truncation_keeps_a_uniform_number_of_leading_units():
    codes, keys = np.random.RandomState(0).uniform(1, 2, (4000, 4)), jax.random.split(jax.random.key(0), 4000)
    after = np.asarray(truncate(jnp.asarray(codes, jnp.float32), keys))
    kept = (after != 0).sum(1)
    np.testing.assert_allclose(after, np.where(np.arange(4) < kept[:, None], codes, 0), rtol=1e-6)
    np.testing.assert_allclose(np.bincount(kept, minlength=5) / 4000, [0, 0.25, 0.25, 0.25, 0.25], atol=0.03)
