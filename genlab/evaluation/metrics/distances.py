"""Distances between the distribution of samples and that of data: Frechet, kernel, sliced Wasserstein.

Features are finite arrays [N, D] of any float type, real ones first; all sums are in float64. What each distance needs to
mean anything stands in `genlab.evaluation.needs`.
"""

from collections.abc import Iterable

import numpy as np


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean [D] and the covariance [D, D] (divided by N - 1) of features [N, D], in float64."""
    return blockwise_moments([features])


def blockwise_moments(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The moments of features that come in blocks [n, D], of which one is held at a time.

    S <- S + S_n + (m_n - m)(m_n - m)^T N n / (N + n), the update of Chan et al. 1979: unlike a sum of products
    it loses nothing where the mean is large.
    """
    count, mean, scatter = 0, 0.0, 0.0
    for block in blocks:
        block = np.asarray(block, np.float64)
        centre = block.mean(0)
        step, total = centre - mean, count + len(block)
        scatter = scatter + (block - centre).T @ (block - centre) + np.outer(step, step) * (count * len(block) / total)
        mean, count = mean + step * (len(block) / total), total
    return mean, scatter / (count - 1)


def frechet(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """The squared Wasserstein-2 distance of two Gaussians, from their moments; of Inception features it is FID.

    d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Heusel et al. 2017, equation 6). With C = F F^T the trace of the root
    is the sum of the singular values of F1^T F2, which needs no root of a product that is not symmetric, and is exact for
    covariances without full rank too. mean: [D]; cov: [D, D]. Returns d^2 >= 0, in squared units of features.
    """
    overlap = np.linalg.svd(_factor(cov1).T @ _factor(cov2), compute_uv=False).sum()
    distance = np.square(np.subtract(mean1, mean2)).sum() + np.trace(cov1) + np.trace(cov2) - 2 * overlap
    return float(max(distance, 0.0))  # rounding leaves about -1e-13 of the traces for a set with itself


def kernel_distance(
    real: np.ndarray, samples: np.ndarray, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The kernel distance, unbiased at any number of samples, and its standard error; of Inception features it is KID.

    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j), k(x, y) = (x.y / D + 1)^3, over
    random subsets of `size` examples of both sets, at most half of the smaller one (Binkowski et al. 2018, section 4). Equal
    distributions give zero on average, so it can be negative. Subsets of one set of N overlap: the standard error is their
    standard deviation times sqrt(size / (N - size)) (the delete-d jackknife: Shao & Wu 1989, section 2) plus that of drawing
    finitely many; the literature mostly divides by sqrt(subsets), which leaves out that N is finite.
    real: [N, D]; samples: [M, D]. Returns (mean, standard error).
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
    """The sliced Wasserstein distance: how far mass must move, seen along random lines.

    SW_p = (mean_u W_p^p(u.a, u.b))^(1/p), u uniform on the sphere (Bonneel et al. 2015). On a line W_p^p is the
    integral of |F_a^-1(q) - F_b^-1(q)|^p over q, taken exactly for any two numbers of points: sorted points in pairs where the
    numbers are equal, else by the steps of both quantile functions. A shift by s in D dimensions is |s| / sqrt(D) at p = 2.
    points: [N, D], [M, D]; order: p. Returns a distance in units of the points.
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
    """F with F F^T = C; what is zero but for rounding is made zero, as its square root would not be small."""
    values, vectors = np.linalg.eigh(covariance)
    floor = len(values) * np.finfo(np.float64).eps * values[-1]
    return vectors * np.sqrt(np.where(values > floor, values, 0))


def _subset(random: np.random.Generator, features: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(features[random.choice(len(features), size, replace=False)], np.float64)


def _unbiased(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased MMD^2 of two sets [n, D] of one size."""
    size = len(x)
    within = sum(kernel.sum() - np.trace(kernel) for kernel in (_kernel(x, x), _kernel(y, y)))
    return within / (size * (size - 1)) - 2 * _kernel(x, y).mean()


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x.y / D + 1)^3: [n, D], [m, D] -> [n, m]."""
    product = x @ y.T / x.shape[1] + 1
    return product * product * product  # many times faster than a power
