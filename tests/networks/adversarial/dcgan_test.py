"""Tests that the DCGAN networks follow the paper and that their batch normalisation agrees with flax."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab.networks.adversarial.dcgan import Discriminator, Generator
from genlab.networks.layers.normalization import BatchNorm

KEY = 0


def count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables['params']))


def initial(module, shape):
    return jax.jit(lambda key: module.init(key, jnp.zeros(shape), train=True))(jax.random.key(KEY))


def shapes(module, *shape):
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    return jax.eval_shape(
        lambda key: module.init_with_output(jax.random.wrap_key_data(key), jnp.zeros(shape), train=True), key
    )


@pytest.mark.parametrize('resolution', [16, 32, 64, 128])
@pytest.mark.parametrize('channels', [1, 3])
def test_shapes(resolution, channels):
    images, _ = shapes(Generator(resolution, channels, 8, 10), 2, 10)
    logits, _ = shapes(Discriminator(resolution, 8), 2, resolution, resolution, channels)
    assert images.shape == (2, resolution, resolution, channels) and logits.shape == (2,)


def test_parameter_counts_of_the_paper():
    assert count(shapes(Generator(), 2, 100)[1]) == 3_576_704
    assert count(shapes(Discriminator(), 2, 64, 64, 3)[1]) == 2_765_568


@pytest.mark.parametrize(
    'module, shape',
    [(Generator(24), (2, 100)), (Generator(8), (2, 100)), (Generator(), (2, 99)), (Discriminator(32), (2, 64, 64, 3))],
)
def test_wrong_sizes_are_named(module, shape):
    with pytest.raises(ValueError, match='24|8|99|64'):
        shapes(module, *shape)


def test_initial_weights():
    variables = initial(Generator(16, width=32), (2, 100))
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables['params']):
        name = path[-1].key
        if name == 'bias':
            chex.assert_trees_all_equal(leaf, jnp.zeros_like(leaf))
        else:
            assert abs(leaf.mean() - (name == 'scale')) < 5 * 0.02 / leaf.size**0.5
            assert abs(leaf.std() - 0.02) < 5 * 0.02 / (2 * leaf.size) ** 0.5


def test_training_updates_the_statistics_and_evaluation_does_not():
    module = Generator(16, 1, 4, 10)
    z = jax.random.normal(jax.random.key(1), (8, 10))
    variables = initial(module, z.shape)
    train = jax.jit(lambda z: module.apply(variables, z, train=True, mutable='batch_stats'))
    evaluate = jax.jit(lambda z: module.apply(variables, z, train=False))
    images, changed = train(z)
    assert jnp.abs(images).max() <= 1
    assert not np.allclose(changed['batch_stats']['BatchNorm_0']['var'], 1)
    # In evaluation an image does not depend on its neighbours; in training it does.
    np.testing.assert_allclose(evaluate(z[:1]), evaluate(z)[:1], atol=1e-6)
    assert not np.allclose(train(z[:1])[0], images[:1], atol=1e-6)


@pytest.mark.parametrize('train', [False, True])
def test_batch_norm_has_the_variables_and_numbers_of_flax(train):
    x = 2 + 3 * jax.random.normal(jax.random.key(1), (4, 3, 3, 5))
    ours = BatchNorm(scale_init=nn.initializers.uniform())
    theirs = nn.BatchNorm(use_running_average=not train, momentum=0.9, scale_init=nn.initializers.uniform())
    variables = theirs.init(jax.random.key(KEY), x)
    chex.assert_trees_all_equal(variables, ours.init(jax.random.key(KEY), x, train=train))

    def run(module, variables, x, **settings):
        def loss(params, x):
            y, stats = module.apply(variables | {'params': params}, x, mutable='batch_stats', **settings)
            return jnp.sin(y).sum(), (y, stats)

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(variables['params'], x)

    found, expected = run(ours, variables, x, train=train), run(theirs, variables, x)
    if train:  # flax averages the biased variance
        bias = variables['batch_stats']['var'] * 0.9
        stats = expected[0][1][1]['batch_stats']
        stats['var'] = bias + (stats['var'] - bias) * 36 / 35
    chex.assert_trees_all_close(found, expected, atol=1e-4, rtol=1e-5)


def test_batch_norm_over_devices_uses_the_whole_batch():
    x = jax.random.normal(jax.random.key(1), (4, 3, 3, 5))
    variables = BatchNorm().init(jax.random.key(KEY), x, train=True)
    apply = lambda axis, x: BatchNorm(axis).apply(variables, x, train=True, mutable='batch_stats')
    whole, stats = apply(None, x)
    parts, shared = jax.pmap(lambda x: apply('batch', x), axis_name='batch')(x[:, None])
    chex.assert_trees_all_close(parts[:, 0], whole, atol=1e-5)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[0], shared), stats, atol=1e-6)


def test_half_precision():
    module = Discriminator(16, 4, dtype=jnp.bfloat16)
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    variables = initial(module, images.shape)
    half, single = (
        jax.jit(lambda x, m=m: m.apply(variables, x, train=True, mutable='batch_stats')[0])(images)
        for m in (module, Discriminator(16, 4))
    )
    assert half.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
    np.testing.assert_allclose(half.astype(jnp.float32), single, atol=0.05)


def test_a_batch_of_images_is_generated_once():
    module = Generator(16, 1, 8, 10)
    z = jnp.ones((4, 10))
    variables = initial(module, z.shape)

    def images(params):
        return module.apply(variables | {'params': params}, z, train=True, mutable='batch_stats')[0]

    gradient = jax.grad(lambda params: (images(params) ** 2).sum())
    both = lambda params: (images(params), gradient(params))
    flops = [jax.jit(f).lower(variables['params']).compile().cost_analysis()['flops'] for f in (gradient, both)]
    assert flops[1] < 1.01 * flops[0]
