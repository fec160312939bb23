"""Exact nearest neighbours by matrix products, and whether samples lie nearer to the training set than fresh data would.

Features are finite arrays [N, D] of any float type. Distances are Euclidean, computed in float64.
"""

from collections.abc import Iterator

import numpy as np

from genlab.run import images

BLOCK_ELEMENTS = 1 << 23  # distances held at a time: 64 MB


def squared_distances(queries: np.ndarray, references: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows, squared distances [rows, M]) of queries [N, D] to references [M, D], block after block, N rows in all.

    |q - r|^2 = (-2 q, 1, |q|^2) . (r, |r|^2, 1), one matrix product. Its rounding errors are about 1e-15 (|q|^2 + |r|^2), which
    is made small by moving the references to the origin: what should be zero can be slightly more or less.
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
    """Squared radii [N] of balls around centres [N, D], a rounding error of `squared_distances` to `references` wider.

    So a point on the sphere is inside whichever way its distance was rounded, and copies are at distance zero."""
    return np.square(radii) * (1 + 1e-9) + 1e-12 * np.square(centres - _centre(references)).sum(1)


def nearest(queries: np.ndarray, references: np.ndarray, *, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The `count` nearest references [M, D] of each query [N, D], nearest first: (indices [N, count], distances [N, count]).

    The distances are taken from the differences, so that an exact copy is at exactly zero. A set searched in itself finds
    every point first (or an exact copy of it): its neighbours are columns 1 and on of `count + 1`.
    """
    if not 1 <= count <= len(references):
        raise ValueError(f'{count} nearest of {len(references)} references')
    indices, distances = np.empty((len(queries), count), np.int64), np.empty((len(queries), count))
    for rows, squared in squared_distances(queries, references):
        line = np.arange(len(squared))
        for rank in range(count):  # few are wanted, and argmin is an order of magnitude faster than argpartition
            indices[rows, rank] = squared.argmin(1)
            squared[line, indices[rows, rank]] = np.inf
        differences = np.asarray(queries[rows], np.float64)[:, None] - references[indices[rows]]
        distances[rows] = np.sqrt(np.square(differences).sum(-1))
    order = distances.argsort(1, kind='stable')  # where the differences decide a tie that rounding had turned
    return np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)


def memorised(samples: np.ndarray, train: np.ndarray, held_out: np.ndarray, *, quantile: float = 0.01) -> float:
    """The share of samples that lie as near to a training example as only the nearest 1 % of held-out examples do.

    share = mean_i 1[ d(x_i, train) <= t ], t = the `quantile` of d(held-out, train), d the distance to the nearest. Fresh data
    gives `quantile`, a generator that repeats its training set gives 1. Samples that are blurred, or lie in the midst of a
    mode, are also near to everything: look at `picture` before calling them copies. (After the data-copying test of Meehan
    et al. 2020, section 3, which compares the same two sets of distances by ranks.)
    samples, train, held_out: [N, D], [M, D], [K, D], K >= 1 / quantile. Returns a share in [0, 1].
    """
    threshold = np.quantile(nearest(held_out, train)[1], quantile)
    return float(np.mean(nearest(samples, train)[1] <= threshold))


def picture(samples: np.ndarray, train_images: np.ndarray, indices: np.ndarray, *, padding: int = 2) -> np.ndarray:
    """One row a sample: the sample, a gap, and its nearest training images.

    samples: [N, H, W, C]; train_images: [M, H, W, C], both float in [-1, 1] or uint8; indices: [N, count] from `nearest`.
    Returns uint8 [N (H + padding) - padding, width, C].
    """
    count = indices.shape[1]
    left = images.grid(samples, columns=1, padding=padding)
    right = images.grid(train_images[indices.reshape(-1)], columns=count, padding=padding)
    gap = np.full((len(left), 4 * padding, left.shape[2]), 255, np.uint8)
    return np.concatenate([left, gap, right], 1)


def _centre(references: np.ndarray) -> np.ndarray:
    """About the middle of the references, wherever a few of them may have gone: [M, D] -> [D]."""
    return np.median(references[:1000], 0).astype(np.float64)


def _squares(features: np.ndarray) -> np.ndarray:
    """|x|^2: [N, D] -> [N, 1]."""
    return np.einsum('nd,nd->n', features, features)[:, None]
