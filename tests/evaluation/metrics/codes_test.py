"""Tests codes with known properties, and PCA, principal angles and maps against other implementations."""

import sys
import types

import numpy as np
import pytest
import scipy.linalg

from genlab.errors import ConfigError, UserError
from genlab.evaluation.metrics import codes, maps


def blobs(number, apart, seed=0):
    """Returns Gaussian codes [number, 6] of four classes, with very different scales, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=number)
    centres = np.random.default_rng(7).standard_normal((4, 6)) * apart
    return ((centres[labels] + rng.standard_normal((number, 6))) * (1, 1, 1, 1, 1, 100)).astype(np.float32), labels


def test_a_linear_probe_finds_linear_classes_only():
    train, test = blobs(400, 3), blobs(200, 3, seed=1)
    accuracy = codes.linear_probe(*train, *test)
    assert accuracy > 0.97 and codes.linear_probe(*train, *test) == accuracy
    assert codes.linear_probe(*train, test[0], (test[1] + 1) % 4) < 0.05
    assert codes.linear_probe(train[0] * 1e-3 + 5, train[1], test[0] * 1e-3 + 5, test[1]) == pytest.approx(
        accuracy, abs=0.02
    )
    unrelated = codes.linear_probe(*blobs(400, 0), *blobs(200, 0, seed=1))
    assert 0.1 < unrelated < 0.4
    square = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    exclusive_or = (square > 0).sum(1) % 2
    assert codes.linear_probe(square[:1000], exclusive_or[:1000], square[1000:], exclusive_or[1000:]) < 0.7


def test_clusters_agree_with_the_classes_and_not_with_random_labels():
    found, labels = blobs(300, 6)
    found = found / np.array([1, 1, 1, 1, 1, 100])
    assert codes.clusters(found, labels) == pytest.approx({'nmi': 1, 'ari': 1})
    assert codes.clusters(found, (labels + 1) % 4) == pytest.approx({'nmi': 1, 'ari': 1})  # names do not matter
    by_chance = codes.clusters(found, np.random.default_rng(1).permutation(labels))
    assert all(abs(value) < 0.05 for value in by_chance.values())
    merged = codes.clusters(found, labels // 2)  # two clusters; each class has two blobs
    assert 0.1 < merged['nmi'] <= 1


def test_units_are_active_where_their_variance_is_above_a_hundredth():
    wave = np.resize([1.0, -1.0], 100)[:, None]  # variance: the square of its height
    assert codes.active_units(wave * (1, 0.11, 0.09, 0)) == (2, 4)
    assert codes.active_units(wave * (1, 0.11, 0.09, 0) + 50) == (2, 4)
    assert codes.active_units(wave * (1, 0.11, 0.09, 0), threshold=1e-9) == (3, 4)


def test_activation_of_sparse_codes():
    sparse = np.array([[0.9, 0, 0, 0.05], [0.5, 0.2, 0, 0], [0, 0.05, 0, 0.1]], np.float32)
    assert codes.activation(sparse) == {'mean_activation': pytest.approx(1.8 / 12), 'l0': 3 / 12, 'dead_units': 2}
    assert codes.activation(sparse, threshold=0.03)['dead_units'] == 1


@pytest.fixture(scope='module')
def examples():
    rng = np.random.default_rng(0)
    return (rng.standard_normal((300, 12)) * np.arange(12, 0, -1) @ rng.standard_normal((12, 12)) + 100).astype(
        np.float32
    )


def test_principal_components_agree_with_scikit_learn(examples, monkeypatch):
    from sklearn.decomposition import PCA

    monkeypatch.setattr(codes, 'BLOCK', 64)
    train, test = examples[:200], examples[200:]
    fitted, oracle = codes.pca(train, 4), PCA(4, svd_solver='full').fit(np.float64(train))
    np.testing.assert_allclose(fitted.mean, oracle.mean_)
    np.testing.assert_allclose(fitted.eigenvalues[:4], oracle.explained_variance_ * 199 / 200, rtol=1e-9)
    expected = oracle.transform(np.float64(test))
    found = codes.pca_codes(fitted, test)
    np.testing.assert_allclose(found * np.sign(found[0]), expected * np.sign(expected[0]), rtol=1e-6, atol=1e-6)
    error = np.square(test - oracle.inverse_transform(expected)).sum(1)
    np.testing.assert_allclose(codes.pca_squared_error(fitted, test), error, rtol=1e-6)


def test_the_error_of_principal_components_is_the_discarded_variance(examples):
    for size in (0, 3, 12):
        fitted = codes.pca(examples, size)
        assert fitted.components.shape == (12, size) and fitted.eigenvalues.shape == (12,)
        discarded = fitted.eigenvalues[size:].sum()
        assert codes.pca_squared_error(fitted, examples).mean() == pytest.approx(discarded, rel=1e-9, abs=1e-9)
    assert (np.take_along_axis(fitted.components, np.abs(fitted.components).argmax(0)[None], 0) > 0).all()


def test_principal_angle_agrees_with_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 9, 3))
    assert codes.principal_angle(a, b) == pytest.approx(np.degrees(scipy.linalg.subspace_angles(a, b)[0]), rel=1e-9)
    assert codes.principal_angle(a, a @ rng.standard_normal((3, 3))) < 1e-10
    for angle in (1e-6, 30, 89.9):
        turn = np.radians(angle)
        assert codes.principal_angle(
            np.eye(3)[:, :1], np.array([[np.cos(turn)], [np.sin(turn)], [0]])
        ) == pytest.approx(angle)


def test_a_direction_that_is_missing_is_a_right_angle():
    basis = np.eye(5)
    assert codes.principal_angle(basis[:, :3], basis[:, :2]) == codes.principal_angle(basis[:, :2], basis[:, :3]) == 90
    twice = basis[:, [0, 1, 1]]  # three columns of rank two
    assert codes.principal_angle(twice, basis[:, :3]) == 90 and codes.principal_angle(twice, basis[:, :2]) < 1e-10


def test_the_span_of_an_affine_decoder_and_of_no_other():
    rng = np.random.default_rng(0)
    weights, bias = rng.standard_normal((3, 8)).astype(np.float32), rng.standard_normal(8).astype(np.float32)
    affine = lambda z: (z @ weights + bias).reshape(-1, 2, 2, 2)
    np.testing.assert_allclose(codes.affine_span(affine, 3), weights.T, atol=1e-5)
    assert codes.affine_span(lambda z: np.tanh(affine(z)), 3) is None
    rectified = lambda z: np.maximum(z @ weights, 0)
    np.testing.assert_allclose(rectified(2 * np.eye(3)), 2 * rectified(np.eye(3)))  # not linear, although it doubles
    assert codes.affine_span(rectified, 3) is None
    np.testing.assert_array_equal(codes.affine_span(lambda z: np.ones((len(z), 4)), 3), np.zeros((4, 3)))


def test_usage_of_a_codebook():
    assert codes.usage(np.arange(8).reshape(2, 2, 2), 8) == pytest.approx({'codebook_used': 1, 'perplexity': 8})
    assert codes.usage(np.full((3, 4, 4), 5), 8) == pytest.approx({'codebook_used': 1 / 8, 'perplexity': 1})
    assert codes.usage(np.array([0, 0, 0, 7]), 8)['perplexity'] == pytest.approx(4 / 3**0.75)


def test_planes(monkeypatch):
    found, labels = blobs(60, 8)
    np.testing.assert_allclose(
        codes.plane(found, 'pca'), codes.pca_codes(codes.pca(np.float64(found), 2), found), rtol=1e-6
    )
    tsne = codes.plane(found / np.array([1, 1, 1, 1, 1, 100]), 'tsne', 3)
    distance = np.linalg.norm(tsne[:, None] - tsne, axis=-1) + 1e9 * np.eye(60)
    assert tsne.shape == (60, 2) and (labels[distance.argmin(1)] == labels).mean() > 0.9
    np.testing.assert_array_equal(codes.plane(found[:, :2], 'tsne'), found[:, :2])
    np.testing.assert_array_equal(codes.plane(found[:, :1], 'pca'), found[:, [0]] * (1, 0))
    monkeypatch.setattr(codes, 'MAPPED', 10)
    assert codes.plane(found, 'pca').shape == (10, 2)
    with pytest.raises(ConfigError, match='choose from pca, tsne, umap'):
        codes.plane(found, 'mds')


def test_umap_is_used_if_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, 'umap', None)
    with pytest.raises(UserError, match='pip install umap-learn'):
        codes.plane(np.zeros((5, 3)), 'umap')
    fitted = types.SimpleNamespace(fit_transform=lambda codes: codes[:, :2] + 1)
    monkeypatch.setitem(sys.modules, 'umap', types.SimpleNamespace(UMAP=lambda **options: fitted))
    np.testing.assert_array_equal(codes.plane(np.zeros((5, 3)), 'umap'), np.ones((5, 2)))


def test_a_map_shows_classes_at_their_positions_in_their_colours():
    points = np.array([[-1, -1], [1, -1], [1, 1], [np.nan, 0]])
    picture = maps.map_picture(points, [0, 1, 2, 2, 9], ('circle', 'square', 'star'), size=300)
    assert picture.dtype == np.uint8 and picture.shape[0] == 300 and picture.shape[1] > 340
    colours = maps.palette(3)
    for (row, column), colour in zip(((288, 12), (288, 288), (12, 288)), colours):
        np.testing.assert_array_equal(picture[row, column], colour)  # y upwards, with a margin of 4 % of the side
    assert (picture[20:280, 20:280] == 255).all()
    legend = {tuple(pixel) for pixel in picture[:, 300:].reshape(-1, 3)}
    assert set(colours) < legend


def test_maps_of_one_class_of_many_and_of_none():
    assert maps.map_picture(np.zeros((3, 2)), size=64).shape == (64, 64, 3)
    assert maps.map_picture(np.full((3, 2), np.nan), size=64).shape == (64, 64, 3)
    picture = maps.map_picture(np.random.default_rng(0).normal(size=(50, 2)), np.arange(50), size=64)
    assert picture.shape[0] == 64 and len(set(maps.palette(50))) == 50
