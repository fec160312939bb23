"""Directions in code space along which an attribute changes, estimated from codes and their attributes."""

import numpy as np


def direction(codes: np.ndarray, attribute: np.ndarray, ridge: float = 0.1) -> np.ndarray:
    """Returns the direction d in which an attribute increases: adding d to a code moves the attribute by one unit.

    Class (boolean attribute): d = mean(z | in) - mean(z | out), the difference of means (Larsen et al. 2016, section
    4.2). One unit moves from the mean of the other examples to the mean of the class. d is zero if the class is empty
    or has all examples.

    Number: u solves the ridge regression of y on codes in units of their standard deviations, (Z'Z / N + ridge) u ~ Z'y
    / N. The length of d moves y by one standard deviation, by least squares of y on Z u / |u|. It is zero if the
    attribute is constant.

    Args:
      codes: [N, D].
      attribute: [N], boolean or a number.
      ridge: the weight of the penalty.

    Returns:
      [D], float32.
    """
    if attribute.dtype == bool:
        return difference_of_means(codes, attribute)
    codes, values = codes.astype(np.float64), attribute.astype(np.float64)
    deviation = codes.std(0)
    units = (codes - codes.mean(0)) / np.where(deviation > 0, deviation, 1)
    values = values - values.mean()
    normal = _ridge(units, values, ridge * len(codes))
    if not normal.any():
        return np.zeros(normal.shape, np.float32)
    normal /= np.linalg.norm(normal)
    along = units @ normal
    slope = along @ values / (along @ along)
    return (normal * deviation * values.std() / slope).astype(np.float32)


def difference_of_means(codes: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Returns mean(z | in) - mean(z | out): codes [N, D], boolean members [N] -> [D]."""
    if members.all() or not members.any():
        return np.zeros(codes.shape[1], np.float32)
    difference = codes[members].mean(0, dtype=np.float64) - codes[~members].mean(0, dtype=np.float64)
    return difference.astype(np.float32)


def along(codes: np.ndarray, directions: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    """Returns codes + alpha direction, [N, A, D] float32.

    Args:
      codes: [N, D].
      directions: [D], or one per code [N, D].
      alphas: [A].
    """
    directions = np.broadcast_to(directions, codes.shape)
    return (codes[:, None] + alphas[None, :, None] * directions[:, None]).astype(np.float32)


def thickness(images: np.ndarray) -> np.ndarray:
    """Returns the share of ink on bright-on-dark images, mean((x + 1) / 2): [..., H, W, C] in [-1, 1] -> [...]."""
    return (images.mean((-3, -2, -1), dtype=np.float64) + 1) / 2


def _ridge(units: np.ndarray, values: np.ndarray, weight: float) -> np.ndarray:
    """Returns argmin |Z u - y|^2 + weight |u|^2, by the smaller of the two linear systems: [N, D], [N] -> [D]."""
    number, size = units.shape
    if size <= number:
        return np.linalg.solve(units.T @ units + weight * np.eye(size), units.T @ values)
    return units.T @ np.linalg.solve(units @ units.T + weight * np.eye(number), values)
