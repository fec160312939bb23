"""Tests interpolation paths with known points: on the circle, between orthogonal vectors, and in degenerate cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.latents.interpolation import linear, path, spherical

TIMES = np.linspace(0, 1, 9)


def at(angle, length=1.0):
    return length * jnp.array([jnp.cos(angle), jnp.sin(angle)])


@pytest.fixture(scope='module')
def along():
    """Returns spherical() of one pair at all TIMES, [9, ...]."""
    return lambda a, b: np.asarray(path(a[None], b[None], len(TIMES), spherical)[0])


@pytest.mark.parametrize('start, end', [(0.3, 1.9), (1.0, -1.5), (-0.2, 2.9), (0.5, 0.5001)])
def test_on_the_circle_the_angle_is_linear_in_time(along, start, end):
    expected = np.stack([at(start + t * (end - start)) for t in TIMES])
    np.testing.assert_allclose(along(at(start), at(end)), expected, atol=2e-6)


def test_lengths_are_linear_in_time(along):
    lengths = np.linalg.norm(along(at(0.1, 2.0), at(2.0, 5.0)), axis=-1)
    np.testing.assert_allclose(lengths, 2 + 3 * TIMES, rtol=1e-5)


def test_codes_of_any_shape_at_constant_angular_speed(along):
    a, b = np.random.RandomState(0).randn(2, 3, 4, 5).astype(np.float32)
    between = along(a, b)
    assert between.shape == (9, 3, 4, 5)
    np.testing.assert_array_equal(between[[0, -1]], np.stack([a, b]))  # exactly
    units = between.reshape(9, -1) / np.linalg.norm(between.reshape(9, -1), axis=1, keepdims=True)
    turns = np.arccos(np.sum(np.float64(units[1:]) * units[:-1], 1))
    cosine = np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b)
    np.testing.assert_allclose(turns, np.arccos(cosine) / 8, rtol=1e-4)
    basis = np.linalg.qr(np.stack([a.ravel(), b.ravel()], 1))[0]
    np.testing.assert_allclose(units @ basis @ basis.T, units, atol=1e-6)  # within the plane of both codes


def test_parallel_codes_change_in_length_only(along):
    a = np.array([3.0, -4.0, 12.0], np.float32)
    np.testing.assert_allclose(along(a, 3 * a), (1 + 2 * TIMES)[:, None] * a, rtol=1e-5)
    np.testing.assert_allclose(along(a, a), np.stack([a] * 9), rtol=1e-6)


@pytest.mark.parametrize('noise', [0.0, 1e-7])
def test_antiparallel_codes_are_joined_by_half_a_circle(along, noise):
    a = np.array([3.0, -4.0, 12.0], np.float32)
    between = along(a, -a * np.float32(1 + noise) + np.float32(noise))
    np.testing.assert_allclose(np.linalg.norm(between, axis=1), 13, rtol=1e-5)
    np.testing.assert_allclose(between @ a / 169, np.cos(np.pi * TIMES), atol=1e-5)


def test_from_zero_and_in_one_dimension_the_path_is_straight(along):
    b = np.array([1.0, 2.0], np.float32)
    np.testing.assert_allclose(along(np.zeros(2, np.float32), b), TIMES[:, None] * b, rtol=1e-6)
    np.testing.assert_allclose(along(np.ones(1, np.float32), -np.ones(1, np.float32))[:, 0], 1 - 2 * TIMES, atol=1e-6)


def test_linear_is_straight_and_exact_at_its_ends():
    a, b = np.random.RandomState(1).randn(2, 6, 7).astype(np.float32)
    between = np.asarray(path(a, b, 5))
    np.testing.assert_array_equal(between[:, 0], a)
    np.testing.assert_array_equal(between[:, -1], b)
    np.testing.assert_allclose(between[:, 1], 0.75 * a + 0.25 * b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(linear(a, b, 2.0), 2 * b - a, rtol=1e-5, atol=1e-6)


def test_half_way_between_gaussian_codes_only_the_straight_line_is_short():
    a, b = jax.random.normal(jax.random.key(0), (2, 20, 500))
    lengths = {between: np.linalg.norm(path(a, b, 3, between)[:, 1], axis=1).mean() for between in (linear, spherical)}
    assert lengths[linear] == pytest.approx(np.sqrt(500 / 2), rel=0.03)
    assert lengths[spherical] == pytest.approx(np.sqrt(500), rel=0.03)
