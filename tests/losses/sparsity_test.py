"""Tests sparsity against scipy's relative entropy and numpy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr

from genlab.losses import sparsity


class VariantsTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    def test_divergence_and_l1(self):
        activation, codes = np.float32([0.01, 0.2, 0.5, 0.9]), np.float32([[1, -2, 0], [0, 0, 0.5]])
        with jax.numpy_dtype_promotion('strict'):
            nats = self.variant(lambda activation: sparsity.divergence(activation, rho=0.05))(activation)
            sums = self.variant(sparsity.l1)(codes)
        expected = rel_entr(0.05, activation) + rel_entr(0.95, 1 - activation)
        np.testing.assert_allclose(nats, expected.sum(), rtol=1e-5)
        np.testing.assert_allclose(sums, [3, 0.5])


def test_divergence_is_zero_and_stationary_at_the_target_only():
    value, slope = jax.value_and_grad(lambda activation: sparsity.divergence(activation, rho=0.05))(jnp.full(3, 0.05))
    np.testing.assert_allclose(value, 0, atol=1e-7)
    np.testing.assert_allclose(slope, 0, atol=1e-4)
    assert sparsity.divergence(jnp.full(3, 0.06), rho=0.05) > 0 < sparsity.divergence(jnp.full(3, 0.04), rho=0.05)


def test_units_that_are_never_or_always_active_have_a_finite_loss():
    value, slope = jax.value_and_grad(lambda activation: sparsity.divergence(activation, rho=0.05))(
        jnp.array([0.0, 1.0])
    )
    assert np.isfinite(value) and np.isfinite(slope).all()


def test_wrong_ranks_raise():
    with pytest.raises(AssertionError):
        sparsity.divergence(jnp.ones((2, 3)) / 2, rho=0.1)
    with pytest.raises(AssertionError):
        sparsity.l1(jnp.ones(3))
