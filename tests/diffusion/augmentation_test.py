"""Tests non-leaky augmentation: no change by default, exact flips and shifts, and the numbers that describe them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.diffusion import augmentation
from genlab.diffusion.augmentation import Motion, augment, draw

STILL = Motion(*[0.0] * 8)
PROBABLE = jax.jit(lambda images, keys: augment(images, keys, 0.9))
MOVE = jax.jit(augmentation.move)
IMAGE = np.random.RandomState(0).uniform(-1, 1, (8, 8, 2)).astype(np.float32)


def keys(count):
    return jax.random.split(jax.random.key(0), count)


def smooth(rows, columns):
    """Returns an image of long waves, evaluated at any coordinates."""
    return np.sin(0.35 * rows + 0.2) * np.cos(0.3 * columns)


def test_probability_0_changes_nothing():
    images = jnp.stack([IMAGE, -IMAGE])
    same, numbers = jax.jit(lambda images, keys: augment(images, keys, 0.0))(images, keys(2))
    np.testing.assert_array_equal(same, images)
    np.testing.assert_array_equal(numbers, np.zeros((2, 9)))


@pytest.mark.parametrize(
    'motion, expected',
    [
        (STILL, IMAGE),
        (STILL._replace(mirrored=1.0), IMAGE[:, ::-1]),
        (STILL._replace(upside_down=1.0), IMAGE[::-1]),
        (STILL._replace(right=2.0), np.pad(IMAGE, [(0, 0), (2, 0), (0, 0)], 'reflect')[:, :8]),
        (STILL._replace(right=-1.0, down=3.0), np.pad(IMAGE, [(3, 0), (0, 1), (0, 0)], 'reflect')[:8, 1:]),
    ],
    ids=['still', 'mirrored', 'upside down', 'right', 'down and left'],
)
def test_flips_and_moves_by_whole_pixels_are_exact(motion, expected):
    np.testing.assert_array_equal(MOVE(IMAGE, motion), expected)


def test_rotations_by_quarter_turns_are_exact():
    for quarters in (1, 2, 3):
        turned = MOVE(IMAGE, STILL._replace(angle=quarters * np.pi / 2))
        np.testing.assert_allclose(turned, np.rot90(IMAGE, quarters), atol=1e-5)


def test_interpolation_is_exact_for_quadratics_inside():
    rows, columns = np.random.RandomState(1).uniform(1, 6, (2, 5, 3)).astype(np.float32)
    quadratic = lambda y, x: 1 + y - 0.5 * x + 0.2 * y * x + 0.3 * x**2 - 0.1 * y**2 * x**2
    image = quadratic(*np.mgrid[:8, :8])[..., None].astype(np.float32)
    found = augmentation.interpolate(image, rows, columns)[..., 0]
    np.testing.assert_allclose(found, quadratic(rows, columns), rtol=1e-4, atol=1e-4)


def matrix(numbers, side, sign):
    """Returns the affine map that the numbers describe, around the centre: [3, 3] on (x, y down, 1)."""
    mirrored, upside_down, scale, cosine, sine, along, across, right, down = np.float64(numbers)
    turn = lambda angle: np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    size, direction = sign * np.hypot(along, across), np.arctan2(across, along)
    stretch = turn(direction) @ np.diag([2 ** (0.2 * size), 2 ** (-0.2 * size), 1]) @ turn(-direction)
    shift = np.array([[1, 0, right * side / 8], [0, 1, down * side / 8], [0, 0, 1]])
    flips = np.diag([1 - 2 * mirrored, 1 - 2 * upside_down, 1])
    return shift @ stretch @ turn(np.arctan2(sine, cosine + 1)) @ np.diag([2 ** (0.2 * scale)] * 2 + [1]) @ flips


def test_the_numbers_describe_the_applied_transform():
    """Checks that each pixel of the result that comes from inside the image has the value found there."""
    side = 16
    image = smooth(*np.mgrid[:side, :side])[..., None].astype(np.float32)
    moved, numbers = PROBABLE(jnp.stack([jnp.asarray(image)] * 8), keys(8))
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    places, inside = np.stack([x.ravel(), y.ravel(), np.ones(side**2)]), []
    for result, drawn in zip(np.asarray(moved), np.asarray(numbers)):
        errors = []
        for sign in (1, -1):  # stretched or compressed along its direction
            origin = np.linalg.inv(matrix(drawn, side, sign)) @ places
            columns, rows = origin[:2].reshape(2, side, side) + (side - 1) / 2
            known = (np.minimum(rows, columns) >= 1) & (np.maximum(rows, columns) <= side - 2)
            errors.append(np.abs(result[..., 0] - smooth(rows, columns))[known].max())
            inside.append(known.mean())
        assert min(errors) < 0.01
    assert np.mean(inside) > 0.4 and np.abs(np.asarray(numbers)).max(0).min() > 0


def test_an_image_does_not_depend_on_its_batch():
    images = jnp.asarray(np.random.RandomState(2).normal(size=(4, 8, 8, 1)), jnp.float32)
    moved, numbers = PROBABLE(images, keys(4))
    for array, alone in zip((moved, numbers), PROBABLE(images[2:3], keys(4)[2:3])):
        np.testing.assert_allclose(array[2:3], alone, atol=2e-5)  # one row goes through another kernel: rounding
    assert np.abs(numbers[0] - numbers[1]).max() > 0.1


def test_transforms_have_their_probabilities():
    """Expects half of 2,000 images mirrored, a twentieth upside down, and a tenth for each other transform."""
    motions = jax.jit(jax.vmap(lambda key: draw(key, 0.1)))(keys(2000))
    shares = {name: float(np.mean(np.asarray(values) != 0)) for name, values in motions._asdict().items()}
    expected = dict(
        mirrored=0.5, upside_down=0.05, scale=0.1, angle=0.1, stretch=0.1, direction=0.05, right=0.1, down=0.1
    )
    assert shares == {name: pytest.approx(share, abs=0.035) for name, share in expected.items()}
    sizes = {name: np.asarray(values)[np.asarray(values) != 0].std() for name, values in motions._asdict().items()}
    assert sizes['scale'] == pytest.approx(1, abs=0.2) and sizes['angle'] == pytest.approx(np.pi / 3**0.5, abs=0.3)
