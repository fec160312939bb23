"""Tests the networks of the VQ-VAE: the known sizes, the shapes, and the receptive field of a code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vq_vae
from genlab.choices import named
from genlab.models import quantized
from genlab.networks.autoencoders.residual import ResidualDecoder, ResidualEncoder


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_the_known_sizes():
    """Counts parameters for 32x32x3 images, 128 channels and 64 numbers per code."""
    encoder = jax.eval_shape(ResidualEncoder(128, 64).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))['params']
    decoder = jax.eval_shape(ResidualDecoder(128, 3).init, jax.random.key(0), jnp.zeros((1, 8, 8, 64)))['params']
    assert (count(encoder) - count(encoder['codes']), count(encoder['codes']), count(decoder)) == (
        364_160,
        8_256,
        290_307,
    )


def test_bias_and_inner_width_of_residual_blocks_are_settings():
    """Counts the blocks of ports that leave biases out, and of another inner width."""
    settings = dict(networks=named('residual', width=128, halvings=2, blocks=2, use_bias=False, inner=64))
    config = vq_vae.get_config('cifar10')
    config.model.update(settings)
    vqvae = quantized.from_config(config)
    inputs = jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 8, 8, 64))
    for module, x in zip((vqvae.encoder, vqvae.decoder), inputs):
        blocks = jax.eval_shape(module.init, jax.random.key(0), x)['params']['residuals']
        assert count(blocks) == 2 * (9 * 128 * 64 + 64 * 128)


@pytest.mark.parametrize('halvings, dtype', [(1, 'float32'), (3, 'bfloat16')])
def test_images_to_codes_and_back(halvings, dtype):
    sizes = dict(halvings=halvings, blocks=1, dtype=jnp.dtype(dtype))
    x = jnp.zeros((2, 16, 8, 1))
    codes, _ = jax.eval_shape(lambda: ResidualEncoder(8, 3, **sizes).init_with_output(jax.random.key(0), x))
    side = 2**halvings
    assert codes.shape == (2, 16 // side, 8 // side, 3) and codes.dtype == jnp.float32
    z = jnp.zeros(codes.shape)
    output, _ = jax.eval_shape(lambda: ResidualDecoder(8, 1, **sizes).init_with_output(jax.random.key(0), z))
    assert output.shape == x.shape and output.dtype == jnp.float32


def test_a_code_depends_on_its_neighbourhood_only():
    """Changes one corner and expects no effect in the opposite one: no layer covers the whole image."""
    encoder, x = ResidualEncoder(8, 3, halvings=2, blocks=1), jax.random.normal(jax.random.key(0), (1, 32, 32, 1))
    encode = jax.jit(lambda x: encoder.init_with_output(jax.random.key(1), x)[0])
    change = np.abs(encode(x.at[0, 1, 1].add(3.0)) - encode(x)).max((0, 3))
    assert change[0, 0] > 0 and not change[4:].any() and not change[:, 4:].any()
