"""Latent traversal: varies one dimension at a time, and measures the effect of each."""

from collections.abc import Callable

import numpy as np


def traverse(code: np.ndarray, codes: np.ndarray, dimensions: np.ndarray, reach: float, steps: int) -> np.ndarray:
    """Sets one dimension of a code at a time, and keeps the others.

    The values are mean - reach ... mean + reach, in standard deviations of `codes`.

    Args:
      code: [D].
      codes: [N, D], of the data or from the prior.
      dimensions: [K], indices.
      reach: standard deviations.
      steps: values per dimension.

    Returns:
      [K, steps, D].
    """
    mean, deviation = codes[:, dimensions].mean(0), codes[:, dimensions].std(0)
    rows = np.broadcast_to(code, (len(dimensions), steps, len(code))).copy()
    values = mean[:, None] + deviation[:, None] * np.linspace(-reach, reach, steps)
    rows[np.arange(len(dimensions)), :, dimensions] = values
    return rows


def most_varying(codes: np.ndarray, count: int) -> np.ndarray:
    """Returns the `count` dimensions of codes [N, D] with the largest standard deviations, largest first."""
    return np.argsort(-codes.std(0), kind='stable')[:count]


def effect(
    decode: Callable[[np.ndarray], np.ndarray],
    code: np.ndarray,
    codes: np.ndarray,
    dimensions: np.ndarray,
    reach: float,
) -> np.ndarray:
    """Returns how much each dimension changes the decoded output, [K].

    It is the root mean square of the difference between the ends of a traversal. Under a prior all dimensions have the
    same standard deviation, so only this measure ranks them.

    Args:
      decode: [N, D] -> [N, ...].
      code, codes, dimensions, reach: as for `traverse`.
    """
    ends = decode(traverse(code, codes, dimensions, reach, 2).reshape(-1, len(code)))
    change = (ends[1::2] - ends[::2]).reshape(len(dimensions), -1)
    return np.sqrt(np.square(change, dtype=np.float64).mean(1))
