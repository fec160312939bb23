"""Tests distances between distributions against scipy, scikit-learn and closed forms."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from sklearn.metrics.pairwise import polynomial_kernel

from genlab.evaluation import needs
from genlab.evaluation.metrics import distances


def cloud(seed, number=300, dimensions=6, shift=0.0):
    random = np.random.default_rng(seed)
    return random.standard_normal((number, dimensions)) @ random.standard_normal((dimensions, dimensions)) + shift


def test_moments_agree_with_numpy_for_any_block_size():
    features = cloud(0, shift=1e4).astype(np.float32)
    mean, covariance = distances.moments(features)
    np.testing.assert_allclose(mean, np.mean(features, 0, dtype=np.float64), rtol=1e-14)
    np.testing.assert_allclose(covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-10, atol=1e-10)
    for result, expected in zip(distances.blockwise_moments(np.split(features, [1, 7, 250])), (mean, covariance)):
        np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-10)


def test_frechet_agrees_with_the_matrix_square_root():
    for seed in range(5):
        one, other = distances.moments(cloud(seed)), distances.moments(cloud(seed + 10, shift=0.5))
        root = scipy.linalg.sqrtm(one[1] @ other[1]).real
        expected = np.square(one[0] - other[0]).sum() + np.trace(one[1] + other[1] - 2 * root)
        np.testing.assert_allclose(distances.frechet(*one, *other), expected, rtol=1e-9)
        np.testing.assert_allclose(distances.frechet(*other, *one), expected, rtol=1e-9)


def test_frechet_of_diagonal_gaussians():
    """Expects |m1 - m2|^2 + |s1 - s2|^2, also where deviations are zero."""
    sigma1, sigma2 = np.array([1, 2, 0, 0.5]), np.array([3, 0, 0, 0.5])
    distance = distances.frechet(np.ones(4), np.diag(sigma1**2), np.zeros(4), np.diag(sigma2**2))
    np.testing.assert_allclose(distance, 4 + 4 + 4, rtol=1e-12)


def test_frechet_without_full_rank():
    """Rotates covariances with 81 zero eigenvalues of 100; roots of rounding errors must not accumulate."""
    turn = np.linalg.qr(cloud(0, 100, 100))[0]
    variances = np.zeros((2, 100))
    variances[0, :19], variances[1, 10:29] = np.arange(1, 20), np.arange(1, 20) ** 2
    expected = np.square(np.sqrt(variances[0]) - np.sqrt(variances[1])).sum()
    one, other = ((turn * values) @ turn.T for values in variances)
    np.testing.assert_allclose(distances.frechet(np.zeros(100), one, np.zeros(100), other), expected, rtol=1e-10)
    itself = distances.moments(cloud(1, 20, 100))
    assert 0 <= distances.frechet(*itself, *itself) < 1e-10 * np.trace(itself[1])


def test_kernel_distance_is_the_unbiased_estimate():
    """Compares with scikit-learn's kernel on subsets of half the size, summed over pairs of different examples."""
    real, samples = cloud(0, 40), cloud(1, 40)
    mean, error = distances.kernel_distance(real, samples, subsets=3, size=20, seed=5)
    random, values = np.random.default_rng(5), []
    for _ in range(3):
        x, y = real[random.choice(40, 20, replace=False)], samples[random.choice(40, 20, replace=False)]
        xx, yy, xy = (polynomial_kernel(a, b, degree=3, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
        different = ~np.eye(20, dtype=bool)
        values.append(xx[different].mean() + yy[different].mean() - 2 * xy.mean())
    np.testing.assert_allclose(mean, np.mean(values), rtol=1e-10)
    np.testing.assert_allclose(error, np.std(values, ddof=1) * np.sqrt(1 + 1 / 3), rtol=1e-10)
    assert distances.kernel_distance(real, samples, subsets=3, seed=5) == (mean, error)  # half of the examples


def test_kernel_distance_reports_its_error():
    """Expects no bias and the reported deviation over repeated experiments, with N = 100 in place of 1,000."""
    results = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        real, samples = random.standard_normal((2, 100, 4))
        results.append(distances.kernel_distance(real, samples + 0.5, subsets=30, size=30, seed=seed))
    means, errors = np.transpose(results)
    moment = lambda product, a, b: 1 + 3 * product + 3 * _second(product, a, b) + _third(product, a, b)
    exact = moment(0, 0, 0) + moment(0.25, 0.5, 0.5) - 2 * moment(0, 0, 0.5)
    assert abs(means.mean() - exact) < 4 * means.std() / np.sqrt(len(means))
    assert 0.7 < errors.mean() / means.std() < 1.4


def _second(product, a, b, dimensions=4):
    """Returns E (x.y / D)^2 for x ~ N(a, 1), y ~ N(b, 1) in each dimension: mean squared + variance."""
    return product**2 + ((1 + a * a) * (1 + b * b) - (a * b) ** 2) / dimensions


def _third(product, a, b, dimensions=4):
    """Returns E (x.y / D)^3 by the third moments of the product in one dimension."""
    first, second = a * b, (1 + a * a) * (1 + b * b)
    third = (a**3 + 3 * a) * (b**3 + 3 * b)
    central = third - 3 * first * second + 2 * first**3
    variance = (second - first**2) / dimensions
    return product**3 + 3 * product * variance + central / dimensions**2


@pytest.mark.parametrize('numbers', [(50, 50), (30, 47), (1, 8)])
def test_sliced_wasserstein_in_one_dimension_agrees_with_scipy(numbers):
    random = np.random.default_rng(0)
    a, b = random.standard_normal((numbers[0], 1)), random.uniform(size=(numbers[1], 1))
    expected = scipy.stats.wasserstein_distance(a[:, 0], b[:, 0])
    np.testing.assert_allclose(distances.sliced_wasserstein(a, b, order=1, projections=3), expected, rtol=1e-12)


def test_sliced_wasserstein_of_a_shift_and_of_a_scale():
    points = np.random.default_rng(0).standard_normal((500, 2))
    shift = distances.sliced_wasserstein(points, points + [3, 4], projections=4000)
    np.testing.assert_allclose(shift, 5 / np.sqrt(2), rtol=0.02)
    scale = distances.sliced_wasserstein(points, 3 * points, projections=500)
    np.testing.assert_allclose(scale, 2, rtol=0.1)
    assert distances.sliced_wasserstein(points, points[::-1]) < 1e-12
    assert distances.sliced_wasserstein(points, points + 1) == distances.sliced_wasserstein(points[::-1], points + 1)


def test_too_few_samples_are_reported():
    assert needs.needs('frechet', 2048) == 2049
    assert needs.shortage('frechet', 2048, 10_000, 1000) == 'needs at least 2,049 samples, there are 1,000'
    assert needs.shortage('frechet', 128, 129, 129) == ''
    assert needs.shortage('inception_score', 10, 99) and not needs.shortage('inception_score', 10, 100)
    with pytest.raises(KeyError):
        needs.needs('fid', 3)
