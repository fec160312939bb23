"""Tests toy densities: they are normalised, and the points are drawn from them."""

import numpy as np
import pytest

from genlab.data import check
from genlab.data.sources.toy import densities, toy
from genlab.errors import ConfigError

EXACT = [name for name, density in densities().items() if density.log_density]


def cells(low, high, number):
    """Returns the midpoints of a grid of cells over a square, [number^2, 2], and the area of a cell."""
    edges = np.linspace(low, high, number + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    return np.stack(np.meshgrid(middle, middle, indexing='ij'), -1).reshape(-1, 2), (edges[1] - edges[0]) ** 2


@pytest.mark.parametrize('name', EXACT)
def test_density_integrates_to_one(name):
    points, area = cells(-3.5, 6.5, 300)
    assert np.exp(toy(name, 'test').log_density(points)).sum() * area == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize('name', EXACT)
def test_points_are_drawn_from_the_density(name):
    """Compares counts in coarse cells with the integrated density by a chi-squared test."""
    source = toy(name)
    sample = source.rows(np.arange(len(source)))['point']
    points, area = cells(-3, 3, 300)
    expected = (np.exp(source.log_density(points)) * area).reshape(15, 20, 15, 20).sum((1, 3)) * len(sample)
    edges = np.linspace(-3, 3, 16)
    found = np.histogram2d(*sample.T, bins=(edges, edges))[0]
    enough = expected > 20
    statistic = ((found - expected)[enough] ** 2 / expected[enough]).sum()
    assert statistic < enough.sum() + 5 * np.sqrt(2 * enough.sum())


@pytest.mark.parametrize('name', list(densities()))
def test_fields_scale_and_splits(name):
    train, test = toy(name), toy(name, 'test')
    rows = train.rows(np.arange(len(train)))
    check(train, rows)
    assert (len(train), len(test)) == (100_000, 10_000)
    assert np.abs(rows['point'].mean(0)).max() < 0.3 and rows['point'].std(0).min() > 0.55
    assert rows['point'].std(0).max() < 1.1
    assert not np.isin(test.rows(np.arange(1000))['point'][:, 0], rows['point'][:, 0]).all()
    np.testing.assert_array_equal(rows['point'], toy(name).rows(np.arange(len(train)))['point'])


@pytest.mark.parametrize('name, modes', [('ring', 8), ('grid', 25)])
def test_labels_are_the_modes(name, modes):
    source = toy(name)
    rows = source.rows(np.arange(len(source)))
    assert source.centres.shape == (modes, 2)
    away = np.linalg.norm(rows['point'] - source.centres[rows['label']], axis=1) / source.spread
    assert (away < 3).mean() == pytest.approx(1 - np.exp(-4.5), abs=2e-3)  # Rayleigh


def test_angle_of_a_roll():
    rows = toy('roll3d').rows(np.arange(1000))
    spiral = rows['angle'] * np.concatenate([np.cos(rows['angle']), np.sin(rows['angle'])], 1) / 7
    assert np.abs(rows['point'][:, [0, 2]] - spiral).max() < 0.3


def test_unknown_density():
    with pytest.raises(ConfigError, match=r'moons.*did you mean ring\?'):
        toy('rings')
