"""Tests that corruptions have their documented distributions and that each example has its own noise."""

import jax
import numpy as np
import pytest
from scipy import stats

from genlab.data import corruption

SHAPE = (200, 200, 1)


def corrupted(kind, amount, example=None, seed=0):
    example = np.random.RandomState(1).uniform(-0.9, 0.9, SHAPE).astype(np.float32) if example is None else example
    options = {} if kind == 'none' else {'amount': amount}
    return example, np.asarray(corruption.KINDS[kind](example, jax.random.key(seed), -1.0, 1.0, **options))


def test_none_and_an_amount_of_zero_change_nothing():
    for kind in corruption.KINDS:
        example, after = corrupted(kind, 0.7 if kind == 'none' else 0.0)
        np.testing.assert_array_equal(after, example)


def test_gaussian_noise_has_the_given_deviation_and_is_not_clipped():
    example, after = corrupted('gaussian', 0.5)
    assert stats.kstest((after - example).ravel(), 'norm', (0, 0.5)).pvalue > 1e-3
    assert after.max() > 1.5


@pytest.mark.parametrize(
    'kind, shares', [('masking', {-1.0: 0.3, 1.0: 0.0}), ('salt_and_pepper', {-1.0: 0.15, 1.0: 0.15})]
)
def test_a_fraction_of_the_values_is_replaced_and_the_others_stay(kind, shares):
    example, after = corrupted(kind, 0.3)
    for value, share in shares.items():
        count = (after == value).sum()
        assert stats.binomtest(int(count), after.size, share).pvalue > 1e-3 if share else count == 0
    untouched = ~np.isin(after, [*shares])
    np.testing.assert_array_equal(after[untouched], example[untouched])
    rows = (after != example).mean((1, 2))
    np.testing.assert_allclose(rows.std(), np.sqrt(0.3 * 0.7 / 200), rtol=0.3)  # values are independent, not whole rows


@pytest.mark.parametrize('kind', ['gaussian', 'masking', 'salt_and_pepper'])
def test_the_noise_depends_on_the_key(kind):
    example, one = corrupted(kind, 0.5)
    np.testing.assert_array_equal(one, corrupted(kind, 0.5)[1])
    assert (one != corrupted(kind, 0.5, seed=1)[1]).mean() > 0.2
