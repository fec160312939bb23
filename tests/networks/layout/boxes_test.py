"""Tests the sampling of boxes against loops over objects, bins, samples and pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.layout import boxes


def bilinear(image, y, x):
    """Interpolates image [H, W, C] at cells (y, x) as RoIAlign does: 0 far outside, borders repeated nearby."""
    height, width = image.shape[:2]
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(image.shape[2])
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    upper = (1 - (x - x0)) * image[y0, x0] + (x - x0) * image[y0, x1]
    lower = (1 - (x - x0)) * image[y1, x0] + (x - x0) * image[y1, x1]
    return (1 - (y - y0)) * upper + (y - y0) * lower


def roi_align(image, box, size, offset):
    """He et al. 2017: every bin is the mean of ceil(cells) x ceil(cells) bilinear samples."""
    scale = np.array([image.shape[1], image.shape[0]] * 2)
    x0, y0, x1, y1 = np.asarray(box, np.float64) * scale - offset
    height, width = max(y1 - y0, 1) / size, max(x1 - x0, 1) / size
    down, across = int(np.ceil(height)), int(np.ceil(width))
    out = np.zeros((size, size, image.shape[2]))
    for i in range(size):
        for j in range(size):
            for a in range(down):
                for b in range(across):
                    y, x = y0 + (i + (a + 0.5) / down) * height, x0 + (j + (b + 0.5) / across) * width
                    out[i, j] += bilinear(image, y, x) / (down * across)
    return out


BOXES = np.array(
    [[[0.1, 0.2, 0.55, 0.9], [0, 0, 1, 1], [0.93, 0.4, 0.97, 0.43]], [[0, 0, 0, 0], [0.31, 0.02, 1, 0.5], [0.5] * 4]]
)


@pytest.mark.parametrize('offset', [0.0, 0.5])
def test_aligned_features_equal_a_loop(offset):
    features = np.random.default_rng(0).normal(size=(2, 11, 7, 3)).astype(np.float32)
    found = jax.jit(lambda *inputs: boxes.align(*inputs, 3, offset=offset))(features, BOXES.astype(np.float32))
    expected = [[roi_align(image, box, 3, offset) for box in row] for image, row in zip(features, BOXES)]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_crop_of_the_whole_image_is_the_image():
    image = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype(np.float32)
    crop = boxes.align(image, jnp.array([[[0.0, 0, 1, 1]]]), 6, offset=0.5)
    np.testing.assert_allclose(crop[:, 0], image, atol=1e-6)


def placed(mask, box, sampled):
    """Samples a mask [S, S] at `sampled` x `sampled` places from border to border, 0 outside."""
    x0, y0, x1, y1 = box
    around, last = np.pad(mask, 1), len(mask) - 1
    out = np.zeros((sampled, sampled))
    for i in range(sampled):
        for j in range(sampled):
            y = (i / (sampled - 1) - y0) / (y1 - y0) * last + 1  # in the padded mask
            x = (j / (sampled - 1) - x0) / (x1 - x0) * last + 1
            if 0 <= y <= last + 2 and 0 <= x <= last + 2:
                out[i, j] = bilinear(around[..., None], y, x)[0]
    return out


def test_placed_masks_equal_a_loop():
    masks = np.random.default_rng(1).uniform(size=(1, 2, 4, 4)).astype(np.float32)
    where = np.array([[[0.2, 0.1, 0.7, 0.5], [0, 0.55, 1, 1]]])
    expected = np.stack([placed(mask, box, 9) for mask, box in zip(masks[0], where[0])], -1)
    place = jax.jit(boxes.place, static_argnums=(2, 3))
    same = place(masks, where.astype(np.float32), 9, 9)[0]
    np.testing.assert_allclose(same, expected, atol=2e-6)
    resized = jax.image.resize(expected, (18, 18, 2), 'linear', antialias=False)
    np.testing.assert_allclose(place(masks, where.astype(np.float32), 18, 9)[0], resized, atol=2e-6)
    halved = np.array([[0, 0.5, 0.5, 0], [0, 0, 0, 0]])[:1]  # of two cells, the middle ones of each half
    np.testing.assert_allclose(boxes.resizing(4, 1), halved)
