"""Tests the loss that identifies a candidate: a loop, chance level, the optimum, and shapes."""

import jax.numpy as jnp
import numpy as np
import pytest

from genlab.losses.contrastive import identification


def test_it_is_the_cross_entropy_of_the_right_candidate():
    noise = np.random.default_rng(0)
    features, candidates = noise.normal(size=(3, 4)), noise.normal(size=(5, 4))
    positions = np.array([4, 0, 2])
    found = identification(jnp.asarray(features), jnp.asarray(candidates), positions, jnp.asarray(1.5))
    for i, position in enumerate(positions):
        scores = np.array([1.5 * features[i] @ candidate for candidate in candidates])
        np.testing.assert_allclose(found[i], np.log(np.exp(scores).sum()) - scores[position], rtol=1e-5)


def test_equal_candidates_are_a_guess_and_far_ones_are_none():
    positions = jnp.arange(4)
    guess = identification(jnp.ones((4, 3)), jnp.ones((4, 3)), positions, jnp.asarray(2.0))
    np.testing.assert_allclose(guess, np.log(4), rtol=1e-6)
    sure = identification(jnp.eye(4), jnp.eye(4), positions, jnp.asarray(100.0))
    np.testing.assert_allclose(sure, 0, atol=1e-6)


def test_other_shapes_are_refused():
    with pytest.raises(AssertionError):
        identification(jnp.ones((4, 3)), jnp.ones((4, 2)), jnp.arange(4), jnp.asarray(1.0))
    with pytest.raises(AssertionError):
        identification(jnp.ones((4, 3)), jnp.ones((4, 3)), jnp.arange(3), jnp.asarray(1.0))
