"""Tests codes found by inversion of decoders with a known inverse."""

import jax.numpy as jnp
import numpy as np
import pytest

from genlab.latents import inversion

CHANCE = np.random.RandomState(0)
WEIGHT = np.linalg.qr(CHANCE.randn(12, 3))[0].T.astype(np.float32)  # orthonormal rows: three numbers -> twelve pixels


def decode(variables, codes):
    return (codes.reshape(-1, 3) @ variables).reshape(-1, 2, 3, 2)


def folded(variables, codes):
    """Returns (z^2 - 1)^2 + z / 2, which has two minima; the one at negative z is lower."""
    return jnp.sqrt(jnp.square(jnp.square(codes) - 1) + codes / 2 + 1)


@pytest.fixture(scope='module')
def solved():
    codes = CHANCE.randn(5, 3, 1).astype(np.float32)
    residue = CHANCE.randn(5, 12)
    residue = (residue - residue @ WEIGHT.T @ WEIGHT).reshape(5, 2, 3, 2).astype(np.float32)
    targets = np.asarray(decode(WEIGHT, codes)) + residue
    scales = np.broadcast_to(np.float32([1, 2, 0.5])[:, None], codes.shape)
    found, errors = inversion.inverter(decode, 200)(WEIGHT, (targets, 0 * codes, scales))
    return codes, residue, np.asarray(found), np.asarray(errors)


def test_the_code_of_a_linear_decoder_is_the_projection(solved):
    codes, residue, found, errors = solved
    np.testing.assert_allclose(found, codes, atol=2e-3)
    rest = np.square(residue).sum((1, 2, 3))
    np.testing.assert_allclose(errors[0], rest + np.square(codes).sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(errors[1], rest, rtol=1e-4)


def test_the_best_code_of_all_steps_is_returned():
    """Starts at the solution and expects it back, although the learning rate is far too large."""
    codes = CHANCE.randn(4, 3).astype(np.float32)
    targets = np.asarray(decode(WEIGHT, codes)) + CHANCE.randn(4, 2, 3, 2).astype(np.float32)
    answers = np.asarray(targets.reshape(4, 12) @ WEIGHT.T)
    found, errors = inversion.inverter(decode, 3, rate=50.0)(WEIGHT, (targets, answers, np.ones_like(answers)))
    np.testing.assert_allclose(found, answers, atol=1e-4)
    np.testing.assert_array_less(errors[1], errors[0] * 1.00001)


def test_restarts_find_the_lower_minimum():
    starts = np.float32([[1.2], [-2.0], [0.9], [1.1]])  # the better initial code has the worse result
    found, errors = inversion.inverter(folded, 200)(None, (np.zeros((4, 1), np.float32), starts, np.ones_like(starts)))
    np.testing.assert_array_equal(np.sign(np.asarray(found)), np.sign(starts))  # each stays in its own minimum
    code, error = inversion.best(np.asarray(found), np.asarray(errors), 2)
    np.testing.assert_allclose(code[0], found[1])
    np.testing.assert_allclose(error[1], [errors[1, 1], errors[1, 2:].min()], rtol=1e-6)
    np.testing.assert_allclose(error[0], np.asarray(errors)[0].reshape(2, 2).min(1), rtol=1e-6)


def test_it_compiles_once():
    assert inversion.inverter(decode, 200) is inversion.inverter(decode, 200)
