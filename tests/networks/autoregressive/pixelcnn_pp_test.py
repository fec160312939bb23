"""Tests PixelCNN++: its order, its decoding pixel by pixel, its label and the published count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.autoregressive.pixelcnn_pp import PixelCNNPP
from support.causality import assert_causal, assert_decoding_equals_the_full_pass, random_variables

NETWORK = PixelCNNPP((4, 4), 2, mixtures=2, width=4, blocks=1, levels=3, classes=2)
LABEL = np.array([[0.0, 1.0], [0.6, 0.4]], np.float32)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 2)).astype(np.float32)


def test_a_pixel_sees_all_earlier_pixels_and_no_other():
    network = NETWORK.clone(levels=2)
    variables = random_variables(network, IMAGES, False, scale=0.8, label=LABEL)
    assert_causal(lambda x: network.apply(variables, x, False, label=LABEL[:1]), IMAGES[:1])


def test_decoding_equals_the_full_pass():
    """Three levels: the middle one has a level above and a level below."""
    network = NETWORK.clone(edge_bias=False)
    variables = random_variables(network, IMAGES, False, scale=0.8, label=LABEL)
    assert_decoding_equals_the_full_pass(network, variables, IMAGES, label=LABEL)


def test_the_label_reaches_every_pixel_and_dropout_only_training():
    network = NETWORK.clone(levels=1)
    variables = random_variables(network, IMAGES, False, label=LABEL)
    keys = jax.random.split(jax.random.key(0), 2)

    @jax.jit
    def outputs(variables):
        run = lambda label, train: network.apply(variables, IMAGES, train, keys, label=label)
        return run(LABEL, False), run(LABEL[:, ::-1], False), run(LABEL, True)

    base, label, dropped = outputs(variables)
    assert (label != base).any(-1).all()
    assert (np.abs(dropped - base) > 1e-3).any()


def test_the_count_of_the_paper():
    images, network = jnp.zeros((1, 32, 32, 3)), PixelCNNPP((32, 32), 3)
    outputs, shapes = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), images, False))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 53_659_080
    assert outputs.shape == (1, 32, 32, 100)


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match='choose fewer levels'):
        jax.eval_shape(lambda: PixelCNNPP((6, 6), 1).init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)), False))
