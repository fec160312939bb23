"""Tests directions of linear attributes with known results."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from genlab.latents import directions

NORMAL = np.array([2.0, -1, 0, 0, 1])


def codes(number=4000, size=5):
    return np.random.RandomState(0).randn(number, size).astype(np.float32)


def test_one_unit_moves_a_linear_attribute_by_one_standard_deviation():
    z = codes()
    y = z @ NORMAL + 7
    move = directions.direction(z, y)
    np.testing.assert_allclose(move / np.linalg.norm(move), NORMAL / np.linalg.norm(NORMAL), atol=0.03)
    assert move @ NORMAL == pytest.approx(y.std(), rel=0.005)
    np.testing.assert_allclose(directions.direction(z, 1000 * y - 5), move, rtol=1e-4, atol=1e-5)  # units do not matter
    np.testing.assert_allclose(directions.direction(z, -y), -move, rtol=1e-5, atol=1e-6)


def test_noise_in_the_attribute_does_not_change_the_direction():
    z = codes(20_000)
    y = z @ NORMAL + 3 * np.random.RandomState(1).randn(len(z))
    move = directions.direction(z, y)
    assert move @ NORMAL / np.linalg.norm(move) / np.linalg.norm(NORMAL) > 0.995
    assert move @ NORMAL == pytest.approx(y.std(), rel=0.03)


def test_units_of_the_codes_do_not_matter():
    """Rescales the codes and expects the same move; a constant dimension does not change."""
    z = codes()
    y, units = z @ NORMAL, np.float32([1, 10, 0.1, 5, 2])
    np.testing.assert_allclose(
        directions.direction(z * units, y), directions.direction(z, y) * units, rtol=1e-3, atol=1e-3
    )
    flat = z.copy()
    flat[:, 2] = 3
    assert directions.direction(flat, y)[2] == 0


@pytest.mark.parametrize('number, size', [(60, 20), (20, 60)])
def test_the_regression_agrees_with_scikit_learn(number, size):
    """Covers more examples than dimensions, and fewer: two linear systems."""
    units, values = codes(number, size).astype(np.float64), np.random.RandomState(1).randn(number)
    expected = Ridge(alpha=1.7, fit_intercept=False).fit(units, values).coef_
    np.testing.assert_allclose(directions._ridge(units, values, 1.7), expected, atol=1e-9)


def test_a_class_is_one_unit_away_from_the_others():
    z, members = codes(), np.random.RandomState(1).rand(4000) < 0.2
    z[members] += np.float32([1, 0, -3, 0, 0])
    move = directions.direction(z, members)
    np.testing.assert_allclose(z[~members].mean(0) + move, z[members].mean(0), atol=1e-5)
    np.testing.assert_allclose(move, [1, 0, -3, 0, 0], atol=0.2)


def test_a_constant_attribute_has_direction_zero():
    z = codes(10)
    for attribute in (np.ones(10), np.ones(10, bool), np.zeros(10, bool)):
        np.testing.assert_array_equal(directions.direction(z, attribute), np.zeros(5))


def test_along_moves_codes_by_one_direction_or_one_per_code():
    z = codes(3)
    alphas = np.array([-1.0, 0, 2])
    moved = directions.along(z, NORMAL, alphas)
    assert moved.shape == (3, 3, 5)
    np.testing.assert_allclose(moved[2, 0], z[2] - NORMAL, rtol=1e-6)
    np.testing.assert_array_equal(moved[:, 1], z)
    each = directions.along(z, np.stack([NORMAL, 0 * NORMAL, -NORMAL]), alphas)
    np.testing.assert_allclose(each[:, 2], np.stack([z[0] + 2 * NORMAL, z[1], z[2] - 2 * NORMAL]), rtol=1e-5, atol=1e-6)


def test_thickness_is_the_fraction_of_ink():
    image = -np.ones((2, 4, 4, 1))
    image[1, 0] = 1
    np.testing.assert_allclose(directions.thickness(image), [0, 0.25])
