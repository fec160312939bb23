"""Tests the cross-entropy of masked tokens against sums by hand, and the weight of the bound."""

import jax.numpy as jnp
import numpy as np
import pytest

from genlab.losses.masked_tokens import absorbing_bound, masked_token_cross_entropy

LOGITS = np.random.RandomState(0).randn(2, 3, 4).astype(np.float32)
TOKENS, MASK = np.array([[0, 3, 1], [2, 2, 0]]), np.array([[1, 0, 1], [0, 0, 0]])


def log_p():
    return LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))


def test_cross_entropy_sums_the_masked_places():
    expected = -(log_p()[0, 0, 0] + log_p()[0, 2, 1])
    np.testing.assert_allclose(masked_token_cross_entropy(LOGITS, TOKENS, MASK), [expected, 0], rtol=1e-5)


def test_smoothing_mixes_with_the_uniform_distribution():
    target = 0.8 * np.eye(4)[TOKENS[0]] + 0.05
    expected = -(target * log_p()[0])[[0, 2]].sum()
    found = masked_token_cross_entropy(LOGITS, TOKENS, MASK, smoothing=0.2)
    np.testing.assert_allclose(found, [expected, 0], rtol=1e-5)


def test_an_impossible_token_outside_of_the_mask_costs_nothing():
    logits = LOGITS.copy()
    logits[0, 1, 3] = -np.inf
    expected = masked_token_cross_entropy(LOGITS, TOKENS, MASK)
    np.testing.assert_allclose(masked_token_cross_entropy(logits, TOKENS, MASK), expected, rtol=1e-6)


def test_the_bound_is_weighted_per_example():
    everywhere = np.ones_like(MASK)
    expected = masked_token_cross_entropy(LOGITS, TOKENS, everywhere) * np.array([2.0, 0.5])
    found = absorbing_bound(LOGITS, TOKENS, everywhere, jnp.array([2.0, 0.5]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_mismatched_shapes_raise():
    with pytest.raises(AssertionError):
        masked_token_cross_entropy(LOGITS, TOKENS, MASK[:, :2])
    with pytest.raises(AssertionError):
        absorbing_bound(LOGITS, TOKENS, MASK, jnp.ones(()))
