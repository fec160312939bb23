"""Tests losses of aligned embeddings against loops, closed forms and the optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genlab.losses import alignment

RANDOM = np.random.default_rng(0)


def test_triplets_against_a_loop():
    scores, labels = RANDOM.normal(size=(3, 5)).astype(np.float32), np.array([0, 1, 0, 1, 2])
    own = np.array([1, 2, 4])
    rivals = labels[own][:, None] != labels[None]
    expected = [
        sum(max(0, scores[i, j] - scores[i, own[i]] + 0.5) for j in range(5) if labels[j] != labels[own[i]]) / 5
        for i in range(3)
    ]
    got = alignment.triplet(jnp.asarray(scores), jnp.asarray(own), jnp.asarray(rivals), margin=0.5)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_lead_of_the_margin_costs_nothing_and_has_no_gradient():
    scores, own = jnp.array([[2.0, 0.9], [0.0, 1.1]]), jnp.arange(2)
    rivals = ~np.eye(2, dtype=bool)
    loss = jax.jit(jax.value_and_grad(lambda scores: alignment.triplet(scores, own, rivals, margin=1.0).sum()))
    value, gradient = loss(scores)
    assert value == 0 and not gradient.any()
    # Two candidates share the loss: a rival that leads by 0.3 costs (0.3 + 1) / 2.
    np.testing.assert_allclose(loss(jnp.array([[2.0, 0.9], [1.4, 1.1]]))[0], 0.65, rtol=1e-6)


def test_distillation_is_a_divergence_of_the_softened_teacher():
    student, teacher = (RANDOM.normal(size=(4, 6)).astype(np.float32) for _ in range(2))
    softmax = lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)
    expected = stats.entropy(softmax(teacher / 3), softmax(student), axis=1)
    got = alignment.distillation(jnp.asarray(student), jnp.asarray(teacher), temperature=3.0)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    at_optimum = alignment.distillation(jnp.asarray(teacher / 3 + 7), jnp.asarray(teacher), temperature=3.0)
    np.testing.assert_allclose(at_optimum, 0, atol=1e-6)


def test_the_error_of_directions_ignores_lengths():
    a, b = jnp.array([[3.0, 4.0], [0.0, 2.0]]), jnp.array([[0.0, 5.0], [0.0, 0.1]])
    np.testing.assert_allclose(alignment.direction_error(a, b), [0.6 + 0.2, 0], atol=1e-5)
    assert np.isfinite(jax.jit(jax.grad(lambda a: alignment.direction_error(a, b).sum()))(jnp.zeros((2, 2)))).all()


def test_a_mismatched_pair_is_rejected():
    logits = jnp.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(alignment.mismatch(logits), -np.log(1 - 1 / (1 + np.exp(-logits))), rtol=1e-5)


def test_shapes_are_checked():
    with pytest.raises(AssertionError):
        alignment.triplet(jnp.zeros((2, 3)), jnp.zeros(3, int), jnp.zeros((2, 3), bool), margin=1.0)
    with pytest.raises(AssertionError):
        alignment.triplet(jnp.zeros((2, 3)), jnp.zeros(2, int), jnp.zeros((2, 2), bool), margin=1.0)
    with pytest.raises(AssertionError):
        alignment.distillation(jnp.zeros((2, 3)), jnp.zeros((2, 1)), temperature=1.0)
    with pytest.raises(AssertionError):
        alignment.direction_error(jnp.zeros((2, 3)), jnp.zeros((3, 3)))
    with pytest.raises(AssertionError):
        alignment.mismatch(jnp.zeros((2, 1)))
