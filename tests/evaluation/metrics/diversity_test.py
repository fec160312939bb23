"""Tests inception score, class divergence and birthday test against scipy and distributions of known support."""

import numpy as np
import pytest
import scipy.stats

from genlab.evaluation.metrics import diversity, neighbours


def test_inception_score_agrees_with_scipy():
    probabilities = np.random.default_rng(0).dirichlet(np.full(7, 0.3), 101)
    probabilities[0] = np.eye(7)[2]  # zeros contribute nothing
    score = lambda part: np.exp(np.mean([scipy.stats.entropy(row, part.mean(0)) for row in part]))
    assert diversity.inception_score(probabilities) == pytest.approx((score(probabilities), 0))
    parts = [score(part) for part in np.array_split(probabilities, 10)]
    assert diversity.inception_score(probabilities, splits=10) == pytest.approx((np.mean(parts), np.std(parts)))


def test_inception_score_is_between_one_and_the_classes():
    assert diversity.inception_score(np.tile(np.eye(5), (20, 1))) == pytest.approx((5, 0))
    assert diversity.inception_score(np.full((20, 5), 0.2)) == pytest.approx((1, 0))


def test_class_divergence():
    data, samples = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.0, 0.9])
    assert diversity.class_divergence(samples, data) == pytest.approx(scipy.stats.entropy(samples, data))
    assert diversity.class_divergence(1000 * data, data) == pytest.approx(0)  # counts are normalised
    assert diversity.class_divergence(np.eye(10)[3], np.full(10, 0.1)) == pytest.approx(np.log(10))
    assert diversity.class_divergence(data, samples) == np.inf  # a class that is missing in the data


def of_things(number, samples, random):
    """Returns samples of `number` different points in 8 dimensions, with a little noise."""
    things = random.standard_normal((number, 8))
    return things[random.integers(number, size=samples)] + 1e-4 * random.standard_normal((samples, 8))


@pytest.mark.parametrize('number, samples', [(10, 1500), (300, 1500), (5000, 1500)])
def test_birthday_support(number, samples):
    """Expects s^2 of about 2 log 2 n for n equally likely points, with many or few duplicates."""
    random = np.random.default_rng(0)
    result = diversity.birthday_support(
        of_things(number, samples, random), random.standard_normal((500, 8)), orders=300
    )
    assert 0.6 * 1.386 * number < result['support'] < 2 * 1.386 * number
    assert result['support_at_least'] < result['support'] < result['support_of_data']


def test_birthday_counts_the_pairs_below_the_threshold(monkeypatch):
    monkeypatch.setattr(neighbours, 'BLOCK_ELEMENTS', 100_000)  # several blocks
    random = np.random.default_rng(1)
    samples, real = random.standard_normal((700, 3)), random.standard_normal((400, 3))
    result = diversity.birthday_support(samples, real, orders=50)
    between = np.linalg.norm(real[:, None] - real, axis=-1) + np.diag(np.full(400, np.inf))
    assert result['threshold'] == pytest.approx(np.quantile(between.min(1), 0.01))
    close = np.triu(np.linalg.norm(samples[:, None] - samples, axis=-1) <= result['threshold'], 1)
    assert result['duplicates'] == close.sum() > 3
    np.testing.assert_array_equal(diversity._some_duplicates(samples, result['threshold'])[0], np.argwhere(close))
    assert result['looked_at'] == 700 and 100 < result['support'] < 700**2
    assert result == diversity.birthday_support(samples, real, orders=50)


def test_birthday_without_duplicates_is_a_lower_bound():
    """Expects s^2 >= 2 log 2 N^2 / 6: with three expected pairs, none is seen one time in twenty."""
    random = np.random.default_rng(0)
    result = diversity.birthday_support(
        100 * random.standard_normal((200, 8)), random.standard_normal((200, 8)), orders=50
    )
    assert result['support'] == np.inf and result['duplicates'] == 0
    assert result['support_at_least'] == pytest.approx(2 * np.log(2) * (200 * 199 / 2) / 2.9957, rel=1e-4)
