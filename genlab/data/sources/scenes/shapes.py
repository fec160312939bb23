"""Shapes of scenes: signed distances, outlines and colours, vectorised in numpy, float32.

A shape fits a circle of radius 1 around the origin; x points right and y down, as in images. Distances are negative
inside. They are exact near the outline, which suffices for antialiasing. The formulas follow Inigo Quilez, "2D distance
functions", iquilezles.org.
"""

from typing import Any

import numpy as np

COLOURS = {
    'red': (220, 38, 38),
    'orange': (249, 115, 22),
    'yellow': (250, 204, 21),
    'green': (34, 160, 75),
    'teal': (20, 184, 180),
    'blue': (37, 99, 235),
    'purple': (147, 51, 234),
    'pink': (244, 114, 182),
}
BACKGROUNDS = {
    'white': (250, 250, 248),
    'grey': (178, 184, 194),
    'black': (30, 30, 36),
    'cream': (250, 236, 206),
    'sky': (196, 226, 250),
    'mint': (204, 240, 216),
}


def _fold(x: np.ndarray, y: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Folds the plane into one of `points` equal sectors.

    Args:
        x, y: coordinates.
        points: number of sectors; the axis of one points up.

    Returns:
        (coordinate along the axis of the sector, absolute coordinate across it).
    """
    radius, sector = np.hypot(x, y), 2 * np.pi / points
    angle = np.arctan2(x, -y)
    angle -= sector * np.rint(angle / sector)
    return radius * np.cos(angle), radius * np.abs(np.sin(angle))


def _polygon(x: np.ndarray, y: np.ndarray, points: int) -> np.ndarray:
    """Returns the distance to a regular polygon with `points` corners, one of them on top."""
    along, across = _fold(x, y, points)
    half = np.pi / points
    return along * np.cos(half) + across * np.sin(half) - np.cos(half)


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 0.9


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) - 0.78 * np.ones((), np.float32)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _polygon(x, y, 3)


def _pentagon(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _polygon(x, y, 5)


STAR_INNER = 0.46


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the distance to a star with five points.

    In a folded sector it has one edge, from (1, 0) to the inner corner.
    """
    along, across = _fold(x, y, 5)
    inner_x, inner_y = STAR_INNER * np.cos(np.pi / 5), STAR_INNER * np.sin(np.pi / 5)
    length = np.hypot(inner_y, 1 - inner_x)
    return ((along - 1) * inner_y + across * (1 - inner_x)) / np.float32(length)


RING_MIDDLE, RING_HALF = 0.68, 0.24


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x, y) - RING_MIDDLE) - RING_HALF


CROSS_LONG, CROSS_HALF = 0.92, 0.3


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    long, short = np.maximum(x, y), np.minimum(x, y)
    return np.maximum(long - CROSS_LONG, np.minimum(short, long) - CROSS_HALF)


HEART, HEART_MIDDLE = np.float32(1.45), np.float32(0.58)  # Quilez' heart reaches from its point, 0, up to 1.1


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x) / HEART, HEART_MIDDLE - y / HEART
    lobe = np.hypot(x - 0.25, y - 0.75) - np.sqrt(np.float32(2)) / 4
    corner = np.square(x) + np.square(y - 1)
    along = np.maximum(x + y, 0) / 2
    edge = np.minimum(corner, np.square(x - along) + np.square(y - along))
    return HEART * np.where(x + y > 1, lobe, np.sqrt(edge) * np.sign(x - y))


DISTANCES = {
    'circle': _circle,
    'square': _square,
    'triangle': _triangle,
    'pentagon': _pentagon,
    'star': _star,
    'ring': _ring,
    'cross': _cross,
    'heart': _heart,
}
KINDS = tuple(DISTANCES)


def distance(kinds: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the signed distances from points to shapes.

    Args:
        kinds: int [N].
        x, y: float32 [N, ...], in units of the shape's radius.

    Returns:
        float32 [N, ...], in units of the shape's radius.
    """
    out = np.empty_like(x)
    for number, name in enumerate(KINDS):
        chosen = np.flatnonzero(kinds == number)
        if len(chosen):
            out[chosen] = DISTANCES[name](x[chosen], y[chosen])
    return out


def _regular(radii: Any) -> np.ndarray:
    """Returns the corners of a polygon at equal angles, starting on top: K radii -> [K, 2]."""
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return np.stack([np.sin(angles), -np.cos(angles)], 1) * np.asarray(radii)[:, None]


def _heart_outline() -> np.ndarray:
    """Returns points whose convex hull contains the heart: [62, 2]."""
    angles = np.linspace(-np.pi / 4, 3 * np.pi / 4, 30)  # the lobe of the right half
    radius = np.sqrt(2) / 4 / np.cos(np.pi / 58)  # larger than the lobe, so that the polygon contains it
    right = np.stack([0.25 + radius * np.cos(angles), 0.75 + radius * np.sin(angles)], 1)
    half = np.concatenate([right, [[0, 0]]])
    both = np.concatenate([half, half * [-1, 1]])
    return np.stack([both[:, 0], HEART_MIDDLE - both[:, 1]], 1) * HEART


def outlines() -> np.ndarray:
    """Returns points whose box is the box of each shape, also when rotated: float32 [kinds, 64, 2].

    The last point is repeated to pad a list of points.
    """
    arm, half = CROSS_LONG, CROSS_HALF
    cross = [(sx * a, sy * b) for a, b in ((arm, half), (half, arm)) for sx in (-1, 1) for sy in (-1, 1)]
    square = [(-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)]
    around = np.full(64, 1 / np.cos(np.pi / 64))  # a polygon outside the circle, so that a box contains every pixel
    known: dict[str, Any] = {
        'circle': _regular(0.9 * around),
        'square': square,
        'triangle': _regular([1] * 3),
        'pentagon': _regular([1] * 5),
        'star': _regular([1] * 5),
        'ring': _regular((RING_MIDDLE + RING_HALF) * around),
        'cross': cross,
        'heart': _heart_outline(),
    }
    padded = [
        np.pad(np.asarray(known[kind], np.float32), ((0, 64 - len(known[kind])), (0, 0)), mode='edge') for kind in KINDS
    ]
    return np.stack(padded)
