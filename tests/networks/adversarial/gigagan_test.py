"""Tests the networks of GigaGAN: scales and depths, what a prediction depends on, and the sides of the upsampler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.adversarial.gigagan import Discriminator, Generator, Upsampler, pyramid

SIZES = dict(base=64, most=8, blocks=(2, 1, 1), attentions=(0, 1, 0), head_width=4)
MADE = dict(SIZES, kernels=(1, 2, 2))
TEXT = jnp.zeros((2, 3, 6)), jnp.ones((2, 3), bool)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def rough(module, *inputs):
    """Returns random parameters without zeros."""
    noise, shapes = np.random.default_rng(0), jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs))
    return jax.tree.map(lambda leaf: jnp.asarray(noise.normal(size=leaf.shape), jnp.float32), shapes)


def test_the_generator_makes_an_image_of_each_scale():
    generator = Generator(16, **MADE)
    images, _ = jax.eval_shape(lambda: generator.init_with_output(jax.random.key(0), jnp.zeros((2, 5)), True, *TEXT))
    assert [image.shape for image in images] == [(2, side, side, 3) for side in (16, 8, 4)]


def test_the_generator_sees_style_and_text():
    generator, w, context = Generator(8, **MADE), normal(1, 2, 5), normal(2, 2, 3, 6)
    variables = rough(generator, w, True, context, TEXT[1])
    make = jax.jit(lambda w, context: generator.apply(variables, w, True, context, TEXT[1])[0])
    first = make(w, context)
    assert not np.allclose(make(w + 0.5, context), first, atol=1e-3)
    assert not np.allclose(make(w, context.at[:, 2].add(1.0)), first, atol=1e-3)


@pytest.fixture(scope='module')
def judged():
    """Returns (discriminator's function of images and captions, images of three scales, captions of two kinds)."""
    images = pyramid(normal(3, 2, 16, 16, 3), 3)
    captions = jnp.array([[[1, 2, 0], [3, 4, 1]], [[2, 2, 2], [1, 0, 0]]])
    module = Discriminator(16, words=5, **SIZES, layers=1, group=4, text_width=4, text_blocks=1, text_heads=2)
    variables = rough(module, images, True, captions)
    judge = lambda images, captions, sets=1: module.apply(variables, images, True, captions, sets)
    return jax.jit(judge, static_argnums=2), images, captions


def test_each_scale_is_judged_at_each_depth_below_it(judged):
    judge, images, captions = judged
    shapes = [[part.shape for part in depths] for depths in judge(images, captions)]
    assert shapes == [[(2, 2, 64), (2, 2, 16), (2, 2, 1)], [(2, 2, 16), (2, 2, 1)], [(2, 2, 1)]]


def test_a_scale_is_judged_by_itself(judged):
    """All scales pass a layer as one batch: that must not mix them."""
    judge, images, captions = judged
    before = judge(images, captions)
    for changed in range(3):
        other = tuple(image + (scale == changed) for scale, image in enumerate(images))
        for scale, (old, new) in enumerate(zip(before, judge(other, captions))):
            same = [np.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(old, new)]
            assert same == [scale != changed] * len(old)


def test_two_sets_in_one_batch_are_judged_as_two_batches(judged):
    judge, images, captions = judged
    other = tuple(1 - image for image in images)
    both = tuple(jnp.concatenate(pair) for pair in zip(images, other))
    found = jax.tree.leaves(judge(both, jnp.concatenate([captions, captions]), 2))
    for pair, first, second in zip(found, *(jax.tree.leaves(judge(alone, captions)) for alone in (images, other))):
        np.testing.assert_allclose(pair, jnp.concatenate([first, second]), rtol=1e-4, atol=1e-4)


def test_a_caption_is_judged_by_itself(judged):
    judge, images, captions = judged
    before, after = judge(images, captions), judge(images, captions.at[:, 1].set(4))
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after)):
        np.testing.assert_allclose(a[:, 0], b[:, 0], rtol=1e-4, atol=1e-4)
        assert not np.allclose(a[:, 1], b[:, 1], rtol=1e-3)


@pytest.mark.parametrize('side, made', [(4, (16, 8)), (8, (16,))])
def test_the_upsampler_makes_the_sides_above_its_input(side, made):
    upsampler, small = Upsampler(16, **MADE, bottom=4), jnp.zeros((2, side, side, 3))
    run = lambda: upsampler.init_with_output(jax.random.key(0), jnp.zeros((2, 5)), True, *TEXT, small)[0]
    assert [image.shape[1] for image in jax.eval_shape(run)] == [*made]


def test_the_upsampler_adds_to_its_input():
    """Without parts of its own it returns the doubled input; and other inputs need another network."""
    upsampler, small = Upsampler(16, **MADE, bottom=8), jnp.full((2, 8, 8, 3), 0.5)
    shapes = jax.eval_shape(lambda: upsampler.init(jax.random.key(0), jnp.zeros((2, 5)), True, *TEXT, small))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    (image,) = jax.jit(lambda zeros: upsampler.apply(zeros, jnp.zeros((2, 5)), True, *TEXT, small))(zeros)
    np.testing.assert_allclose(image[:, 2:-2, 2:-2], 0.5, atol=1e-6)
    with pytest.raises(ValueError, match='from sides of 8 to 8, not 4'):
        jax.eval_shape(lambda: upsampler.apply(zeros, jnp.zeros((2, 5)), True, *TEXT, small[:, :4, :4]))


def test_settings_of_too_few_sides_are_refused():
    with pytest.raises(ValueError, match='images of side 32 have 4 sides'):
        jax.eval_shape(lambda: Generator(32, **MADE).init(jax.random.key(0), jnp.zeros((2, 5)), True, *TEXT))
