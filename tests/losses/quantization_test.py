"""Tests losses of quantised codes against numpy: values, gradients, and the number of entries in use."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy

from genlab.losses import quantization

SHAPE = (4, 3, 3, 2)


def values(seed):
    return np.random.RandomState(seed).normal(size=SHAPE).astype(np.float32)


class VariantsTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    def test_both_are_the_mean_squared_distance(self):
        codes, entries = values(0), values(1)
        with jax.numpy_dtype_promotion('strict'):
            found = [self.variant(loss)(codes, entries) for loss in (quantization.commitment, quantization.codebook)]
        np.testing.assert_allclose(found, [np.square(codes - entries).mean((1, 2, 3))] * 2, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    def test_perplexity_is_the_exponential_of_the_entropy(self):
        usage = np.float32([0.5, 0.25, 0.0, 0.25])
        with jax.numpy_dtype_promotion('strict'):
            found = self.variant(quantization.perplexity)(usage)
        np.testing.assert_allclose(found, np.exp(entropy(usage)), rtol=1e-6)


def test_the_commitment_moves_codes_and_the_codebook_loss_moves_entries():
    codes, entries = values(0), values(1)
    slopes = [
        jax.grad(lambda *both: loss(*both).sum(), (0, 1))(codes, entries)
        for loss in (quantization.commitment, quantization.codebook)
    ]
    expected = 2 * (codes - entries) / 18
    for found, wanted in zip(jax.tree.leaves(slopes), (expected, 0 * expected, 0 * expected, -expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)


def test_perplexity_counts_equally_used_entries():
    assert quantization.perplexity(jnp.array([1.0, 0, 0])) == 1
    np.testing.assert_allclose(quantization.perplexity(jnp.full(8, 1 / 8)), 8, rtol=1e-6)


def test_wrong_shapes_raise():
    with pytest.raises(AssertionError):
        quantization.commitment(jnp.ones((2, 3)), jnp.ones((2, 1)))
    with pytest.raises(AssertionError):
        quantization.codebook(jnp.ones((2, 3)), jnp.ones((2, 1)))
    with pytest.raises(AssertionError):
        quantization.perplexity(jnp.ones((2, 3)))
