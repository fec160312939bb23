"""Tests that the U-Net follows the papers and uses all of its inputs."""

import importlib
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab.choices import options
from genlab.networks.diffusion.unet import UNet
from genlab.networks.layers.convolution import convolve
from genlab.networks.layers.embedding import FourierFeatures, sinusoidal
from genlab.networks.layers.normalization import GroupNorm
from genlab.networks.layers.resampling import double, filtered, halve
from genlab.training.state import Network, initialize

DDPM = UNet(3)
EDM = UNet(
    3,
    multipliers=(2, 2, 2),
    blocks=4,
    attend_last=True,
    resample='block',
    skip_scale=math.sqrt(0.5),
    augmentation=9,
    label_table=False,
)
NCSN = EDM.clone(fourier=True, smooth=True, residual_input=True)
SMALL = UNet(2, width=8, multipliers=(1, 2), blocks=1, attention=(4,), heads=2, dropout=0.5)
HALVE, DOUBLE = (jax.jit(function, static_argnums=1) for function in (halve, double))
TINY = SMALL.clone(multipliers=(1,), blocks=0)
RICH = SMALL.clone(
    scale_shift=True,
    resample='block',
    smooth=True,
    residual_input=True,
    fourier=True,
    classes=3,
    augmentation=4,
    span=True,
    skip_scale=0.5,
)


def shapes(module, shape, **more):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(shape), jnp.zeros(shape[:1]), False, **more))


def random(shapes):
    """Returns random parameters without zeros."""
    noise = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.array(0.3 * noise.normal(size=leaf.shape), jnp.float32), shapes)


def images(*shape):
    return jax.random.normal(jax.random.key(1), shape)


@pytest.mark.parametrize(
    'module, side, expected',
    [
        (DDPM, 32, 35_746_307),
        (DDPM.clone(multipliers=(1, 1, 2, 2, 4, 4)), 256, 113_673_219),
        (UNet(6, blocks=3, attention=(16, 8), heads=4, scale_shift=True), 32, 52_546_438),
        (EDM, 32, 55_733_891),
        (EDM.clone(classes=10), 32, 55_735_299),
        (NCSN, 32, 56_397_827),
        (NCSN.clone(classes=10), 32, 56_400_643),
    ],
    ids=['DDPM', 'DDPM 256', 'improved DDPM', 'EDM', 'EDM of classes', 'NCSN++', 'NCSN++ of classes'],
)
def test_parameter_counts_of_the_papers(module, side, expected):
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes(module, (1, side, side, 3))['params'])) == expected


def test_a_label_table_has_a_row_for_the_null_condition():
    table = shapes(SMALL.clone(classes=10), (1, 8, 8, 1))['params']['labels']['embedding']
    assert table.shape == (11, 32)


def test_starts_at_zero_and_keeps_it_in_float32():
    module = TINY.clone(dtype=jnp.bfloat16)
    y, variables = jax.jit(lambda key: module.init_with_output(key, images(1, 8, 8, 1), jnp.ones(1), False))(
        jax.random.key(0)
    )
    assert y.dtype == jnp.float32 and y.shape == (1, 8, 8, 2) and not y.any()
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
    for name, zero in [('convolution_1', True), ('convolution_0', False)]:  # the last of each residual branch
        assert zero == (not variables['params']['up_0_0'][name]['kernel'].any())


@pytest.fixture(scope='module')
def rich():
    """Returns a network with all conditions, and its inputs."""
    inputs = {
        'x': images(2, 8, 8, 1),
        'level': jnp.array([10.0, 500.0]),
        'labels': jnp.array([0, 3]),
        'span': jnp.array([1.0, 3.0]),
        'keys': jax.random.split(jax.random.key(2)),
        'context': images(2, 3, 5),
        'augmentation': images(2, 4),
        'context_mask': jnp.array([[1, 1, 0], [1, 0, 1]]),
    }
    variables = random(shapes(RICH, (2, 8, 8, 1), context=inputs['context']))
    return jax.jit(lambda inputs: RICH.apply(variables, train=True, **inputs)), inputs


@pytest.mark.parametrize(
    'name, value',
    [
        ('level', [11.0, 500.0]),
        ('labels', [1, 3]),
        ('labels', [3, 3]),
        ('span', [2.0, 3.0]),
        ('augmentation', np.zeros((2, 4))),
        ('context', np.zeros((2, 3, 5))),
        ('context_mask', [[1, 1, 1], [1, 0, 1]]),
    ],
)
def test_every_condition_changes_the_output(rich, name, value):
    apply, inputs = rich
    changed = {**inputs, name: jnp.array(value, inputs[name].dtype)}
    assert jnp.abs(apply(changed)[0] - apply(inputs)[0]).max() > 1e-3


def test_masked_words_have_no_effect(rich):
    apply, inputs = rich
    unseen = inputs['context'].at[0, 2].set(7.0)
    np.testing.assert_allclose(apply({**inputs, 'context': unseen}), apply(inputs), atol=1e-5)


def test_dropout_depends_on_the_key_and_not_on_the_batch(rich):
    apply, inputs = rich
    reversed_keys = apply({**inputs, 'keys': inputs['keys'][::-1]})
    assert jnp.abs(reversed_keys - apply(inputs)).max() > 1e-3
    others = jax.tree.map(
        lambda array: array.at[1].set(array[0]) if array.dtype != inputs['keys'].dtype else array, inputs
    )
    others['keys'] = inputs['keys'][jnp.array([0, 0])]
    both = apply(others)
    np.testing.assert_allclose(both[0], apply(inputs)[0], atol=1e-4)
    np.testing.assert_allclose(both[0], both[1], atol=1e-4)


def test_dropout_is_off_outside_training_and_remat_changes_no_number():
    x, levels, keys = images(2, 8, 8, 1), jnp.ones(2), jax.random.split(jax.random.key(2))
    variables = random(shapes(TINY, x.shape))
    run = lambda variables, train, module=TINY: module.apply(variables, x, levels, train, keys=keys)
    plain = jax.jit(lambda variables: TINY.apply(variables, x, levels, True))(variables)
    np.testing.assert_allclose(jax.jit(run, static_argnums=1)(variables, False), plain, atol=1e-5)
    again = TINY.clone(remat=True)
    chex.assert_trees_all_equal_shapes(shapes(again, x.shape), shapes(TINY, x.shape))
    gradients = [
        jax.jit(jax.value_and_grad(lambda variables, module=module: (run(variables, True, module) ** 2).mean()))(
            variables
        )
        for module in (TINY, again)
    ]
    chex.assert_trees_all_close(*gradients, rtol=1e-4, atol=1e-6)


def test_one_hot_labels_are_zeros_for_the_null_condition():
    module = TINY.clone(classes=3, label_table=False)
    variables = random(shapes(module, (5, 8, 8, 1)))
    apply = jax.jit(
        lambda variables, labels: module.apply(variables, jnp.ones((5, 8, 8, 1)), jnp.ones(5), False, labels)
    )
    of_each = apply(variables, jnp.array([0, 1, 2, 3, 0]))
    variables['params']['labels']['kernel'] *= 0
    without = apply(variables, jnp.array([0, 1, 2, 3, 3]))
    assert (jnp.abs(of_each - without).max((1, 2, 3)) > 1e-3).tolist() == [True, True, True, False, True]


def test_the_network_agrees_with_pytorch():
    torch = pytest.importorskip('torch')
    from benchmarks import torch_networks

    fields = {'width': 8, 'multipliers': (1, 2), 'blocks': 1, 'attention': (4,), 'heads': 2}
    theirs = torch_networks.UNet(1, 8, **fields)
    params = random(shapes(UNet(1, **fields), (2, 8, 8, 1)))
    layers, state = theirs.state_dict(), {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params['params']):
        *layer, kind = (key.key for key in path)
        weight = np.moveaxis(leaf, (-1, -2), (0, 1)) if kind == 'kernel' else leaf
        state['.'.join(layer) + ('.bias' if kind == 'bias' else '.weight')] = torch.tensor(np.array(weight))
    assert state.keys() == layers.keys()
    theirs.load_state_dict(state)
    x, levels = images(2, 8, 8, 1), np.array([3.0, 700.0], np.float32)
    ours = jax.jit(lambda: UNet(1, **fields).apply(params, x, levels, False))()
    with torch.no_grad():
        theirs = theirs.eval()(torch.tensor(np.moveaxis(x, -1, 1)), torch.tensor(levels))
    np.testing.assert_allclose(ours, np.moveaxis(theirs.numpy(), 1, -1), rtol=1e-3, atol=1e-3)


def test_sides_that_are_no_powers_of_two():
    module = UNet(1, width=4, multipliers=(1, 1, 1), blocks=1, attention=(14,))
    outputs = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), images(1, 28, 28, 1), jnp.ones(1), False)
    )
    assert outputs[0].shape == (1, 28, 28, 1)
    assert 'attention' in outputs[1]['params']['down_1_0'] and 'attention' not in outputs[1]['params']['down_2_0']
    with pytest.raises(ValueError, match='30x30 cannot be halved 2 times'):
        shapes(module, (1, 30, 30, 1))


def test_halving_and_doubling():
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(halve(x)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_array_equal(double(x), x.repeat(2, 1).repeat(2, 2))


def smoother(size):
    """Returns the smooth filter as a matrix [size / 2, size]: [1, 3, 3, 1] / 8 around pairs of pixels."""
    padded = np.zeros((size // 2, size + 2))
    for i in range(size // 2):
        padded[i, 2 * i : 2 * i + 4] = np.array([1, 3, 3, 1]) / 8
    return padded[:, 1:-1]


def test_the_smooth_filter_and_its_transpose():
    x, small = np.asarray(images(2, 8, 6, 3)), np.asarray(images(2, 4, 3, 3))
    expected = np.einsum('ih,jw,bhwc->bijc', smoother(8), smoother(6), x)
    np.testing.assert_allclose(HALVE(x, True), expected, atol=1e-6)
    expected = 4 * np.einsum('ih,jw,bijc->bhwc', smoother(8), smoother(6), small)
    np.testing.assert_allclose(DOUBLE(small, True), expected, atol=1e-6)


def test_the_filters_preserve_a_constant_interior():
    ones = np.ones((2, 8, 6, 3), np.float32)
    for smooth in (False, True):
        np.testing.assert_array_equal(HALVE(ones, smooth)[:, 1:-1, 1:-1], ones[:, :2, :1])
        np.testing.assert_array_equal(DOUBLE(ones, smooth)[:, 1:-1, 1:-1], np.ones((2, 14, 10, 3)))


def test_filtering_before_a_convolution_of_stride_2_is_filtering_and_halving_after_one():
    """Compares with NCSN++, which adds the image by a 3x3 convolution at full resolution, then the filter."""
    x, kernel = images(2, 8, 8, 3), images(3, 3, 3, 5)
    before = jax.jit(lambda x: convolve(filtered(x, 2, 1), kernel, (2, 2), 'VALID'))(x)
    after = jax.jit(lambda x: filtered(convolve(x, kernel, (1, 1), [(2, 2), (2, 2)]), 0, 2))(x)
    assert before.shape == (2, 4, 4, 5)
    np.testing.assert_allclose(before, after, atol=1e-4)


@pytest.mark.parametrize('endpoint', [True, False])
def test_sinusoids_have_the_frequencies_and_the_order_of_the_code(endpoint):
    """Expects sines first and n - 1 intervals as in DDPM, or cosines first and n intervals as in OpenAI's code."""
    angles = np.array([3.0, 700.0])[:, None] * 10_000.0 ** -(np.arange(8) / (7 if endpoint else 8))
    expected = [np.sin(angles), np.cos(angles)][:: 1 if endpoint else -1]
    found = sinusoidal(jnp.array([3.0, 700.0]), 16, endpoint=endpoint)
    np.testing.assert_allclose(found, np.concatenate(expected, 1), atol=1e-4)


def test_fourier_frequencies_are_drawn_from_the_seed_and_not_trained():
    layer, levels = FourierFeatures(256), jnp.array([0.0, 0.01, 1.0])
    start = jax.jit(lambda seed: initialize({'denoiser': Network(layer, (levels,))}, jax.random.key(seed))['denoiser'])
    variables, frequencies = start(0), start(0)['buffers']['frequencies']
    assert set(variables) == {'buffers'} and not np.isclose(frequencies, start(1)['buffers']['frequencies']).any()
    features = layer.apply(variables, levels)
    assert abs(frequencies.std() - 16) < 2 and frequencies.shape == (128,)
    np.testing.assert_array_equal(features[0], [0] * 128 + [1] * 128)
    angles = 2 * np.pi * 0.01 * np.asarray(frequencies, np.float64)
    np.testing.assert_allclose(features[1], np.concatenate([np.sin(angles), np.cos(angles)]), atol=1e-5)
    # Levels and spans share the frequencies.
    assert jax.tree.map(np.shape, shapes(RICH, (1, 8, 8, 1))['buffers']) == {'waves': {'frequencies': (8,)}}


@pytest.mark.parametrize(
    'name, variant, epsilon, padding, endpoint',
    [
        ('ddpm', 'cifar10', 1e-6, (0, 1), True),
        ('improved_ddpm', 'cifar10', 1e-5, (1, 1), False),
        ('edm', 'cifar10', 1e-6, None, True),
        ('latent_diffusion', 'scenes', 1e-5, (1, 1), False),
    ],
)
def test_paper_variants_follow_the_details_of_the_reference_code(name, variant, epsilon, padding, endpoint):
    chosen = options(importlib.import_module(f'configs.{name}').get_config(variant).model.network)
    network, seen = UNet(3, **chosen).clone(multipliers=(1, 2), blocks=1), []

    def note(call, args, kwargs, context):
        seen.append(context.module)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        shapes(network, (1, 16, 16, 3))
    norms = [module for module in seen if isinstance(module, GroupNorm)]
    assert {norm.epsilon for norm in norms} == {epsilon}
    assert {norm.groups for norm in norms} == ({32} if network.width == 128 else {16, 32})
    assert {module.padding for module in seen if module.name == 'down_1' and padding} == {(padding,) * 2} - {
        (None,) * 2
    }
    assert network.endpoint == endpoint


def test_group_norm_has_the_variables_and_numbers_of_flax():
    x = 2 + 3 * images(2, 3, 5, 12)
    variables = random(jax.eval_shape(nn.GroupNorm(4).init, jax.random.key(0), x))

    def run(module):
        def loss(variables, x):
            y = module.apply(variables, x)
            return jnp.sin(y).sum(), y

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(variables, x)

    chex.assert_trees_all_close(run(GroupNorm(4)), run(nn.GroupNorm(4)), atol=1e-4, rtol=1e-5)
    initial = jax.jit(GroupNorm(4).init)(jax.random.key(0), x)
    chex.assert_trees_all_equal(initial, {'params': {'scale': jnp.ones(12), 'bias': jnp.zeros(12)}})
    with pytest.raises(ValueError, match='5 groups do not divide 12'):
        jax.eval_shape(GroupNorm(5).init, jax.random.key(0), x)
