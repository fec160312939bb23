"""Exact nearest neighbours by matrix products, and the share of samples that look memorised.

Features are finite arrays [N, D] of any float type. Distances are Euclidean, in float64.
"""

from collections.abc import Iterator

import numpy as np

from genlab.run import images

BLOCK_ELEMENTS = 1 << 23  # distances in memory at a time: 64 MB


def squared_distances(queries: np.ndarray, references: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields (rows, squared distances [rows, M]) from queries [N, D] to references [M, D], block by block.

    |q - r|^2 = (-2 q, 1, |q|^2) . (r, |r|^2, 1) is one matrix product. Its rounding error is about 1e-15 (|q|^2 +
    |r|^2). The references are moved to the origin to reduce it. A distance of zero can come out slightly positive or
    negative.
    """
    centre = _centre(references)
    queries, references = queries - centre, references - centre
    left = np.concatenate([-2 * queries, np.ones((len(queries), 1)), _squares(queries)], 1)
    right = np.concatenate([references, _squares(references), np.ones((len(references), 1))], 1).T
    block = max(1, BLOCK_ELEMENTS // len(references))
    for first in range(0, len(queries), block):
        rows = slice(first, min(first + block, len(queries)))
        yield rows, left[rows] @ right


def closed(radii: np.ndarray, centres: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Returns squared radii of closed balls: widened by the rounding error of `squared_distances`.

    Points on a sphere count as inside, and copies have distance zero, whatever the rounding.

    Args:
      radii: [N].
      centres: [N, D].
      references: [M, D], as for `squared_distances`.

    Returns:
      [N].
    """
    return np.square(radii) * (1 + 1e-9) + 1e-12 * np.square(centres - _centre(references)).sum(1)


def nearest(queries: np.ndarray, references: np.ndarray, *, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns the `count` nearest references of each query, nearest first.

    Distances are computed from the differences, so an exact copy has a distance of exactly zero. If a set is searched
    in itself, each point finds itself, or an exact copy, first: its neighbours are columns 1 and up of `count + 1`.

    Args:
      queries: [N, D].
      references: [M, D].
      count: 1 to M, else ValueError.

    Returns:
      (indices [N, count], distances [N, count]).
    """
    if not 1 <= count <= len(references):
        raise ValueError(f'{count} nearest of {len(references)} references')
    indices, distances = np.empty((len(queries), count), np.int64), np.empty((len(queries), count))
    for rows, squared in squared_distances(queries, references):
        line = np.arange(len(squared))
        for rank in range(count):  # for few neighbours argmin is ten times faster than argpartition
            indices[rows, rank] = squared.argmin(1)
            squared[line, indices[rows, rank]] = np.inf
        differences = np.asarray(queries[rows], np.float64)[:, None] - references[indices[rows]]
        distances[rows] = np.sqrt(np.square(differences).sum(-1))
    order = distances.argsort(1, kind='stable')  # the exact differences may reverse a near tie
    return np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)


def memorised(samples: np.ndarray, train: np.ndarray, held_out: np.ndarray, *, quantile: float = 0.01) -> float:
    """Returns the share of samples that are closer to a training example than unseen data usually are.

    share = mean_i 1[ d(x_i, train) <= t ], where d is the distance to the nearest neighbour and t the `quantile` of
    d(held-out, train). Unseen data have `quantile`, a generator that copies its training set has 1. Samples that are
    blurred or lie in the middle of a mode are also close to everything: check `picture` before calling them copies.
    (After the data-copying test of Meehan et al. 2020, section 3, which compares the ranks of the same two sets of
    distances.)

    Args:
      samples: [N, D].
      train: [M, D].
      held_out: [K, D], K >= 1 / quantile.
      quantile: in (0, 1).

    Returns:
      A share in [0, 1].
    """
    threshold = np.quantile(nearest(held_out, train)[1], quantile)
    return float(np.mean(nearest(samples, train)[1] <= threshold))


def picture(samples: np.ndarray, train_images: np.ndarray, indices: np.ndarray, *, padding: int = 2) -> np.ndarray:
    """Draws one row per sample: the sample, a gap, and its nearest training images.

    Args:
      samples: [N, H, W, C], float in [-1, 1] or uint8.
      train_images: [M, H, W, C], of the same kind.
      indices: [N, count], from `nearest`.
      padding: between images, in pixels.

    Returns:
      uint8 [N (H + padding) - padding, width, C].
    """
    count = indices.shape[1]
    left = images.grid(samples, columns=1, padding=padding)
    right = images.grid(train_images[indices.reshape(-1)], columns=count, padding=padding)
    gap = np.full((len(left), 4 * padding, left.shape[2]), 255, np.uint8)
    return np.concatenate([left, gap, right], 1)


def _centre(references: np.ndarray) -> np.ndarray:
    """Returns a robust centre of the references, unaffected by a few outliers: [M, D] -> [D]."""
    return np.median(references[:1000], 0).astype(np.float64)


def _squares(features: np.ndarray) -> np.ndarray:
    """Returns |x|^2: [N, D] -> [N, 1]."""
    return np.einsum('nd,nd->n', features, features)[:, None]
