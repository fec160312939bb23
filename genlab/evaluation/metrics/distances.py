"""Distances between the distributions of samples and data: Frechet, kernel, sliced Wasserstein.

Features are finite arrays [N, D] of any float type; all sums are in float64. `genlab.evaluation.needs` states how many
examples each distance needs.
"""

from collections.abc import Iterable

import numpy as np


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean [D] and the covariance [D, D] (divided by N - 1) of features [N, D], in float64."""
    return blockwise_moments([features])


def blockwise_moments(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and covariance of features that arrive in blocks [n, D]; one block is held at a time.

    S <- S + S_n + (m_n - m)(m_n - m)^T N n / (N + n) (Chan et al. 1979). Unlike a sum of products, this update stays
    accurate if the mean is large.
    """
    count, mean, scatter = 0, np.zeros(()), np.zeros(())
    for block in blocks:
        block = np.asarray(block, np.float64)
        centre = block.mean(0)
        step, total = centre - mean, count + len(block)
        scatter = scatter + (block - centre).T @ (block - centre) + np.outer(step, step) * (count * len(block) / total)
        mean, count = mean + step * (len(block) / total), total
    return mean, scatter / (count - 1)


def frechet(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """Returns the squared Wasserstein-2 distance between two Gaussians. With Inception features it is FID.

    d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Heusel et al. 2017, equation 6). With C = F F^T the trace of the
    root is the sum of the singular values of F1^T F2. This avoids the root of a matrix that is not symmetric, and is
    exact for rank-deficient covariances too.

    Args:
      mean1, mean2: [D].
      cov1, cov2: [D, D].

    Returns:
      d^2 >= 0, in squared units of the features.

    >>> one = np.eye(2)
    >>> round(frechet(np.zeros(2), one, np.array([3.0, 4.0]), 4 * one), 6)  # 3^2 + 4^2 + 2 (2 - 1)^2
    27.0
    """
    overlap = np.linalg.svd(_factor(cov1).T @ _factor(cov2), compute_uv=False).sum()
    distance = np.square(np.subtract(mean1, mean2)).sum() + np.trace(cov1) + np.trace(cov2) - 2 * overlap
    return float(max(distance, 0.0))  # rounding gives about -1e-13 times the traces for equal sets


def kernel_distance(
    real: np.ndarray, samples: np.ndarray, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Returns an unbiased kernel distance and its standard error. With Inception features it is KID.

    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j).
    The kernel is k(x, y) = (x.y / D + 1)^3. MMD^2 is averaged over random subsets of both sets (Binkowski et al. 2018,
    section 4). It can be negative: its expectation is zero for equal distributions.

    Subsets of a set of N overlap. The squared standard error has two terms. The first is the variance over subsets
    times size / (N - size), the delete-d jackknife (Shao & Wu 1989, section 2). The second is the variance divided by
    the number of subsets. The literature mostly has the second term alone, which ignores that N is finite.

    Args:
      real: [N, D].
      samples: [M, D].
      subsets: how many are drawn.
      size: examples per subset, at most half of the smaller set.
      seed: seed of the subsets.

    Returns:
      (mean, standard error).
    """
    fewest = min(len(real), len(samples))
    size = min(size, fewest // 2)
    random = np.random.default_rng(seed)
    values = [_unbiased(_subset(random, real, size), _subset(random, samples, size)) for _ in range(subsets)]
    error = np.std(values, ddof=1) * np.sqrt(size / (fewest - size) + 1 / subsets)
    return float(np.mean(values)), float(error)


def sliced_wasserstein(
    points_a: np.ndarray, points_b: np.ndarray, *, projections: int = 200, order: int = 2, seed: int = 0
) -> float:
    """Returns the sliced Wasserstein distance: the transport cost, averaged over random projections to a line.

    SW_p = (mean_u W_p^p(u.a, u.b))^(1/p), u uniform on the sphere (Bonneel et al. 2015). On a line W_p^p is the
    integral of |F_a^-1(q) - F_b^-1(q)|^p over q. It is exact for any two numbers of points, by the steps of both
    quantile functions. A shift by s in D dimensions has the distance |s| / sqrt(D) for p = 2.

    Args:
      points_a, points_b: [N, D] and [M, D].
      projections: how many lines.
      order: p.
      seed: seed of the lines.

    Returns:
      A distance in units of the points.
    """
    lines = np.random.default_rng(seed).standard_normal((points_a.shape[1], projections))
    lines /= np.linalg.norm(lines, axis=0)
    a, b = np.sort(points_a @ lines, 0), np.sort(points_b @ lines, 0)
    levels = np.unique(np.concatenate([np.arange(1, len(a) + 1) / len(a), np.arange(1, len(b) + 1) / len(b)]))
    widths = np.diff(levels, prepend=0)
    middles = levels - widths / 2
    gaps = np.abs(a[(middles * len(a)).astype(int)] - b[(middles * len(b)).astype(int)])
    return float((widths @ gaps**order).mean() ** (1 / order))


def _factor(covariance: np.ndarray) -> np.ndarray:
    """Returns F with F F^T = C.

    Eigenvalues within rounding error are set to zero, since their roots would not be small.
    """
    values, vectors = np.linalg.eigh(covariance)
    floor = len(values) * np.finfo(np.float64).eps * values[-1]
    return vectors * np.sqrt(np.where(values > floor, values, 0))


def _subset(random: np.random.Generator, features: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(features[random.choice(len(features), size, replace=False)], np.float64)


def _unbiased(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the unbiased MMD^2 between two sets [n, D] of equal size."""
    size = len(x)
    within = sum(kernel.sum() - np.trace(kernel) for kernel in (_kernel(x, x), _kernel(y, y)))
    return within / (size * (size - 1)) - 2 * _kernel(x, y).mean()


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns (x.y / D + 1)^3: [n, D], [m, D] -> [n, m]."""
    product = x @ y.T / x.shape[1] + 1
    return product * product * product  # much faster than a power
