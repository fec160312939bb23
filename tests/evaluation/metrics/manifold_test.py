"""Tests precision, recall, density and coverage against loops over scikit-learn's neighbours and known values."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from genlab.evaluation.metrics import neighbours
from genlab.evaluation.metrics.manifold import manifold


def radii(features, rank):
    return NearestNeighbors(n_neighbors=rank + 1).fit(features).kneighbors(features)[0][:, rank]


def by_loops(real, samples, narrow, wide):
    inside = lambda centres, radii, point: np.linalg.norm(centres - point, axis=1) <= radii
    return {
        'precision': np.mean([inside(real, radii(real, narrow), y).any() for y in samples]),
        'recall': np.mean([inside(samples, radii(samples, narrow), x).any() for x in real]),
        'density': np.mean([inside(real, radii(real, wide), y).sum() / wide for y in samples]),
        'coverage': np.mean(
            [(np.linalg.norm(samples - x, axis=1) <= radius).any() for x, radius in zip(real, radii(real, wide))]
        ),
    }


@pytest.mark.parametrize('narrow, wide', [(3, 5), (2, 1)])
def test_definitions(narrow, wide, monkeypatch):
    monkeypatch.setattr(neighbours, 'BLOCK_ELEMENTS', 500)  # several blocks, the last one smaller
    random = np.random.default_rng(0)
    real, samples = random.standard_normal((80, 4)), random.standard_normal((60, 4)) * 0.8 + 0.7
    result = manifold(real, samples, nearest_precision=narrow, nearest_density=wide)
    assert result == pytest.approx(by_loops(real, samples, narrow, wide))
    assert 0.2 < result['precision'] < 0.95 and 0.2 < result['recall'] < 0.95  # the four figures differ
    shuffled = manifold(
        random.permutation(real), random.permutation(samples), nearest_precision=narrow, nearest_density=wide
    )
    assert shuffled == pytest.approx(result)


def test_points_on_the_boundary_of_a_ball_are_inside():
    """Compares a set with itself, far from the origin, and points of a lattice, where all distances are ties."""
    points = (1000 + np.random.default_rng(0).standard_normal((100, 7))).astype(np.float32)
    result = manifold(points, points)
    assert result == {'precision': 1, 'recall': 1, 'density': pytest.approx(6 / 5), 'coverage': 1}  # itself and five
    lattice = np.stack(np.meshgrid(*[np.arange(10) * 0.1] * 2), -1).reshape(-1, 2)
    rolled = manifold(lattice, lattice + [0.1, 0], nearest_precision=2)  # every ball reaches the next point
    assert rolled['precision'] == 1 and rolled['recall'] == 1


def test_collapsed_samples_are_precise_and_distant_ones_are_not():
    random = np.random.default_rng(0)
    real = random.standard_normal((400, 2))
    collapsed = manifold(real, 0.05 * random.standard_normal((400, 2)))
    assert collapsed['precision'] == 1 and collapsed['recall'] < 0.05 and collapsed['coverage'] < 0.1
    strangers = manifold(real, real + 100)
    assert strangers == {'precision': 0, 'recall': 0, 'density': 0, 'coverage': 0}
    fresh = manifold(real, random.standard_normal((400, 2)))
    assert fresh['density'] == pytest.approx(1, abs=0.1) and fresh['coverage'] > 0.9
