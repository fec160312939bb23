"""Tests the terms of GigaGAN that compare examples or sum over scales, on one device and on four, and its sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import gigagan as config_file
from genlab import data, experiment
from genlab.config import small
from genlab.models import text_to_image
from genlab.networks.encoders.image_text import ImageText
from genlab.run.describe import describe, totals

AXIS = 'batch'


def on_four(function, *arrays):
    """Calls a function of an axis name on four devices, each with a consecutive part of the arrays."""
    parts = [array.reshape(4, -1, *array.shape[1:]) for array in arrays]
    return jax.pmap(functools.partial(function, axis=AXIS), AXIS)(*parts)


def test_the_next_example_is_that_of_the_global_batch():
    rows = jnp.arange(16).reshape(8, 2)
    one = text_to_image.following(rows, None)
    np.testing.assert_array_equal(one, np.roll(rows, -1, 0))
    four = on_four(text_to_image.following, rows)
    np.testing.assert_array_equal(four.reshape(8, 2), one)


def test_a_replaced_word_is_one_of_those_that_differ():
    captions, others = jnp.array([[1, 2, 3, 4]] * 64), jnp.array([[1, 7, 8, 4]] * 64)
    keys = jax.random.split(jax.random.key(0), 64)
    found = np.asarray(text_to_image.replace_word(captions, others, keys))
    assert {tuple(row) for row in found.tolist()} == {(1, 7, 3, 4), (1, 2, 8, 4)}
    np.testing.assert_array_equal(text_to_image.replace_word(captions, captions, keys), captions)


def test_matching_compares_all_examples_of_the_global_batch():
    """Value and gradient of the mean over four devices are those of one device."""
    matcher = ImageText(words=5, features=4, base=32, most=4, width=4, blocks=1, heads=2)
    noise = np.random.default_rng(0)
    images = jnp.asarray(noise.normal(size=(8, 8, 8, 3)), jnp.float32)
    captions = jnp.asarray(noise.integers(0, 5, (8, 3)))
    shapes = jax.eval_shape(lambda: matcher.init(jax.random.key(0), images, captions, False))
    params = jax.tree.map(lambda leaf: jnp.asarray(0.5 * noise.normal(size=leaf.shape), jnp.float32), shapes['params'])
    nets = text_to_image.Networks(None, None, None, None, matcher)

    def loss(params, images, captions, axis):
        model = text_to_image.TextToImage(nets, None, 4, 1, axis=axis)
        batch = {'x': images, 'caption': captions}
        terms, _ = text_to_image.matcher_terms(model, {'matcher': {'params': params}}, batch, None, None)
        return terms['contrastive'].mean()

    one = jax.jit(jax.value_and_grad(functools.partial(loss, axis=None)))(params, images, captions)

    def mean(images, captions, axis):
        return jax.lax.pmean(jax.value_and_grad(functools.partial(loss, axis=axis))(params, images, captions), axis)

    four = on_four(mean, images, captions)
    assert float(one[0]) > 0.5
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four)):
        np.testing.assert_allclose(b[0], a, rtol=1e-4, atol=1e-5)


def test_scales_and_depths_are_weighed():
    """Constant logits of each depth show the weights; the largest scale counts twice."""
    logits = (
        (jnp.full((2, 16), 3.0), jnp.full((2, 4), 5.0), jnp.full((2, 1), 7.0)),
        (jnp.full((2, 4), 11.0), jnp.full((2, 1), 13.0)),
    )
    found = text_to_image.weighted(lambda logits: logits, 0.1, logits)
    np.testing.assert_allclose(found, (2 * (0.3 + 0.5 + 7) + (1.1 + 13)) / 3, rtol=1e-6)
    square = text_to_image.weighted(lambda a, b: a * b, 0.0, logits, logits)
    np.testing.assert_allclose(square, (2 * 49 + 169) / 3, rtol=1e-6)


def test_each_place_has_a_loss_of_its_own():
    logits = ((jnp.array([[1.0, 3.0], [0.0, 2.0]]),),)
    np.testing.assert_allclose(text_to_image.weighted(jnp.square, 0.0, logits), [5.0, 2.0])


@pytest.fixture(scope='module')
def begun():
    """Returns (small model, variables, batch) of the default."""
    config = small(config_file.get_config())
    data.resolve(config, data.declared(config.data), measure=False)
    model = text_to_image.from_config(config, None)
    noise = np.random.default_rng(0)
    caption = np.array([[1, 2, 0, 0], [1, 2, 0, 0], [3, 0, 0, 0], [4, 5, 6, 7]])
    batch = {'x': jnp.asarray(noise.uniform(-1, 1, (4, 16, 16, 3)), jnp.float32), 'caption': jnp.asarray(caption)}
    variables = {}
    for name, network in text_to_image.networks(model, batch).items():
        shapes = jax.eval_shape(lambda: network.module.init(jax.random.key(0), *network.inputs, **network.named))
        variables[name] = jax.tree.map(lambda leaf: jnp.asarray(noise.normal(size=leaf.shape), leaf.dtype), shapes)
    return model, variables, batch


def test_a_caption_that_equals_the_next_one_is_no_mismatch(begun):
    model, variables, batch = begun
    keys = jax.random.split(jax.random.key(0), 4)
    terms = jax.jit(
        lambda variables: {
            name: term
            for name, term in text_to_image.discriminator_terms(model, variables, batch, keys, jnp.zeros(()))[0].items()
            if name != 'r1'
        }
    )(variables)
    assert {name: term.shape for name, term in terms.items()} == dict.fromkeys(terms, (4,))
    assert terms['matching'][0] == 0 and (terms['matching'][1:] > 0).all() and (terms['adversarial'] > 0).all()


def test_an_upsampler_takes_true_images_and_samples():
    model = text_to_image.TextToImage(
        text_to_image.Networks(None, None, None, text_to_image.gigagan.Discriminator(8, 3)), None, 4, 1, input='image'
    )
    true = jnp.arange(64.0).reshape(1, 8, 8, 1)
    made = text_to_image._small(model, {'image': true})
    assert made.shape == (1, 4, 4, 1) and made[0, 0, 0, 0] == true[0, :2, :2].mean()
    np.testing.assert_array_equal(text_to_image._small(model, {'image': made}), made)


def test_the_size_of_the_paper():
    """Compares with 652.5 and 381.4 million of the published 64x64 model: see docs/systems/gigagan.md."""
    counts = totals(describe(config_file.get_config('paper'), experiment.load('text_to_image')))
    generator = counts['generator'] + counts['mapping'] + counts['text']
    assert generator == 617_438_445 + 5_379_072 + 50_453_504 and abs(generator / 652.5e6 - 1) < 0.04
    assert counts['discriminator'] == 419_165_701
