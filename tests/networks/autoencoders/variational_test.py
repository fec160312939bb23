"""Tests encoders and decoders: shapes, published counts of parameters, and the order of levels of the ladder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.adversarial.convolutional import ConvolutionalDiscriminator
from genlab.networks.autoencoders import variational
from genlab.networks.layers.resampling import sides


def count(module, *inputs):
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(module.init, jax.random.key(0), *inputs)))


@pytest.mark.parametrize('features, latents, total', [((200, 200), 50, 425_284), ((400,), 20, 652_824)])
def test_counts_of_dense_vaes(features, latents, total):
    x, none = jnp.zeros((2, 28, 28, 1)), jnp.zeros((2, 0))
    encoder = variational.DenseEncoder(features, latents)
    decoder = variational.DenseDecoder(features[::-1], (28, 28, 1), scale=1.0)
    assert count(encoder, x, none, False) + count(decoder, jnp.zeros((2, latents)), none, False) == total


@pytest.mark.parametrize('resolution, maps', [(16, [16, 8, 4]), (28, [28, 14, 7]), (48, [48, 24, 12, 6, 3])])
def test_convolutional_shapes(resolution, maps):
    assert sides(resolution) == maps
    x, condition = jnp.zeros((2, resolution, resolution, 3)), jnp.zeros((2, 10))
    encoder = variational.ConvolutionalEncoder(4, 5)
    (mean, log_variance), variables = jax.eval_shape(encoder.init_with_output, jax.random.key(0), x, condition, False)
    assert mean.shape == log_variance.shape == (2, 5)
    assert variables['params']['Dense_0']['kernel'].shape == (maps[-1] ** 2 * 4 * 2 ** (len(maps) - 2) + 10, 10)
    decoder = variational.ConvolutionalDecoder(4, x.shape[1:])
    (location, log_scale), _ = jax.eval_shape(decoder.init_with_output, jax.random.key(0), mean, condition, False)
    assert location.shape == x.shape and log_scale.shape == (1, 1, 1, 3)


def test_outputs_are_float32_for_any_dtype_of_the_layers():
    x, none, z = jnp.zeros((2, 16, 16, 1)), jnp.zeros((2, 0)), jnp.zeros((2, 3))
    low = {'dtype': jnp.bfloat16}
    for module, inputs in (
        (variational.DenseEncoder((4,), 3, **low), (x, none, False)),
        (variational.ConvolutionalEncoder(4, 3, **low), (x, none, False)),
        (variational.LadderEncoder((4, 4), (2, 1), **low), (x, none, False)),
        (variational.DenseDecoder((4,), (16, 16, 1), **low), (z, none, False)),
        (variational.ConvolutionalDecoder(4, (16, 16, 1), **low), (z, none, False)),
        (variational.LadderDecoder((4, 4), (2, 1), (16, 16, 1), **low), (z, none, False)),
        (ConvolutionalDiscriminator(4, **low), (x, False)),
    ):
        outputs, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), *inputs)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((outputs, variables))), module


def test_a_fixed_scale_has_no_parameter_and_a_learned_scale_one_per_channel():
    location = jnp.zeros((2, 4, 4, 3))
    fixed, variables = variational.Scale(0.5).init_with_output(jax.random.key(0), location)
    assert not variables and fixed.shape == (1, 1, 1, 3) and np.allclose(fixed, np.log(0.5))
    assert variational.Scale(0.0).init(jax.random.key(0), location)['params']['log_scale'].shape == (3,)


@pytest.fixture(scope='module')
def ladder():
    """Returns a decoder with three levels of 3, 2 and 1 latents, from the data upwards, as a function of noise."""
    decoder = variational.LadderDecoder((8, 8, 8), (3, 2, 1), (5,))
    zeros = jnp.zeros((1, 6))
    variables = jax.jit(decoder.init, static_argnums=3)(
        jax.random.key(0), zeros, jnp.zeros((1, 0)), False, (zeros, zeros)
    )
    noisy = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(1), leaf.shape), variables)
    return jax.jit(lambda noise, upward=None: decoder.apply(noisy, noise, jnp.zeros((1, 0)), False, upward))


def test_a_level_of_the_ladder_depends_on_itself_and_those_above(ladder):
    noise = jax.random.normal(jax.random.key(2), (6,))
    depends = jax.jacobian(lambda noise: ladder(noise[None])[2][0][0])(noise) != 0  # derivative of z by noise
    level = np.array([0, 0, 0, 1, 1, 2])
    assert not depends[level[:, None] > level].any()  # independent of lower levels
    assert depends[level[:, None] < level].mean() > 0.8  # dependent on higher levels, except where a ReLU is zero
    assert depends[np.arange(6), np.arange(6)].all() and not depends[0, 1]


def test_the_top_down_pass_adds_to_the_bottom_up_pass(ladder):
    noise = jax.random.normal(jax.random.key(3), (1, 6))
    zeros = jnp.zeros((1, 6))
    (_, (mean, log_variance), prior), (_, moved, _) = (
        ladder(noise, (up, zeros))[2] for up in (zeros, zeros.at[0, 0].set(2.0))
    )
    np.testing.assert_allclose(moved[0] - mean, np.eye(6)[:1] * 2, atol=1e-6)  # the lowest level: no level follows
    assert mean[:, :5].all() and not mean[:, 5:].any()  # without bottom-up input only the top level adds nothing
    np.testing.assert_array_equal(prior[0][:, 5:], 0)
    np.testing.assert_array_equal(log_variance[:, 5:], 0)
    z, posterior, prior = ladder(noise)[2]
    np.testing.assert_array_equal(posterior, prior)  # without data they are the same
    np.testing.assert_allclose(z, prior[0] + np.exp(prior[1] / 2) * noise, rtol=1e-6)


def test_standardised_latents_decode_to_the_same_output(ladder):
    """Standardises z of the posterior by the prior, which gives the noise that decodes to it."""
    noise, up = jax.random.normal(jax.random.key(4), (1, 6)), jax.random.normal(jax.random.key(5), (1, 6))
    location, _, (z, _, (mean, log_variance)) = ladder(noise, (up, up))
    again = ladder((z - mean) * jnp.exp(-log_variance / 2))[0]
    np.testing.assert_allclose(again, location, rtol=1e-4, atol=1e-5)
    assert not np.allclose(ladder(noise)[0], location)
