"""Tests filters with known results, and parameters that increase with the noise."""

import numpy as np
import pytest

from genlab.evaluation.metrics import filters


def step(height, width=8, at=4):
    """Returns an image [1, 3, width, 1] of a vertical edge from 0 up to `height`."""
    return np.tile(np.where(np.arange(width) < at, 0, height)[None, None, :, None], (1, 3, 1, 1)).astype(np.float64)


def test_total_variation_shrinks_a_step_by_its_closed_form():
    """Expects both sides of an edge to approach each other by weight / width of the side."""
    for at in (4, 2):
        found = filters.total_variation(step(1.0, at=at), weight=0.4, steps=2000)
        np.testing.assert_allclose(found, step(1 - 0.4 / at - 0.4 / (8 - at), at=at) + 0.4 / at, atol=1e-3)
    np.testing.assert_allclose(
        filters.total_variation(step(1.0), weight=5.0, steps=2000), 0.5, atol=1e-3
    )  # constant, with the same mean
    turned = filters.total_variation(step(1.0).swapaxes(1, 2), weight=0.4, steps=50)
    np.testing.assert_allclose(turned.swapaxes(1, 2), filters.total_variation(step(1.0), weight=0.4, steps=50))


def objective(images, noisy, weight):
    down, right = np.zeros_like(images), np.zeros_like(images)
    down[:, :-1], right[:, :, :-1] = np.diff(images, axis=1), np.diff(images, axis=2)
    return (np.square(images - noisy) / 2 + weight * np.hypot(down, right)).sum((1, 2, 3))


def test_total_variation_minimises_its_objective():
    rng = np.random.default_rng(0)
    noisy = rng.standard_normal((2, 9, 7, 3))
    values = [
        objective(filters.total_variation(noisy, weight=0.5, steps=steps), noisy, 0.5) for steps in (0, 10, 100, 2000)
    ]
    assert (np.diff(values, axis=0) < 0).all()
    found = filters.total_variation(noisy, weight=0.5, steps=2000)
    for _ in range(20):
        assert (objective(found + 0.02 * rng.standard_normal(found.shape), noisy, 0.5) > values[-1]).all()


@pytest.mark.parametrize(
    'name, parameter', [('gaussian', {'sigma': 1.0}), ('median', {'size': 3}), ('total_variation', {'weight': 0.3})]
)
def test_filters_mix_neither_examples_nor_channels(name, parameter):
    images = np.random.default_rng(0).uniform(-1, 1, (3, 6, 5, 2)).astype(np.float32)
    apply = getattr(filters, name)
    filtered = apply(images, **parameter)
    assert filtered.dtype == np.float32 and filtered.shape == images.shape
    np.testing.assert_allclose(filtered[1:2, :, :, 1:], apply(images[1:2, :, :, 1:], **parameter), atol=1e-6)
    np.testing.assert_allclose(apply(np.full_like(images, 0.5), **parameter), 0.5, atol=1e-6)
    assert filtered.var() < images.var()


def pictures(number, noise, seed=0):
    """Returns (noisy, clean) discs [number, 16, 16, 1]."""
    rng = np.random.default_rng(seed)
    x, y, radius = rng.uniform((5, 5, 3), (11, 11, 6), (number, 3)).T[..., None, None]
    column, row = np.meshgrid(np.arange(16), np.arange(16))
    clean = np.where(np.hypot(column - x, row - y) < radius, 1, -1)[..., None].astype(np.float32)
    return clean + noise * rng.standard_normal(clean.shape).astype(np.float32), clean


def test_parameters_are_tuned_to_the_noise():
    little, much = filters.tuned(*pictures(20, 0.1)), filters.tuned(*pictures(20, 0.6))
    assert {*little} == {'gaussian', 'median', 'total_variation'}
    assert little['gaussian'].keywords['sigma'] < much['gaussian'].keywords['sigma']
    assert little['total_variation'].keywords['weight'] < much['total_variation'].keywords['weight']
    noisy, clean = pictures(20, 0.6, seed=1)
    gain = filters._psnr(much['total_variation'](noisy), clean) - filters._psnr(noisy, clean)
    assert gain.min() > 5
    assert filters.best(much, *pictures(20, 0.6)) == 'total_variation'  # piecewise constant images suit it
    pepper = np.where(np.random.default_rng(0).random(clean.shape) < 0.1, -clean, clean)
    assert filters.best(filters.tuned(pepper, clean), pepper, clean) == 'median'


def test_psnr_in_closed_form():
    a = np.zeros((2, 4, 4, 1))
    np.testing.assert_allclose(filters._psnr(a, a + np.array([0.2, 2])[:, None, None, None]), [20, 0])
    assert np.isfinite(filters._psnr(a, a)).all()
