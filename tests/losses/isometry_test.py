"""Tests isometry on linear decoders, whose Jacobian is their matrix, and on one that bends without stretching."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.losses.isometry import isometry


def steps(seed, count=6, size=2):
    directions = np.random.RandomState(seed).normal(size=(count, size))
    return np.float32(directions / np.linalg.norm(directions, axis=1, keepdims=True))


def test_a_linear_decoder_is_penalised_for_changes_of_length():
    matrix, codes, directions = np.random.RandomState(0).normal(size=(2, 12)), jnp.zeros((6, 2)), steps(1)
    expected = np.square(np.linalg.norm(directions @ matrix, axis=1) - 1)
    made = isometry(lambda codes: (codes @ jnp.float32(matrix)).reshape(-1, 2, 3, 2), codes, directions)
    np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_bending_has_no_penalty_and_stretching_has():
    codes, directions = jnp.float32(np.random.RandomState(2).normal(size=(6, 2))), steps(3)

    def roll(codes, stretch=1.0):
        along, across = codes.T
        return jnp.stack([jnp.cos(along), jnp.sin(along), stretch * across], 1)

    np.testing.assert_allclose(isometry(roll, codes, directions), 0, atol=1e-6)
    assert (isometry(lambda codes: roll(codes, 2.0), codes, directions) > 1e-3).all()


def test_a_constant_decoder_has_penalty_one_and_a_finite_gradient():
    codes, directions = jnp.ones((6, 2)), steps(4)
    loss, slope = jax.value_and_grad(lambda w: isometry(lambda codes: w * codes, codes, directions).sum())(0.0)
    np.testing.assert_allclose(loss, 6, rtol=1e-5)
    assert np.isfinite(slope)


def test_a_mismatch_of_shapes_raises():
    with pytest.raises(AssertionError):
        isometry(lambda codes: codes, jnp.ones((6, 2)), jnp.ones((6, 1)))
