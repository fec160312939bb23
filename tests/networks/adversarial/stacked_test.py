"""Tests the stacked generator and its discriminators: stages, and how the condition enters."""

import jax
import numpy as np
import pytest

from genlab.networks.adversarial.stacked import Discriminator, Generator, first_side

RANDOM = np.random.default_rng(0)
GENERATOR = Generator(16, stages=2, channels=1, width=2, blocks=1, condition_size=3)
Z, EMBEDDING, NOISE = (RANDOM.normal(size=(4, size)).astype(np.float32) for size in (5, 6, 3))


def filled(shapes):
    """Returns positive variables."""
    return jax.tree.map(lambda leaf: RANDOM.uniform(-0.3, 1, leaf.shape).astype(np.float32) * 0.5 + 0.2, shapes)


@pytest.fixture(scope='module')
def generator():
    """Returns (variables without zeros, the compiled generator)."""
    shapes = jax.eval_shape(lambda: GENERATOR.init(jax.random.key(0), Z, EMBEDDING, NOISE, False))
    run = jax.jit(lambda variables, embedding, noise: GENERATOR.apply(variables, Z, embedding, noise, False))
    return filled(shapes), run


def test_the_condition_is_drawn_from_mean_and_variance(generator):
    """With c = m + exp(l / 2) e, images depend on m, l and e through c alone: l = 0 and another e give the same c."""
    variables, run = generator
    pictures = jax.device_get(run(variables, EMBEDDING, NOISE))
    dense = variables['params']['condition']
    wide = EMBEDDING @ dense['kernel'] + dense['bias'][None]
    gated = wide[:, :6] / (1 + np.exp(-wide[:, 6:]))
    np.testing.assert_allclose(pictures.mean, gated[:, :3], rtol=1e-4)
    np.testing.assert_allclose(pictures.log_variance, gated[:, 3:], rtol=1e-4)
    zeroed = {name: leaf.copy() for name, leaf in dense.items()}
    for leaf in zeroed.values():
        leaf[..., 3:6] = 0
    unit = {**variables, 'params': {**variables['params'], 'condition': zeroed}}
    again = run(unit, EMBEDDING, np.exp(pictures.log_variance / 2) * NOISE)
    plain = run(unit, EMBEDDING, NOISE)
    for image, same, other in zip(pictures.images, again.images, plain.images):
        np.testing.assert_allclose(same, image, atol=1e-5)
        assert not np.allclose(other, image, atol=1e-3)


def test_later_stages_see_the_features_of_earlier_ones_and_the_condition(generator):
    variables, run = generator
    images = run(variables, EMBEDDING, NOISE).images
    assert [image.shape for image in images] == [(4, 8, 8, 1), (4, 16, 16, 1)]

    def turned(layer, axis):
        """Returns the images after the input or output channels of a layer change their order."""
        kernel = np.flip(variables['params'][layer]['kernel'], axis)
        return run({**variables, 'params': {**variables['params'], layer: {'kernel': kernel}}}, EMBEDDING, NOISE).images

    moved = [not np.allclose(a, b, atol=1e-4) for a, b in zip(images, turned('double_0_convolution', 3))]
    assert moved == [True, True]
    moved = [not np.allclose(a, b, atol=1e-4) for a, b in zip(images, turned('joint_1_convolution', 2))]
    assert moved == [False, True]


def test_pairs_of_one_image_are_judged_one_by_one():
    images, conditions = RANDOM.normal(size=(4, 8, 8, 1)), RANDOM.normal(size=(4, 2, 3))
    module = Discriminator(width=2)
    variables = filled(jax.eval_shape(lambda: module.init(jax.random.key(0), images, conditions, False)))
    run = jax.jit(lambda conditions: module.apply(variables, images, conditions, True, mutable=['batch_stats'])[0])
    together, alone = run(conditions)
    assert together.shape == (4, 2) and alone.shape == (4,)
    for k in range(2):
        one, same = run(conditions[:, k : k + 1])
        np.testing.assert_allclose(one[:, 0], together[:, k], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(same, alone, rtol=1e-5)
    assert not np.allclose(together[:, 0], together[:, 1], rtol=1e-3)


def test_stages_that_start_below_8_pixels_are_refused():
    assert first_side(256, 3) == 64 and first_side(8, 1) == 8
    with pytest.raises(ValueError, match='3 stages of a side of 16 at the end start below 8 pixels: take fewer'):
        first_side(16, 3)
