"""Tests the distance in feature maps against numpy, and where a naive formula gives NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.losses.perceptual import feature_distance


def test_the_distance_is_one_minus_the_cosine_averaged_over_pixels_and_summed_over_layers():
    draw = np.random.RandomState(0).normal
    shapes = (2, 4, 4, 3), (2, 2, 2, 5)
    output, target = ([draw(size=shape).astype(np.float32) for shape in shapes] for _ in range(2))
    cosine = lambda f, g: (f * g).sum(-1) / np.linalg.norm(f, axis=-1) / np.linalg.norm(g, axis=-1)
    expected = sum((2 - 2 * cosine(f, g)).mean((1, 2)) for f, g in zip(output, target))
    np.testing.assert_allclose(feature_distance(output, target), expected, rtol=1e-5)
    np.testing.assert_allclose(feature_distance([3 * f for f in output], output), 0, atol=1e-6)


def test_pixels_without_features_have_finite_gradients_and_wrong_shapes_raise():
    one = jnp.zeros((1, 1, 2, 3)).at[0, 0, 0, 0].set(1.0)
    assert np.isfinite(jax.grad(lambda maps: feature_distance([maps], [1 - one])[0])(one)).all()
    with pytest.raises(AssertionError):
        feature_distance([one], [one[:, :, :1]])
