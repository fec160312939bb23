"""One dimension of a code at a time: which of them matter, and what they do."""

from collections.abc import Callable

import numpy as np


def traverse(code: np.ndarray, codes: np.ndarray, dimensions: np.ndarray, reach: float, steps: int) -> np.ndarray:
    """The code with one dimension set to mean - reach ... mean + reach standard deviations of `codes`, the rest as it is.

    code: [D]; codes: [N, D], of the data or of the prior; dimensions: [K] indices. Returns [K, steps, D]."""
    mean, deviation = codes[:, dimensions].mean(0), codes[:, dimensions].std(0)
    rows = np.broadcast_to(code, (len(dimensions), steps, len(code))).copy()
    values = mean[:, None] + deviation[:, None] * np.linspace(-reach, reach, steps)
    rows[np.arange(len(dimensions)), :, dimensions] = values
    return rows


def most_varying(codes: np.ndarray, count: int) -> np.ndarray:
    """The `count` dimensions of codes [N, D] with the largest standard deviations, the largest first."""
    return np.argsort(-codes.std(0), kind='stable')[:count]


def effect(
    decode: Callable[[np.ndarray], np.ndarray],
    code: np.ndarray,
    codes: np.ndarray,
    dimensions: np.ndarray,
    reach: float,
) -> np.ndarray:
    """How much each dimension changes what is decoded, from end to end of its traversal: root mean square, [K].

    decode: [N, D] -> [N, ...]; a prior gives all dimensions the same deviation, and only this tells them apart."""
    ends = decode(traverse(code, codes, dimensions, reach, 2).reshape(-1, len(code)))
    change = (ends[1::2] - ends[::2]).reshape(len(dimensions), -1)
    return np.sqrt(np.square(change, dtype=np.float64).mean(1))
