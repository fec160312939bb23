"""Tests codes on a grid: the published size, and that positions of the grid correspond to positions of the image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.autoencoders.spatial import SpatialDecoder, SpatialEncoder, grid

NOTHING = jnp.zeros((2, 0))


def count(module, *inputs):
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, NOTHING[:1], False))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_the_published_kl_f8():
    encoder, decoder = SpatialEncoder(128, 4), SpatialDecoder(128, 4, (256, 256, 3), scale=1.0)
    numbers = count(encoder, jnp.zeros((1, 256, 256, 3))), count(decoder, jnp.zeros((1, 32 * 32 * 4)))
    assert numbers == (34_163_664, 49_490_199) and sum(numbers) == 83_653_863


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_images_to_flat_codes_and_back(dtype):
    sizes = dict(multipliers=(1, 2, 2), blocks=1, dtype=jnp.dtype(dtype))
    encoder, decoder = SpatialEncoder(8, 3, **sizes), SpatialDecoder(8, 3, (16, 8, 1), **sizes)
    moments, _ = jax.eval_shape(
        lambda: encoder.init_with_output(jax.random.key(0), jnp.zeros((2, 16, 8, 1)), NOTHING, False)
    )
    codes = jnp.zeros((2, 4 * 2 * 3))
    outputs, _ = jax.eval_shape(lambda: decoder.init_with_output(jax.random.key(0), codes, NOTHING, False))
    assert [output.shape for output in (*moments, *outputs)] == [(2, 24), (2, 24), (2, 16, 8, 1), (1, 1, 1, 1)]
    assert {output.dtype for output in (*moments, *outputs)} == {jnp.dtype('float32')}


def test_codes_for_a_codebook_have_neither_variance_nor_scale():
    encoder = SpatialEncoder(8, 3, multipliers=(1, 2), blocks=1, variance=False)
    decoder = SpatialDecoder(8, 3, (16, 8, 1), None, multipliers=(1, 2), blocks=1)
    codes = jax.eval_shape(lambda: encoder.init_with_output(jax.random.key(0), jnp.zeros((2, 16, 8, 1)))[0])
    image = jax.eval_shape(lambda: decoder.init_with_output(jax.random.key(0), jnp.zeros((2, 8, 4, 3)))[0])
    assert (codes.shape, image.shape) == ((2, 8, 4, 3), (2, 16, 8, 1)) and codes.dtype == image.dtype == jnp.float32


def test_positions_of_the_grid_correspond_to_positions_of_the_image():
    """Checks the row-major order by the largest change: the middle of the decoder spreads it over the image."""
    decoder = SpatialDecoder(4, 2, (16, 16, 1), multipliers=(1, 1), blocks=0)
    codes = jax.random.normal(jax.random.key(0), (1, 8 * 8 * 2))
    decode = jax.jit(lambda codes: decoder.init_with_output(jax.random.key(1), codes, NOTHING[:1], False)[0][0])
    change = np.abs(decode(codes.at[0, 2 * (8 * 1 + 6)].add(3.0)) - decode(codes))[0, :, :, 0]  # row 1, column 6
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert abs(row - 2.5) <= 4 and abs(column - 12.5) <= 4


def test_a_side_that_cannot_be_halved_is_refused():
    assert grid((32, 16, 3), (1, 2, 4), 4) == (8, 4, 4)
    with pytest.raises(ValueError, match='28x28 cannot be halved 3 times: use fewer'):
        grid((28, 28, 1), (1, 1, 1, 1), 4)


def test_the_published_vqgan_f16():
    """Counts the autoencoder without its codebook of 1,024 entries of 256 numbers."""
    sizes = dict(multipliers=(1, 1, 2, 2, 4), blocks=2, attention=True)
    encoder = SpatialEncoder(128, 256, variance=False, **sizes)
    decoder = SpatialDecoder(128, 256, (256, 256, 3), None, **sizes)
    total = count(encoder, jnp.zeros((1, 256, 256, 3))) + count(decoder, jnp.zeros((1, 16, 16, 256)))
    assert total == 72_141_699 - 1024 * 256
