"""Tests the terms of a layout GAN by networks with known logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab.losses.adversarial import PAIRS
from genlab.models import layout

CLASSES = jnp.array([[0, 1, -1], [1, -1, -1], [-1, -1, -1]])


class Bright(nn.Module):
    """Makes images whose pixels are the sum of all latents of objects that are there."""

    def __call__(self, z, train, objects, boxes, box_classes):
        return (objects[..., 0] * (box_classes >= 0)).sum(1)[:, None, None, None] * jnp.ones((1, 2, 2, 1))


class Mean(nn.Module):
    """Judges an image by its mean, and object m of class k by (m + 1) (k + 1) times that."""

    def __call__(self, images, train, boxes, box_classes):
        means = images.mean((1, 2, 3))
        return means, means[:, None] * jnp.arange(1, 4)[None] * (box_classes + 1.0 + 100 * (box_classes < 0))


def test_terms_average_over_the_objects_that_are_there():
    model = layout.LayoutGAN(Bright(), Mean(), PAIRS['hinge'], 1)
    batch = {
        'x': jnp.array([0.25, -0.5, 0.3])[:, None, None, None] * jnp.ones((1, 2, 2, 1)),
        'boxes': jnp.zeros((3, 3, 4)),
        'box_classes': CLASSES,
    }
    keys, variables = jax.random.split(jax.random.key(0), 3), {'generator': {}, 'discriminator': {}}
    fake = np.asarray(layout.generate(model, variables, keys, batch_condition(batch))[0]).mean((1, 2, 3))
    terms, _ = layout.discriminator_terms(model, variables, batch, keys, 0)
    hinge = lambda real, fake: np.maximum(1 - real, 0) + np.maximum(1 + fake, 0)
    np.testing.assert_allclose(terms['image'], hinge(np.array([0.25, -0.5, 0.3]), fake), rtol=1e-5)
    first = (hinge(0.25, fake[0]) + hinge(0.25 * 4, fake[0] * 4)) / 2  # two objects: 1 * 1 and 2 * 2 times the mean
    second = hinge(-0.5 * 2, fake[1] * 2)
    np.testing.assert_allclose(terms['object'], [first, second, 0], rtol=1e-5)
    terms, _ = layout.generator_terms(model, variables, batch, keys, 0)
    np.testing.assert_allclose(terms['image'], -fake, rtol=1e-5)
    np.testing.assert_allclose(terms['object'], [-2.5 * fake[0], -2 * fake[1], 0], rtol=1e-5)


def batch_condition(batch):
    return {name: batch[name] for name in ('boxes', 'box_classes')}


def test_latents_are_of_an_example_and_of_each_of_its_objects():
    model = layout.LayoutGAN(Bright(), Mean(), PAIRS['hinge'], 2)
    keys = jax.random.split(jax.random.key(0), 4)
    drawn = layout.latents(model, keys, {'box_classes': jnp.zeros((4, 3), int)})
    every = np.concatenate([drawn['z'][:, None], drawn['objects']], 1)
    assert every.shape == (4, 4, 2) and len(np.unique(every)) == every.size
    one = layout.latents(model, keys[2:3], {'box_classes': jnp.zeros((1, 3), int)})
    np.testing.assert_array_equal(one['objects'][0], drawn['objects'][2])


@pytest.mark.parametrize('count', [0, 3])
def test_the_mean_over_objects_has_a_gradient_of_those_that_are_there(count):
    classes = jnp.where(jnp.arange(3) < count, 1, -1)[None]
    gradient = jax.grad(lambda values: layout.over_objects(values, classes).sum())(jnp.ones((1, 3)))
    np.testing.assert_allclose(gradient[0], np.full(3, 1 / 3 if count else 0), rtol=1e-6)
