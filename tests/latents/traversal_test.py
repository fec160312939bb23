"""Tests traversals of codes with known means and deviations."""

import numpy as np

from genlab.latents import traversal

CODES = np.random.RandomState(0).randn(500, 4) * [0.1, 3, 0, 1] + [1, -2, 5, 0]


def test_one_dimension_moves_in_deviations_around_the_mean():
    code = np.float32([9, 8, 7, 6])
    rows = traversal.traverse(code, CODES, np.array([3, 1]), 2.0, 5)
    assert rows.shape == (2, 5, 4)
    for row, dimension in zip(rows, (3, 1)):
        column = CODES[:, dimension]
        np.testing.assert_allclose((row[:, dimension] - column.mean()) / column.std(), [-2, -1, 0, 1, 2], atol=1e-5)
        rest = [other for other in range(4) if other != dimension]
        np.testing.assert_array_equal(row[:, rest], np.stack([code[rest]] * 5))


def test_the_most_varying_dimensions_come_first():
    np.testing.assert_array_equal(traversal.most_varying(CODES, 3), [1, 3, 0])
    np.testing.assert_array_equal(traversal.most_varying(CODES, 9), [1, 3, 0, 2])


def test_the_effect_of_a_dimension_is_its_change_of_the_image():
    """Decodes to one gain per pixel of four, so that the change is 2 reach std gain / sqrt(4)."""
    gain = np.array([10.0, 0, 1, 2])
    found = traversal.effect(lambda codes: (codes * gain).reshape(-1, 2, 2, 1), CODES[0], CODES, np.arange(4), 1.5)
    np.testing.assert_allclose(found, 1.5 * CODES.std(0) * gain, rtol=1e-5)
