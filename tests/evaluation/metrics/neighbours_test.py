"""Tests nearest neighbours against scikit-learn, and on a generator that copies."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from genlab.evaluation.metrics import neighbours


@pytest.mark.parametrize('count', [1, 4])
@pytest.mark.parametrize('shift', [0.0, 1e7])
def test_nearest_agrees_with_scikit_learn(count, shift, monkeypatch):
    monkeypatch.setattr(neighbours, 'BLOCK_ELEMENTS', 1000)
    random = np.random.default_rng(0)
    queries, references = random.standard_normal((53, 5)) + shift, random.standard_normal((90, 5)) + shift
    indices, distances = neighbours.nearest(queries, references, count=count)
    expected = NearestNeighbors(n_neighbors=count, algorithm='kd_tree').fit(references).kneighbors(queries)
    np.testing.assert_array_equal(indices, expected[1])
    np.testing.assert_allclose(distances, expected[0], rtol=1e-10)


def test_copies_have_distance_zero():
    points = np.random.default_rng(0).uniform(-1, 1, (40, 3000)).astype(np.float32)
    indices, distances = neighbours.nearest(points[::-1], points, count=2)
    np.testing.assert_array_equal(indices[:, 0], np.arange(40)[::-1])
    assert (distances[:, 0] == 0).all() and (distances[:, 1] > 1).all()
    with pytest.raises(ValueError, match='41 nearest of 40'):
        neighbours.nearest(points, points, count=41)


def test_an_outlier_does_not_change_other_distances():
    """Checks that a diverged sample does not reduce the precision of the other distances."""
    points = np.random.default_rng(0).standard_normal((30, 4))
    far = np.concatenate([points, np.full((1, 4), 1e12)])
    expected = neighbours.nearest(points, points, count=2)
    for references in (points, far):
        indices, distances = neighbours.nearest(far, references, count=2)
        np.testing.assert_array_equal(indices[:-1], expected[0])
        np.testing.assert_array_equal(distances[:-1], expected[1])


def test_memorised():
    random = np.random.default_rng(0)
    train, held_out, fresh = (random.standard_normal((1000, 6)) for _ in range(3))
    assert neighbours.memorised(held_out, train, held_out) == pytest.approx(0.01)
    assert neighbours.memorised(fresh, train, held_out) < 0.03
    assert neighbours.memorised(train[:300] + 1e-3, train, held_out) == 1
    half = np.concatenate([train[:500], fresh[:500] + 10])
    assert neighbours.memorised(half, train, held_out) == pytest.approx(0.5, abs=0.01)
    assert neighbours.memorised(train, train, train) == 1  # copies, if the held-out data contains copies too


def test_the_picture_shows_neighbours_beside_their_sample():
    train = np.broadcast_to(np.linspace(-1, 1, 9)[:, None, None, None], (9, 4, 4, 1))
    indices = np.array([[8, 0, 4], [1, 2, 3]])
    picture = neighbours.picture(train[[0, 8]], train, indices, padding=2)
    assert picture.shape == (4 + 2 + 4, 4 + 8 + 4 + 2 + 4 + 2 + 4, 1) and picture.dtype == np.uint8
    levels = np.round((np.linspace(-1, 1, 9) + 1) * 127.5)
    np.testing.assert_array_equal(picture[1, [1, 13, 19, 25], 0], levels[[0, 8, 0, 4]])
    np.testing.assert_array_equal(picture[7, [1, 13, 19, 25], 0], levels[[8, 1, 2, 3]])
    assert (picture[:, 4:12] == 255).all()
