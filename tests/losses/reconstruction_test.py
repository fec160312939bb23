"""Tests reconstruction errors against numpy and the Bernoulli likelihood of scipy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import bernoulli

from genlab.losses import reconstruction

SHAPE = (4, 3, 3, 2)


def values(seed, low=0.0):
    return np.random.RandomState(seed).uniform(low, 1, SHAPE).astype(np.float32)


class VariantsTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    def test_distances(self):
        output, target = values(0), values(1)
        with jax.numpy_dtype_promotion('strict'):
            squared = self.variant(reconstruction.squared_error)(output, target)
            absolute = self.variant(reconstruction.absolute_error)(output, target)
            mean = self.variant(reconstruction.mean_absolute_error)(output, target)
        difference = (output - target).reshape(4, -1)
        np.testing.assert_allclose(squared, np.linalg.norm(difference, axis=1) ** 2, rtol=1e-5)
        np.testing.assert_allclose(absolute, np.abs(difference).sum(1), rtol=1e-5)
        np.testing.assert_allclose(mean, np.abs(difference).mean(1), rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    def test_cross_entropy_of_bits_is_their_negative_log_likelihood(self):
        logits, bits = 6 * values(0, low=-1.0), np.round(values(1))
        with jax.numpy_dtype_promotion('strict'):
            nats = self.variant(reconstruction.cross_entropy)(logits, bits)
        expected = -bernoulli.logpmf(bits, 1 / (1 + np.exp(-np.float64(logits)))).sum((1, 2, 3))
        np.testing.assert_allclose(nats, expected, rtol=1e-5)


def test_cross_entropy_is_minimal_where_the_sigmoid_equals_the_target():
    target = values(2) * 0.8 + 0.1
    logits = np.log(target / (1 - target))
    least = reconstruction.cross_entropy(logits, target)
    np.testing.assert_allclose(least, bernoulli.entropy(np.float64(target)).sum((1, 2, 3)), rtol=1e-5)
    slope = jax.grad(lambda logits: reconstruction.cross_entropy(logits, target).sum())(logits)
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_extreme_logits_have_finite_losses_and_gradients():
    logits, target = jnp.array([[-1e4, 1e4]]), jnp.array([[1.0, 0.0]])
    loss, slope = jax.value_and_grad(lambda logits: reconstruction.cross_entropy(logits, target).sum())(logits)
    np.testing.assert_allclose(loss, 2e4)
    np.testing.assert_allclose(slope, [[-1, 1]])


@pytest.mark.parametrize('name', ['squared_error', 'absolute_error', 'cross_entropy'])
def test_a_mismatch_of_shapes_raises(name):
    with pytest.raises(AssertionError):
        getattr(reconstruction, name)(jnp.ones((4, 3)), jnp.ones((4, 1)))
