"""Fidelity and coverage as separate figures: precision, recall, density and coverage.

Both sets are features [N, D]. The manifold of a set is the union of balls around its points. The radius of a ball is
the distance from its centre to the k-th nearest neighbour in the set.
"""

import numpy as np

from genlab.evaluation.metrics.neighbours import closed, nearest, squared_distances


def manifold(
    real: np.ndarray, samples: np.ndarray, *, nearest_precision: int = 3, nearest_density: int = 5
) -> dict[str, float]:
    """Returns precision and recall, density and coverage, in one pass over the distances.

    precision = mean_j 1[ sample j in some real ball ].
    recall = mean_i 1[ real i in some sample ball ].
    density = (1 / k) mean_j #{ real balls that contain sample j }.
    coverage = mean_i 1[ the ball of real i contains some sample ].

    Precision and recall are defined by Kynkaanniemi et al. 2019, section 2, density and coverage by Naeem et al. 2020,
    section 3. Balls are closed: a set compared with itself has precision, recall and coverage 1. All figures depend on
    the numbers of examples, so compare them at equal numbers only.

    Args:
      real: [N, D], N > k.
      samples: [M, D], M > k.
      nearest_precision: k of precision and recall.
      nearest_density: k of density and coverage.

    Returns:
      Shares in [0, 1], except `density`: about 1 for unseen data, at most N / k.
    """
    narrow, wide = _radii(real, nearest_precision, nearest_density)
    (around_samples,) = _radii(samples, nearest_precision)
    narrow, wide = closed(narrow, real, samples), closed(wide, real, samples)
    around_samples = closed(around_samples, samples, samples)
    precise, holders = np.zeros(len(samples), bool), np.zeros(len(samples))
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for rows, squared in squared_distances(real, samples):
        precise |= (squared <= narrow[rows, None]).any(0)
        recalled[rows] = (squared <= around_samples).any(1)
        inside = squared <= wide[rows, None]
        holders += inside.sum(0)
        covered[rows] = inside.any(1)
    return {
        'precision': float(precise.mean()),
        'recall': float(recalled.mean()),
        'density': float(holders.mean() / nearest_density),
        'coverage': float(covered.mean()),
    }


def _radii(features: np.ndarray, *ranks: int) -> list[np.ndarray]:
    """Returns the distance from each point to its k-th nearest other point: [N] per k. The point itself has rank 0."""
    distances = nearest(features, features, count=max(ranks) + 1)[1]
    return [distances[:, rank] for rank in ranks]
