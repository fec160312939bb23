"""Toy densities in two and three dimensions: a fixed set of points, and the exact density if it is known.

Every set is scaled to about unit variance per axis by a fixed linear map that does not depend on the draw. So the
densities are exact. ring and grid are mixtures of equal, isotropic Gaussians with known centres. moons is two circular
arcs convolved with a Gaussian, integrated by Gauss-Legendre quadrature to about 1e-9. curve has a Gaussian x, and a y
that is Gaussian around a quadratic function of x. The rolls have no density in closed form.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from genlab.data import fingerprint
from genlab.data.source import Field, Source, from_arrays, label_field
from genlab.errors import ConfigError, meant

POINTS = {'train': 100_000, 'test': 10_000}
SEEDS = {'train': 0, 'test': 1}
FLOAT = np.dtype(np.float32)


class Toy(NamedTuple):
    """Defines a density: draw(rng, N) -> {field: [N, ...]} float64. `Source` describes the other fields."""

    draw: Callable[[np.random.Generator, int], dict[str, np.ndarray]]
    dimensions: int
    log_density: Callable[[np.ndarray], np.ndarray] | None = None
    centres: np.ndarray | None = None
    spread: float | None = None


def toy(name: str, split: str = 'train') -> Source:
    """Returns 100,000 training or 10,000 test points, which are independent draws.

    The fields are `point` float32 [D]; `label` int32, the mode, for ring, grid and moons; `angle` float32 [1], in
    radians, for the rolls.
    """
    known = densities()
    if name not in known:
        raise ConfigError(f'config.data.name={name!r}: choose one of {", ".join(known)}{meant(name, known)}')
    density = known[name]
    arrays = density.draw(np.random.default_rng([SEEDS[split], *name.encode()]), POINTS[split])
    fields = {'point': Field((density.dimensions,), FLOAT, -np.inf, np.inf)}
    if 'label' in arrays:
        fields['label'] = label_field(int(arrays['label'].max()) + 1)
    if 'angle' in arrays:
        fields['angle'] = Field((1,), FLOAT, *ROLL_ANGLES)
    arrays = {field: arrays[field].astype(fields[field].dtype) for field in fields}
    # Not of the points: their last bits may differ between processors.
    identity = fingerprint.of_values(['toy', name, POINTS[split], SEEDS[split]])
    return from_arrays(
        f'{name}/{split}',
        arrays,
        fields,
        log_density=density.log_density,
        centres=density.centres,
        spread=density.spread,
        fingerprint=lambda: fingerprint.Fingerprint(identity),
    )


def densities() -> dict[str, Toy]:
    """Returns {name: Toy}: ring, grid, moons, roll2d, roll3d, curve."""
    angles = np.arange(8) * (np.pi / 4)
    ring = np.stack([np.cos(angles), np.sin(angles)], 1) * np.sqrt(2)  # the radius that gives variance 1 per axis
    grid = np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3), indexing='ij'), -1).reshape(25, 2) / np.sqrt(2)
    return {
        'ring': mixture(ring, 0.02 * np.sqrt(2)),
        'grid': mixture(grid, 0.05 / np.sqrt(2)),
        'moons': Toy(_draw_moons, 2, moons_log_density),
        'roll2d': Toy(_draw_roll2d, 2),
        'roll3d': Toy(_draw_roll3d, 3),
        'curve': Toy(_draw_curve, 2, curve_log_density),
    }


def mixture(centres: np.ndarray, spread: float) -> Toy:
    """Defines a mixture of equally likely isotropic Gaussians with centres [K, D] and one standard deviation, `spread`.

    The ratios of spread to distance follow Dieng et al. 2019 and Lin et al. 2018. Their ring has radius 1 and spread
    0.02, here times sqrt(2). Their grid has spacing 1 and spread 0.05, here divided by sqrt(2).
    """
    count, dimensions = centres.shape

    def draw(rng: np.random.Generator, number: int) -> dict[str, np.ndarray]:
        label = rng.integers(count, size=number)
        return {'point': centres[label] + spread * rng.standard_normal((number, dimensions)), 'label': label}

    def log_density(points: np.ndarray) -> np.ndarray:
        return _log_mean(_log_gaussian(points[:, None] - centres, spread).sum(-1))

    return Toy(draw, dimensions, log_density, centres, spread)


def _log_gaussian(difference: np.ndarray, spread: float) -> np.ndarray:
    """Returns log N(difference; 0, spread^2), elementwise."""
    return -0.5 * (np.asarray(difference, np.float64) / spread) ** 2 - np.log(spread * np.sqrt(2 * np.pi))


def _log_mean(terms: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns the log of the (weighted) mean of exp(terms) over the last axis: [..., K] -> [...]."""
    top = terms.max(-1, keepdims=True)
    return np.log(np.average(np.exp(terms - top), axis=-1, weights=weights)) + top[..., 0]


MOON_SCALE, MOON_NOISE = 1.2, 0.06  # centred and unscaled, the moons have standard deviations 0.87 and 0.50


def _arcs(angle: np.ndarray) -> np.ndarray:
    """Returns points on the two arcs at angles [N] in 0..pi, centred and scaled: [2, N, 2]."""
    upper = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], -1)
    return MOON_SCALE * np.stack([upper, -upper])


def _draw_moons(rng: np.random.Generator, number: int) -> dict[str, np.ndarray]:
    label = rng.integers(2, size=number)
    places = _arcs(rng.uniform(0, np.pi, number))[label, np.arange(number)]
    return {'point': places + MOON_NOISE * rng.standard_normal((number, 2)), 'label': label}


def moons_log_density(points: np.ndarray) -> np.ndarray:
    """Returns the log density of moons, the mean over both arcs and all angles of a Gaussian: [N, 2] -> nats [N]."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    arcs = _arcs((nodes + 1) * (np.pi / 2)).reshape(-1, 2)
    out = np.empty(len(points))
    for start in range(0, len(points), 2048):  # 400 nodes per point: a block fits the cache
        across, along = (np.asarray(points)[start : start + 2048, axis, None] - arcs[:, axis] for axis in (0, 1))
        terms = _log_gaussian(across, MOON_NOISE) + _log_gaussian(along, MOON_NOISE)
        out[start : start + 2048] = _log_mean(terms, np.tile(weights, 2))
    return out


ROLL_ANGLES = (1.5 * np.pi, 4.5 * np.pi)
ROLL_SCALE, ROLL_NOISE, ROLL_WIDTH = 7.0, 0.05, np.sqrt(3)  # a uniform in +-sqrt(3) has variance 1


def _roll(rng: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws points [N, 2] on the spiral (t cos t, t sin t) / 7, with angles t [N, 1] uniform in 1.5 pi .. 4.5 pi."""
    angle = rng.uniform(*ROLL_ANGLES, (number, 1))
    return angle * np.concatenate([np.cos(angle), np.sin(angle)], 1) / ROLL_SCALE, angle


def _draw_roll2d(rng: np.random.Generator, number: int) -> dict[str, np.ndarray]:
    spiral, angle = _roll(rng, number)
    return {'point': spiral + ROLL_NOISE * rng.standard_normal((number, 2)), 'angle': angle}


def _draw_roll3d(rng: np.random.Generator, number: int) -> dict[str, np.ndarray]:
    """Draws the Swiss roll as scikit-learn does: x and z lie on the spiral, y is uniform over the width."""
    spiral, angle = _roll(rng, number)
    width = rng.uniform(-ROLL_WIDTH, ROLL_WIDTH, number)
    points = np.stack([spiral[:, 0], width, spiral[:, 1]], 1)
    return {'point': points + ROLL_NOISE * rng.standard_normal((number, 3)), 'angle': angle}


CURVE_NOISE = 0.1


def _draw_curve(rng: np.random.Generator, number: int) -> dict[str, np.ndarray]:
    first = rng.standard_normal(number)
    second = (first**2 - 1) / np.sqrt(2) + CURVE_NOISE * rng.standard_normal(number)
    return {'point': np.stack([first, second], 1)}


def curve_log_density(points: np.ndarray) -> np.ndarray:
    """Returns the log density of x ~ N(0, 1), y ~ N((x^2 - 1) / sqrt(2), 0.1^2): points [N, 2] -> nats [N]."""
    first, second = np.asarray(points, np.float64).T
    return _log_gaussian(first, 1) + _log_gaussian(second - (first**2 - 1) / np.sqrt(2), CURVE_NOISE)
