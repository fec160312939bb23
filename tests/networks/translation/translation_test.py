"""Tests the networks from images to images: the published sizes, skips and blocks by closed forms, and the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from genlab.networks.layers.dropout import Dropout
from genlab.networks.translation.resnet import ResNet
from genlab.networks.translation.unet import UNet


def params_of(module, shape):
    """Returns parameters with the shapes of a module, drawn by numpy: to compile initialisers takes long."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(shape), False))['params']
    noise = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(noise.normal(size=leaf.shape) / 8, jnp.float32), shapes)


@pytest.mark.parametrize(
    'module, size',
    [
        (UNet(), 54_413_955),
        (UNet(normalization='affine_instance'), 54_413_955),
        (ResNet(), 11_378_179),
        (ResNet(blocks=6), 7_837_699),
    ],
    ids=['U-Net-256', 'U-Net-256 of single images', 'ResNet-9', 'ResNet-6'],
)
def test_the_published_sizes(module, size):
    image, variables = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), jnp.zeros((1, 256, 256, 3)), True)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == size
    assert image.shape == (1, 256, 256, 3) and image.dtype == jnp.float32


@pytest.mark.parametrize('module', [UNet(width=8, depth=2, normalization='affine_instance'), ResNet(width=8, blocks=1)])
def test_kernels_have_a_deviation_of_a_fiftieth(module):
    params = jax.jit(lambda: module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), False))()['params']
    leaves = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(params)]
    kernels = np.concatenate([leaf.ravel() for name, leaf in leaves if 'kernel' in name])
    np.testing.assert_allclose([kernels.mean(), kernels.std()], [0, 0.02], atol=1e-3)
    assert all((leaf == 0).all() for name, leaf in leaves if 'bias' in name)
    scales = [abs(leaf - 1).max() for name, leaf in leaves if 'scale' in name]
    assert all(0 < scale < 0.1 for scale in scales)


def test_without_inner_levels_the_output_is_that_of_the_outer_skip():
    module, x = UNet(3, width=4, depth=3, normalization='instance'), jax.random.normal(jax.random.key(0), (2, 8, 8, 5))
    params = params_of(module, x.shape)
    params |= {name: jax.tree.map(jnp.zeros_like, leaf) for name, leaf in params.items() if name.startswith('up')}
    dimensions, first, last = ('NHWC', 'HWIO', 'NHWC'), params['down_0'], params['output']
    skip = lax.conv_general_dilated(x, first['kernel'], (2, 2), 'SAME', dimension_numbers=dimensions)
    skip = np.maximum(np.asarray(skip) + np.asarray(first['bias']), 0)
    kept = jnp.asarray(np.concatenate([skip, np.zeros_like(skip)], -1))
    expected = lax.conv_transpose(kept, last['kernel'], (2, 2), 'SAME')
    expected = np.tanh(np.asarray(expected) + np.asarray(last['bias']))
    found = jax.jit(lambda x: module.apply({'params': params}, x, False))(x)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_block_without_its_last_convolution_changes_nothing():
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    with_block, without = ResNet(width=4, blocks=1), ResNet(width=4, blocks=0)
    params = params_of(with_block, x.shape)
    params['convolution_0_1'] = jax.tree.map(jnp.zeros_like, params['convolution_0_1'])
    rest = {name: leaf for name, leaf in params.items() if not name.startswith('convolution')}
    found, expected = (
        jax.jit(lambda x, module=module, own=own: module.apply({'params': own}, x, False))(x)
        for module, own in ((with_block, params), (without, rest))
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_dropout_is_noise_of_each_key_at_test_time():
    module, x = UNet(width=4, depth=3, normalization='affine_instance'), jnp.ones((1, 8, 8, 3)).repeat(3, 0)
    params = params_of(module, x.shape)
    run = jax.jit(lambda x, keys: module.apply({'params': params}, x, False, keys=keys))
    keys = jax.random.split(jax.random.key(1), 3)
    noisy, back = run(x, keys), run(x, keys[::-1])
    assert np.abs(noisy[0] - noisy[1]).max() > 1e-2
    np.testing.assert_allclose(back[::-1], noisy, atol=1e-6)
    plain = run(x, None)
    np.testing.assert_allclose(plain[0], plain[1], atol=1e-6)


@pytest.mark.parametrize('skipped, noisy', [(0, (3, 2, 1)), (1, (2, 1, 0))])
def test_three_decoder_layers_drop_out_after_the_skipped_ones(skipped, noisy):
    module, x = UNet(width=1, depth=5, dropout=1.0, skipped=skipped), jnp.zeros((1, 32, 32, 1))
    drawn = set()

    def watch(run, arguments, keywords, context):
        if isinstance(context.module, Dropout):
            drawn.add(int(context.module.name.removeprefix('dropout_')))
        return run(*arguments, **keywords)

    with nn.intercept_methods(watch):
        jax.eval_shape(lambda: module.init(jax.random.key(0), x, False))
    assert drawn == {*noisy}


def test_sides_that_do_not_fit_are_refused():
    x = jnp.zeros((1, 12, 12, 3))
    with pytest.raises(ValueError, match='depth 3 needs sides that 8 divides, not 12x12: use fewer levels'):
        UNet(width=4, depth=3).init(jax.random.key(0), x, False)
    with pytest.raises(ValueError, match='at least 8 that 4 divides, not 10x10: choose another resolution'):
        ResNet(width=4).init(jax.random.key(0), x[:, :10, :10], False)
