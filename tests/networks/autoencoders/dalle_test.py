"""Tests the networks of the discrete VAE: the published sizes, and what max-pooling keeps."""

import jax
import jax.numpy as jnp
import numpy as np

from genlab.networks.autoencoders.dalle import Decoder, Encoder, halve_by_maximum


def test_the_published_sizes():
    for module, size, shape, expected in (
        (Encoder(8192), 53_786_240, (1, 64, 64, 3), (1, 8, 8, 8192)),
        (Decoder(3), 43_829_766, (1, 8, 8, 8192), (1, 64, 64, 6)),
    ):
        output, variables = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), jnp.zeros(shape)))
        assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == size
        assert output.shape == expected and output.dtype == jnp.float32


def test_the_maximum_of_four_pixels():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(halve_by_maximum(x)[0, :, :, 0], [[5, 7], [13, 15]])
    slope = jax.grad(lambda x: halve_by_maximum(x).sum())
    np.testing.assert_array_equal(slope(x).ravel().nonzero()[0], [5, 7, 13, 15])
    np.testing.assert_array_equal(slope(0 * x), 1 / 4)  # equal pixels share the gradient
