"""Directions of the code space along which an attribute changes, learnt from codes and their attributes."""

import numpy as np


def direction(codes: np.ndarray, attribute: np.ndarray, ridge: float = 0.1) -> np.ndarray:
    """The move d such that codes + d have more of an attribute: codes [N, D], attribute [N] -> [D].

    Of a class (boolean, whether an example is of it): the difference of means d = mean(z | in) - mean(z | out), so one unit
    leads from the average of the others to that of the class (Larsen et al. 2016, section 4.2). Zero if nobody is in or out.

    Of a number: the direction u of the ridge regression of y on the codes, each dimension in its own standard deviations,
    (Z'Z / N + ridge) u ~ Z'y / N, as long as it takes to move y, by its least squares on Z u / |u| alone, by one standard
    deviation. Zero if all have the same."""
    if attribute.dtype == bool:
        return difference_of_means(codes, attribute)
    codes, values = codes.astype(np.float64), attribute.astype(np.float64)
    deviation = codes.std(0)
    units = (codes - codes.mean(0)) / np.where(deviation > 0, deviation, 1)
    values = values - values.mean()
    normal = _ridge(units, values, ridge * len(codes))
    if not normal.any():
        return np.zeros_like(normal, np.float32)
    normal /= np.linalg.norm(normal)
    along = units @ normal
    slope = along @ values / (along @ along)
    return np.float32(normal * deviation * values.std() / slope)


def difference_of_means(codes: np.ndarray, members: np.ndarray) -> np.ndarray:
    """mean(z | in) - mean(z | out): codes [N, D], members boolean [N] -> [D]."""
    if members.all() or not members.any():
        return np.zeros(codes.shape[1], np.float32)
    return np.float32(codes[members].mean(0, dtype=np.float64) - codes[~members].mean(0, dtype=np.float64))


def along(codes: np.ndarray, directions: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    """codes + alpha direction: codes [N, D], directions [D] or one each [N, D], alphas [A] -> [N, A, D]."""
    directions = np.broadcast_to(directions, codes.shape)
    return np.float32(codes[:, None] + alphas[None, :, None] * directions[:, None])


def thickness(images: np.ndarray) -> np.ndarray:
    """How much ink is on an image, bright on dark: the mean of (x + 1) / 2. Images [..., H, W, C] in [-1, 1] -> [...]."""
    return (images.mean((-3, -2, -1), dtype=np.float64) + 1) / 2


def _ridge(units: np.ndarray, values: np.ndarray, weight: float) -> np.ndarray:
    """argmin |Z u - y|^2 + weight |u|^2 by the smaller of its two systems: [N, D], [N] -> [D]."""
    number, size = units.shape
    if size <= number:
        return np.linalg.solve(units.T @ units + weight * np.eye(size), units.T @ values)
    return units.T @ np.linalg.solve(units @ units.T + weight * np.eye(number), values)
