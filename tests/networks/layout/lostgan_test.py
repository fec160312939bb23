"""Tests ISLA normalisation against a loop, that absent objects change nothing, and the counts of the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.layout.discriminator import Discriminator
from genlab.networks.layout.generator import Generator, IslaNorm

CLASSES = jnp.array([[0, 2, -1], [1, -1, -1]])
BOXES = jnp.array([[[0.1, 0.1, 0.6, 0.7], [0.5, 0.4, 1, 1], [0] * 4], [[0.2, 0, 0.9, 0.4], [0] * 4, [0] * 4]])


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_scale_and_shift_of_a_pixel_are_weighted_by_the_masks():
    x, styles = normal(0, 2, 3, 3, 4), normal(1, 2, 3, 5)
    masks = jax.nn.relu(normal(2, 2, 3, 3, 3)).at[0, 0, 0].set(0)  # no object is at one pixel
    layer = IslaNorm(None)
    variables = layer.init(jax.random.key(0), x, styles, masks, False)
    y, _ = layer.apply(variables, x, styles, masks, True, mutable=['batch_stats', 'spectral'])
    kernels = {name: np.asarray(variables['params'][name]['kernel']) for name in ('scale', 'shift')}
    affine = {name: np.asarray(styles) @ (kernel / np.linalg.svd(kernel)[1][0]) for name, kernel in kernels.items()}
    x, y, masks = (np.asarray(array) for array in (x, y, masks))
    normalised = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    for image in range(2):
        for row in range(3):
            for column in range(3):
                scale, shift, total = np.ones(4), np.zeros(4), masks[image, row, column].sum()
                for number, mask in enumerate(masks[image, row, column]):
                    if mask > 0:
                        scale += affine['scale'][image, number] * mask / total
                        shift += affine['shift'][image, number] * mask / total
                expected = normalised[image, row, column] * scale + shift
                np.testing.assert_allclose(y[image, row, column], expected, atol=2e-3)
    np.testing.assert_allclose(y[0, 0, 0], normalised[0, 0, 0], atol=1e-5)


@pytest.fixture(scope='module')
def generated():
    """A function from (objects, boxes) to images and statistics in training mode, and its gradient at objects."""
    network = Generator(8, 3, width=4, embedding=3, mask_width=4)
    inputs = dict(z=normal(0, 2, 3), objects=normal(1, 2, 3, 2), boxes=BOXES, box_classes=CLASSES)
    variables = jax.jit(lambda: network.init(jax.random.key(0), train=False, **inputs))()
    mutable = ['batch_stats', 'spectral']

    @jax.jit
    def run(objects, boxes):
        given = inputs | {'objects': objects, 'boxes': boxes}
        generate = lambda objects: network.apply(
            variables, train=True, **(given | {'objects': objects}), mutable=mutable
        )
        images, back, stats = jax.vjp(generate, objects, has_aux=True)
        return images, stats, back(jnp.cos(images))[0]

    return run, inputs['objects']


def test_absent_objects_change_neither_images_nor_statistics(generated):
    run, objects = generated
    absent = CLASSES < 0
    other = jnp.where(absent[..., None], 100 * normal(2, 2, 3, 2), objects)
    elsewhere = jnp.where(absent[..., None], jnp.array([0.3, 0.3, 0.8, 0.8])[None, None], BOXES)
    first, second = run(objects, BOXES), run(other, elsewhere)
    for old, new in zip(jax.tree.leaves(first[:2]), jax.tree.leaves(second[:2])):
        np.testing.assert_allclose(new, old, atol=1e-6)
    gradient = np.abs(first[2]).sum(-1)
    assert (gradient[absent] == 0).all() and (gradient[~absent] > 0).all()


def test_a_latent_changes_the_image_of_its_object_alone(generated):
    """Objects meet in the statistics of a batch only; of two images, the other one hardly changes."""
    run, objects = generated
    images = run(objects, BOXES)[0]
    changed = np.abs(run(objects.at[0, 0].add(3), BOXES)[0] - images).mean((1, 2, 3))
    assert changed[0] > 3 * changed[1]


def test_objects_are_judged_by_their_box_and_class():
    network = Discriminator(3, width=4, halvings=(True, False), taps=(0, 1))
    images = normal(3, 2, 16, 16, 3)
    variables = jax.jit(lambda: network.init(jax.random.key(0), images, False, BOXES, CLASSES))()
    judge = jax.jit(lambda boxes, classes: network.apply(variables, images, False, boxes, classes))
    image, objects = judge(BOXES, CLASSES)
    assert image.shape == (2,) and objects.shape == (2, 3)
    order = jnp.array([2, 0, 1])  # slots have no order
    np.testing.assert_allclose(judge(BOXES[:, order], CLASSES[:, order])[1], objects[:, order], atol=1e-5)
    moved = BOXES.at[0, 0].set(jnp.array([0.4, 0.1, 0.9, 0.7]))
    other = CLASSES.at[1, 0].set(2)
    assert judge(moved, CLASSES)[1][0, 0] != objects[0, 0] and judge(BOXES, other)[1][1, 0] != objects[1, 0]
    for again in (judge(moved, CLASSES), judge(BOXES, other)):
        np.testing.assert_array_equal(again[0], image)  # the image's logit does not see the layout
        np.testing.assert_allclose(again[1][0, 1], objects[0, 1], atol=1e-6)


def test_parameters_of_the_paper():
    batch = dict(boxes=jnp.zeros((1, 8, 4)), box_classes=jnp.zeros((1, 8), int))

    def count(module, *inputs, **named):
        variables = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, False, **named, **batch))
        return sum(leaf.size for leaf in jax.tree.leaves(variables['params']))

    objects = jnp.zeros((1, 8, 128))
    assert count(Generator(128, 184), objects[:, 0], objects=objects) == 36_296_036
    assert count(Discriminator(184), jnp.zeros((1, 128, 128, 3))) == 57_881_538
