"""Tests that our convolutions agree with lax in value and in every derivative."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from genlab.networks.layers import convolution
from genlab.networks.layers.convolution import Conv, ConvTranspose, convolve, convolve_doubled, convolve_transpose
from genlab.networks.layers.resampling import double

DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')
CASES = [  # size, kernel, strides, padding
    ((8, 6), (4, 4), (2, 2), 'SAME'),
    ((7, 5), (4, 4), (2, 2), ((1, 1), (1, 1))),
    ((7, 6), (3, 3), (2, 2), 'SAME'),
    ((6, 7), (3, 3), (2, 2), 'VALID'),
    ((6, 5), (3, 2), (1, 1), 'SAME'),
    ((5, 6), (1, 1), (2, 2), 'SAME'),
    ((5, 6), (1, 1), (1, 1), 'SAME'),
    ((9, 8), (5, 4), (3, 2), ((2, 0), (1, 3))),
    ((1, 1), (4, 4), (1, 1), ((3, 3), (3, 3))),
    ((4, 4), (4, 4), (1, 1), 'VALID'),
]
PAIRS = {'forward': (convolve, lax.conv_general_dilated), 'transposed': (convolve_transpose, lax.conv_transpose)}


def operands(size, kernel, dtype=jnp.float32):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, *size, 3)), generator.normal(size=(*kernel, 3, 5))
    return tuple(jnp.asarray(array, dtype) for array in x)


def closed(operation, strides, padding, **settings):
    return lambda x, kernel: operation(x, kernel, strides, padding, **settings)


def assert_same(actual, expected, tolerance=1e-5):
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
        scale = np.abs(np.asarray(b, np.float32)).max(initial=1e-3)
        np.testing.assert_allclose(np.asarray(a, np.float32) / scale, np.asarray(b, np.float32) / scale, atol=tolerance)


def everything(f):
    """Returns the value, both gradients, and a directional derivative of a gradient penalty."""

    def penalty(x, kernel):
        gradients = jax.grad(lambda x, kernel: jnp.sin(f(x, kernel)).sum(), (0, 1))(x, kernel)
        return sum((gradient**2).sum() for gradient in gradients)

    def run(x, kernel):
        y, pullback = jax.vjp(f, x, kernel)
        tangents = jnp.cos(x), jnp.cos(kernel)
        return y, pullback(jnp.sin(y)), jax.jvp(f, (x, kernel), tangents)[1], jax.grad(penalty, (0, 1))(x, kernel)

    return jax.jit(run)


@pytest.mark.parametrize('name', PAIRS)
@pytest.mark.parametrize('size, kernel, strides, padding', CASES)
def test_equals_lax(name, size, kernel, strides, padding):
    ours, theirs = PAIRS[name]
    x, k = operands(size, kernel)
    reference = closed(theirs, strides, padding, dimension_numbers=DIMENSIONS)
    assert_same(everything(closed(ours, strides, padding))(x, k), everything(reference)(x, k))


@pytest.mark.parametrize('padding', [((0, 0), (2, 0)), ((3, 1), (0, 4)), ((-1, 0), (2, -1))])
def test_padding_wider_than_the_window_and_negative_padding(padding):
    """The reference pads and crops before the convolution. XLA's CPU backend is wrong for negative padding."""
    x, k = operands((4, 5), (1, 2))
    changed = lambda x: jax.lax.pad(x, 0.0, [(0, 0, 0), *((*pad, 0) for pad in padding), (0, 0, 0)])
    reference = everything(lambda x, k: convolve(changed(x), k, padding='VALID'))
    assert_same(everything(closed(convolve, (1, 1), padding))(x, k), reference(x, k))


@pytest.mark.parametrize('window', [(3, 3), (1, 5)])
def test_doubled_is_a_convolution_of_the_doubled_image(window):
    x, k = operands((4, 3), window)
    assert_same(everything(convolve_doubled)(x, k), everything(lambda x, k: convolve(double(x), k))(x, k))


def test_doubled_refuses_unsupported_arguments():
    x, k = operands((4, 3), (3, 3))
    for settings in ({'strides': (2, 2)}, {'padding': 'VALID'}):
        with pytest.raises(ValueError, match='window is odd'):
            convolve_doubled(x, k, **settings)
    with pytest.raises(ValueError, match='window is odd'):
        convolve_doubled(x, k[:2])


@pytest.mark.parametrize('name', PAIRS)
def test_forward_over_reverse_and_checkpoint(name):
    f = closed(PAIRS[name][0], (2, 2), 'SAME')
    x, k = operands((4, 4), (4, 4))

    def curvature(f):
        gradient = jax.grad(lambda x, k: jnp.sin(f(x, k)).sum(), (0, 1))
        return jax.jit(lambda x, k: jax.jvp(gradient, (x, k), (jnp.cos(x), jnp.cos(k))))(x, k)

    reference = closed(PAIRS[name][1], (2, 2), 'SAME', dimension_numbers=DIMENSIONS)
    assert_same(curvature(f), curvature(reference))
    assert_same(curvature(jax.checkpoint(f)), curvature(reference))


@pytest.mark.parametrize('name', PAIRS)
@pytest.mark.parametrize('axes', [(0, None), (None, 0), (0, 0), (1, 3)])
def test_vmap(name, axes):
    x, k = operands((4, 5), (3, 3))
    many = [a if axis is None else jnp.stack([a, 2 * a, jnp.cos(a)], axis) for a, axis in zip((x, k), axes)]
    gradient = lambda f: jax.jit(jax.vmap(jax.value_and_grad(lambda x, k: jnp.sin(f(x, k)).sum(), (0, 1)), axes))
    reference = closed(PAIRS[name][1], (2, 2), 'SAME', dimension_numbers=DIMENSIONS)
    assert_same(gradient(closed(PAIRS[name][0], (2, 2), 'SAME'))(*many), gradient(reference)(*many))


def test_nested_vmap():
    x, k = operands((4, 5), (3, 3))
    x = jnp.stack([x, jnp.cos(x), jnp.sin(x), 2 * x, -x, x + 1]).reshape(3, 2, *x.shape)
    k = jnp.stack([k, jnp.sin(k)])
    twice = lambda f: jax.vmap(jax.vmap(f, (0, 0)), (0, None))  # one kernel per inner example, shared by the outer ones
    reference = closed(lax.conv_general_dilated, (2, 2), 'SAME', dimension_numbers=DIMENSIONS)
    assert_same(twice(closed(convolve, (2, 2), 'SAME'))(x, k), twice(reference)(x, k))
    twice = lambda f: jax.vmap(jax.vmap(f, (0, None), 1), (0, 0))
    assert_same(twice(closed(convolve, (2, 2), 'SAME'))(x[:2], k), twice(reference)(x[:2], k))


def test_one_gradient_per_example():
    x, k = operands((4, 4), (4, 4))
    loss = lambda f: jax.vmap(jax.grad(lambda k, x: jnp.sin(f(x[None], k)).sum()), (None, 0))
    reference = closed(lax.conv_general_dilated, (2, 2), 'SAME', dimension_numbers=DIMENSIONS)
    assert_same(loss(closed(convolve, (2, 2), 'SAME'))(k, x), loss(reference)(k, x))


def test_other_platforms_get_lax_convolutions():
    x, k = operands((8, 8), (4, 4))
    gradients = jax.jit(jax.grad(lambda x, k: convolve(x, k, (2, 2)).sum(), (0, 1)))
    texts = {p: gradients.trace(x, k).lower(lowering_platforms=(p,)).as_text() for p in ('cpu', 'tpu', 'cuda')}
    assert 'stablehlo.convolution' not in texts['cpu'] and 'stablehlo.dot_general' in texts['cpu']
    assert all(texts[p].count('stablehlo.convolution') == 2 for p in ('tpu', 'cuda'))  # neither needs the value


def test_a_cpu_gets_convolutions_with_standard_axes_only(monkeypatch):
    """In a loop, XLA's CPU backend computes any other convolution by a slow loop of scalars."""
    monkeypatch.setattr(convolution.patches, 'MANY', 0)
    x, k = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 4))
    text = jax.jit(jax.grad(lambda x, k: (convolve(x, k) ** 2).sum(), (0, 1))).trace(x, k).lower().as_text()
    axes = re.findall(r'stablehlo.convolution.*dim_numbers = (.*), window', text)
    assert axes == ['[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]'] * 3, axes


@pytest.mark.parametrize('operation', [convolution.convolve_p, convolution.spread_p, convolution.correlate_p])
@pytest.mark.parametrize('turned', [False, True])
def test_the_two_lowerings_agree(operation, turned):
    geometry = convolution.Geometry((6, 8), (4, 3), (2, 2), ((1, 1), (0, 2)), turned)
    generator = np.random.default_rng(1)
    channels = (5, 3) if turned else (3, 5)
    shapes = {'x': (2, *geometry.size, 3), 'y': (2, *geometry.output, 5), 'kernel': (4, 3, *channels)}
    names = {'convolve': ('x', 'kernel'), 'spread': ('y', 'kernel'), 'correlate': ('x', 'y')}[operation.name[7:]]
    left, right = (jnp.asarray(generator.normal(size=shapes[name]), jnp.float32) for name in names)
    plain = {
        'convolve': convolution.patches.plain,
        'spread': convolution._plain_spread,
        'correlate': convolution.patches.plain_correlate,
    }[operation.name[7:]]
    assert_same(operation.bind(left, right, geometry=geometry), plain(left, right, geometry))


def test_mapped_over_devices():
    x, k = operands((4, 4), (4, 4))
    mesh = jax.make_mesh((2,), ('batch',), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec

    def gradient(k, x):
        return jax.grad(lambda k: jnp.sin(convolve(x, k, (2, 2))).sum())(k)

    # Inside shard_map the gradient of what is not mapped is summed over the devices already.
    ours = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=(spec(), spec('batch')), out_specs=spec()))(k, x)
    mapped = jax.pmap(gradient, in_axes=(None, 0))(k, x[:, None])
    assert_same(ours, gradient(k, x))
    assert_same(mapped.sum(0), gradient(k, x))


@pytest.mark.parametrize('ours, theirs', [(Conv, nn.Conv), (ConvTranspose, nn.ConvTranspose)])
def test_layers_have_the_parameters_and_outputs_of_flax(ours, theirs):
    x, _ = operands((5, 6), (1, 1))
    settings = {'features': 4, 'kernel_size': (3, 3), 'strides': (2, 2)}
    variables = theirs(**settings, bias_init=nn.initializers.normal()).init(jax.random.key(0), x)
    mine = ours(**settings, bias_init=nn.initializers.normal()).init(jax.random.key(0), x)
    chex.assert_trees_all_equal(variables, mine)
    assert_same(ours(**settings).apply(variables, x), theirs(**settings).apply(variables, x))


@pytest.mark.parametrize('layer', [Conv, ConvTranspose])
def test_half_precision_keeps_float32_parameters(layer):
    x, _ = operands((4, 4), (1, 1))
    module = layer(4, (4, 4), (2, 2), dtype=jnp.bfloat16)
    y, variables = module.init_with_output(jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16 and variables['params']['kernel'].dtype == jnp.float32
    assert_same(y.astype(jnp.float32), layer(4, (4, 4), (2, 2)).apply(variables, x), 2e-2)


def test_unknown_padding():
    with pytest.raises(ValueError, match='padding'):
        convolve_transpose(*operands((4, 4), (3, 3)), (2, 2), 'CIRCULAR')


@pytest.mark.parametrize('turned', [False, True])
@pytest.mark.parametrize('wide, many', [(1, 10**9), (10**9, 0), (10**9, 10**9)])
def test_all_implementations_of_the_kernel_gradient_agree(monkeypatch, wide, many, turned):
    patches = convolution.patches
    monkeypatch.setattr(patches, 'WIDE', wide)
    monkeypatch.setattr(patches, 'MANY', many)
    geometry = convolution.Geometry((6, 5), (3, 2), (1, 1), ((1, 1), (0, 2)), turned)
    generator = np.random.default_rng(1)
    x, y = (
        jnp.asarray(generator.normal(size=(2, *side, width)), jnp.float32)
        for side, width in ((geometry.size, 3), (geometry.output, 5))
    )
    kernel = jnp.zeros(patches.kernel_shape(x.shape, y.shape, geometry))
    expected = jax.grad(lambda kernel: (patches.plain(x, kernel, geometry) * y).sum())(kernel)
    np.testing.assert_allclose(patches.correlate(x, y, geometry), expected, atol=1e-4)


def test_reflection_is_that_of_flax_with_its_gradients():
    x, kernel = operands((5, 6), (3, 7))
    module = nn.Conv(5, (3, 7), padding='REFLECT', use_bias=False)
    ours, theirs = (
        everything(f)(x, kernel)
        for f in (
            closed(convolve, (1, 1), 'REFLECT'),
            lambda x, kernel: module.apply({'params': {'kernel': kernel}}, x),
        )
    )
    assert_same(ours, theirs)
