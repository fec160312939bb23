"""Tests penalties on critics with known gradients, and against numerical gradients up to second order."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from genlab.losses import penalties

SHAPE = (4, 3, 3, 2)


def images(seed):
    return np.random.RandomState(seed).uniform(-1, 1, SHAPE).astype(np.float32)


def linear(weights):
    return lambda x: jnp.einsum('bhwc,hwc->b', x, weights)


def quadratic(x):
    """Returns D(x) = |x|^2 / 2, whose gradient is x."""
    return jnp.sum(jnp.square(x), (1, 2, 3)) / 2


def smooth(scale):
    """Returns D(x) = sum tanh(scale x), a critic with curvature everywhere."""
    return lambda x: jnp.sum(jnp.tanh(scale * x), (1, 2, 3))


def squared_norm(array):
    return np.square(np.float64(array)).sum((1, 2, 3))


class VariantsTest(chex.TestCase):
    """Compares with closed forms with and without jit, for numpy and device arrays, without type promotion."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    def test_quadratic_critic(self):
        real, fake = images(0), images(1)
        mixing = np.array([0, 1, 0.25, 0.5], np.float32)
        point = mixing[:, None, None, None] * real + (1 - mixing[:, None, None, None]) * fake
        with jax.numpy_dtype_promotion('strict'):
            r1 = self.variant(lambda x: penalties.r1(quadratic, x))(real)
            r2 = self.variant(lambda x: penalties.r2(quadratic, x))(fake)
            penalty = self.variant(lambda *a: penalties.gradient_penalty(quadratic, *a, target=2.0))(real, fake, mixing)
            drift = self.variant(penalties.drift)(real[:, 0, 0, 0])
        np.testing.assert_allclose(r1, squared_norm(real) / 2, rtol=1e-5)
        np.testing.assert_allclose(r2, squared_norm(fake) / 2, rtol=1e-5)
        np.testing.assert_allclose(penalty, (np.sqrt(squared_norm(point)) - 2) ** 2, rtol=1e-4)
        np.testing.assert_allclose(drift, real[:, 0, 0, 0] ** 2, rtol=1e-6)


@pytest.mark.parametrize('norm, two_sided, one_sided', [(1.0, 0.0, 0.0), (3.0, 4.0, 4.0), (0.5, 0.25, 0.0)])
def test_linear_critic(norm, two_sided, one_sided):
    """Uses a gradient that is the weight vector everywhere."""
    weights = images(2)[0]
    critic = linear(norm * weights / np.linalg.norm(weights))
    real, fake, mixing = images(0), images(1), jnp.full(4, 0.3)
    np.testing.assert_allclose(penalties.r1(critic, real), norm**2 / 2, rtol=1e-5)
    np.testing.assert_allclose(penalties.gradient_penalty(critic, real, fake, mixing), two_sided, atol=1e-5)
    penalty = penalties.gradient_penalty(critic, real, fake, mixing, one_sided=True)
    np.testing.assert_allclose(penalty, one_sided, atol=1e-5)


@pytest.mark.parametrize('shape', [(3, 2), (3, 5, 4), (3, 2, 2, 2, 2)])
def test_any_rank_of_example(shape):
    """Covers points, sequences and volumes: every axis except the first is summed."""
    ones = jnp.ones(shape)
    critic = lambda x: jnp.sum(x, tuple(range(1, x.ndim)))
    count = np.prod(shape[1:])
    np.testing.assert_allclose(penalties.r1(critic, ones), count / 2)
    penalty = penalties.gradient_penalty(critic, ones, ones, jnp.ones(3), target=0.0)
    np.testing.assert_allclose(penalty, count, rtol=1e-6)


def losses(scale):
    critic = smooth(scale)
    real, fake, mixing = images(0), images(1), jnp.array([0.1, 0.4, 0.6, 0.9])
    return {
        'r1': lambda: penalties.r1(critic, real),
        'r2': lambda: penalties.r2(critic, fake),
        'gradient_penalty': lambda: penalties.gradient_penalty(critic, real, fake, mixing),
    }


@pytest.mark.parametrize('name', ['r1', 'r2', 'gradient_penalty'])
def test_gradients_with_respect_to_the_critic(name):
    """Checks the gradient of a gradient, by which the critic learns; order 2 differentiates once more."""
    check_grads(lambda scale: losses(scale)[name]().sum(), (0.7,), order=2, modes=['rev'], rtol=2e-2, atol=2e-2)


def test_flat_critic_has_finite_gradients():
    """Checks that the square root gives no NaN at a gradient norm of exactly zero."""

    def total(scale):
        return penalties.gradient_penalty(linear(scale * images(2)[0]), images(0), images(1), jnp.ones(4)).sum()

    value, slope = jax.value_and_grad(total)(0.0)
    assert (value, slope) == (4, 0)


def test_extremes_stay_finite():
    for scale in (0.0, 1e-30, 1e4):
        for name, _loss in losses(scale).items():
            value, slope = jax.value_and_grad(lambda s: losses(s)[name]().sum())(scale)
            assert np.isfinite(value) and np.isfinite(slope), (scale, name)


def test_mixing_puts_the_point_between_the_images():
    """Expects the real image for u = 1 and the fake one for u = 0."""
    real, fake = images(0), images(1)
    at = lambda u: penalties.gradient_penalty(quadratic, real, fake, jnp.full(4, u), target=0.0)
    np.testing.assert_allclose(at(1.0), squared_norm(real), rtol=1e-5)
    np.testing.assert_allclose(at(0.0), squared_norm(fake), rtol=1e-5)


def test_shape_mismatch_raises():
    real = images(0)
    for arguments in ((real, real[:3], jnp.ones(4)), (real, real, jnp.ones((4, 1))), (real, real, jnp.ones(3))):
        with pytest.raises(AssertionError):
            penalties.gradient_penalty(quadratic, *arguments)
    with pytest.raises(AssertionError):
        penalties.r1(lambda x: quadratic(x)[:, None], real)
    with pytest.raises(AssertionError):
        penalties.drift(jnp.ones((4, 1)))


def test_path_lengths_of_a_linear_generator_are_norms_of_its_rows():
    """For images sum_l A_l w_l, J^T y of layer l is A_l^T y, whatever w is."""
    layers, width, side = 3, 4, 2
    maps = jax.random.normal(jax.random.key(0), (layers, side * side, width))
    styles = jax.random.normal(jax.random.key(1), (5, layers, width))
    noise = jax.random.normal(jax.random.key(2), (5, side, side, 1))
    generator = lambda styles: jnp.einsum('lpd,bld->bp', maps, styles).reshape(-1, side, side, 1)
    lengths = penalties.path_lengths(generator, styles, noise)
    rows = np.einsum('lpd,bp->bld', maps, np.asarray(noise).reshape(5, -1) / side)
    np.testing.assert_allclose(lengths, np.sqrt(np.square(rows).sum(2).mean(1)), rtol=1e-5)
