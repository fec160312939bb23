"""Tests DiT: counts of the paper, zero initialisation, the effect of each input, and blocks of torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import dit as dit_config
from genlab.choices import options
from genlab.networks.diffusion.dit import Block, DiT
from genlab.networks.layers.embedding import grid_positions
from genlab.networks.layers.resampling import patchify, unpatchify
from genlab.run.describe import count

NETWORK = DiT(6, patch=2, width=8, depth=1, heads=2, classes=3, span=True)


@pytest.fixture(scope='module')
def inputs():
    noise = np.random.RandomState(1).randn(2, 8, 8, 4).astype(np.float32)
    return {
        'x': jnp.array(noise),
        'level': jnp.array([10.0, 500.0]),
        'labels': jnp.array([0, 2]),
        'span': jnp.array([3.0, 300.0]),
        'context': jnp.array(noise[:, 0, :3]),
        'context_mask': jnp.array([[1, 1, 0], [1, 1, 1]]),
    }


@pytest.fixture(scope='module')
def fresh(inputs):
    return jax.jit(lambda: NETWORK.init(jax.random.key(0), train=True, **inputs))()


@pytest.fixture(scope='module')
def variables(fresh):
    """Returns variables without zeros, unlike the initial ones."""
    noise = np.random.RandomState(2)
    moved = jax.tree.map(lambda leaf: leaf + 0.3 * noise.randn(*leaf.shape).astype(np.float32), fresh['params'])
    return {**fresh, 'params': moved}


@pytest.fixture(scope='module')
def output(variables, inputs):
    return apply(variables, inputs)


@jax.jit
def apply(variables, inputs):
    return NETWORK.apply(variables, train=False, **inputs)


@jax.jit
def apply_block(params, *inputs):
    return Block(2, 4, jnp.float32).apply({'params': params}, *inputs)


def first_block(variables):
    return jax.tree.map(lambda leaf: leaf[0], variables['params']['blocks'])


@pytest.mark.parametrize(
    'patch, width, depth, heads, expected',
    [
        (2, 384, 12, 6, 32_963_360),
        (2, 768, 12, 12, 130_512_416),
        (4, 768, 12, 12, 130_475_648),
        (2, 1152, 28, 16, 675_129_632),
    ],
)
def test_counts_of_the_paper(patch, width, depth, heads, expected):
    network = DiT(8, patch, width, depth, heads, classes=1000)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 4)), jnp.zeros(1), True)
    assert count(shapes) == expected
    assert count(shapes['constants']) == (32 // patch) ** 2 * width


@pytest.mark.parametrize('variant, endpoint', [('', True), ('s2', False), ('b2', False), ('xl2', False)])
def test_paper_variants_embed_levels_as_the_reference_code(variant, endpoint):
    network, seen = DiT(8, **options(dit_config.get_config(variant).model.network)).clone(depth=0, span=True), []

    def note(call, args, kwargs, context):
        seen.append(getattr(context.module, 'endpoint', endpoint))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 4)), jnp.zeros(1), True)
    assert len(seen) > 3 and set(seen) == {endpoint}


def test_the_positions_are_no_parameters(fresh):
    assert set(fresh) == {'params', 'constants'}
    np.testing.assert_array_equal(fresh['constants']['positions'][0], grid_positions(4, 8))


def test_a_new_network_predicts_zero_and_its_blocks_are_the_identity(fresh, inputs):
    assert not apply(fresh, inputs).any()
    x = np.random.RandomState(0).randn(2, 5, 8).astype(np.float32)
    y = apply_block(first_block(fresh), x, x[:, 0], inputs['context'])
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize('name', ['x', 'level', 'labels', 'span', 'context'])
def test_each_input_changes_its_own_example_only(variables, inputs, output, name):
    other = apply(variables, {**inputs, name: inputs[name].at[1].add(1)})
    np.testing.assert_allclose(other[0], output[0], atol=1e-5)
    assert jnp.abs(other[1] - output[1]).max() > 1e-3
    assert output.shape == (2, 8, 8, 6) and output.dtype == jnp.float32


def test_a_masked_token_has_no_effect(variables, inputs, output):
    np.testing.assert_allclose(
        apply(variables, {**inputs, 'context': inputs['context'].at[0, 2].add(1)}), output, atol=1e-6
    )


def test_a_missing_label_is_the_last_class_and_a_missing_span_adds_nothing(variables, inputs):
    without = apply(variables, {**inputs, 'labels': None, 'span': None})
    said = apply(variables, {**inputs, 'labels': jnp.array([3, 3]), 'span': jnp.zeros(2)})
    np.testing.assert_allclose(without, said, atol=1e-6)


def test_remat_gives_the_same_numbers_and_every_weight_learns(variables, inputs, output):
    def loss(params, remat):
        y = NETWORK.copy(remat=remat).apply({**variables, 'params': params}, train=True, **inputs)
        return jnp.square(y).mean(), y

    gradients, again = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)(variables['params'], True)
    np.testing.assert_allclose(again, output, atol=1e-5)
    assert all(gradient.any() for gradient in jax.tree.leaves(gradients))
    plain, again = (jax.make_jaxpr(lambda params: loss(params, remat))(variables['params']) for remat in (False, True))
    assert 'prevent_cse' in str(again) and 'prevent_cse' not in str(plain)


def test_blocks_in_a_loop_and_unrolled_are_the_same_function_of_stacked_parameters(inputs):
    network = DiT(1, patch=4, width=8, depth=3, heads=2)
    x, level, unrolled = inputs['x'], inputs['level'], network.copy(unrolled=True)
    fresh = jax.jit(lambda: network.init(jax.random.key(0), x, level, True))()
    kernels = fresh['params']['blocks']['hidden']['kernel']
    assert kernels.shape == (3, 8, 32)
    bound = np.sqrt(6 / (8 + 32))  # of one block: the axis of the blocks is no fan-in
    assert 0.9 * bound < np.abs(kernels).max() <= bound and not np.allclose(kernels[0], kernels[1])
    shapes = jax.eval_shape(lambda: unrolled.init(jax.random.key(0), x, level, True))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, shapes)
    noise = np.random.RandomState(3)
    variables = jax.tree.map(lambda leaf: leaf + 0.3 * noise.randn(*leaf.shape).astype(np.float32), fresh)

    both = jax.jit(lambda: [module.apply(variables, x, level, True) for module in (network, unrolled)])()
    np.testing.assert_allclose(*both, rtol=1e-4, atol=1e-5)


def test_bfloat16_agrees_with_float32(variables, inputs, output):
    network = NETWORK.copy(dtype='bfloat16')
    rough = jax.jit(lambda: network.apply(variables, train=False, **inputs))()
    assert rough.dtype == jnp.float32
    assert 0 < jnp.abs(rough - output).mean() < 0.05 * jnp.abs(output).mean()
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), train=True, **inputs))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes))


def test_patches_agree_with_a_strided_convolution(inputs):
    kernel = np.random.RandomState(3).randn(2, 2, 4, 5).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        inputs['x'], kernel, (2, 2), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    actual = (patchify(inputs['x'], 2).reshape(2, 16, -1) @ kernel.reshape(-1, 5)).reshape(expected.shape)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    np.testing.assert_array_equal(unpatchify(patchify(inputs['x'], 2), 2), inputs['x'])


def test_a_block_agrees_with_torch(variables):
    torch = pytest.importorskip('torch')
    params = jax.tree.map(np.asarray, first_block(variables))
    x = np.random.RandomState(0).randn(2, 5, 8).astype(np.float32)
    with torch.no_grad():
        expected = torch_block(torch, params, torch.tensor(x), torch.tensor(x[:, 0]))
    np.testing.assert_allclose(apply_block(params, x, x[:, 0]), expected.numpy(), rtol=1e-5, atol=1e-5)


def torch_block(torch, params, x, condition):
    """Computes Peebles and Xie 2023, figure 3, with attention of torch; `condition` is after the activation."""

    def layer(name, x, tree=params):
        return x @ torch.tensor(tree[name]['kernel']) + torch.tensor(tree[name]['bias'])

    width, attention = x.shape[-1], torch.nn.MultiheadAttention(x.shape[-1], 2, batch_first=True)
    attention.in_proj_weight.copy_(torch.tensor(params['attention']['query_key_value']['kernel'].T))
    attention.in_proj_bias.copy_(torch.tensor(params['attention']['query_key_value']['bias']))
    attention.out_proj.weight.copy_(torch.tensor(params['attention']['output']['kernel'].T))
    attention.out_proj.bias.copy_(torch.tensor(params['attention']['output']['bias']))
    modulation = layer('modulation', condition)
    shift, scale, gate, late_shift, late_scale, late_gate = (
        modulation[:, None, part * width : (part + 1) * width] for part in range(6)
    )
    h = torch.nn.functional.layer_norm(x, (width,), eps=1e-6) * (1 + scale) + shift
    x = x + gate * attention(h, h, h, need_weights=False)[0]
    h = torch.nn.functional.layer_norm(x, (width,), eps=1e-6) * (1 + late_scale) + late_shift
    return x + late_gate * layer('hidden_output', torch.nn.functional.gelu(layer('hidden', h), approximate='tanh'))
