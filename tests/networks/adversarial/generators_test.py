"""Tests what makes the networks of ProGAN, StyleGAN, StyleGAN2, SNGAN and R3GAN faithful; counts by abstract values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.adversarial import progressive, r3gan, resnet, stylegan, stylegan2
from genlab.networks.layers.resampling import double

GROWING = dict(resolution=16, base=64, most=8)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def count(module, *inputs, **named):
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    variables = jax.eval_shape(lambda *inputs: module.init(jax.random.key(0), *inputs, False, **named), *inputs)
    return sum(leaf.size for leaf in jax.tree.leaves(variables['params']))


@pytest.mark.parametrize(
    'resolution, generator, discriminator',
    [(32, 20_719_628, 20_726_785), (128, 22_933_394, 22_941_313), (1024, 23_079_115, 23_087_249)],
)
def test_parameters_of_progan(resolution, generator, discriminator):
    settings = dict(resolution=resolution, level=1, base=16384)
    assert count(progressive.Generator(**settings), (4, 512)) == generator
    assert count(progressive.Discriminator(**settings), (4, 8, 8, 3)) == discriminator


def test_parameters_of_stylegan():
    assert count(stylegan.Mapping(), (4, 512)) == 2_101_248
    assert count(stylegan.Synthesis(1024, 8, base=16384), (4, 18, 512)) == 24_118_379


@pytest.mark.parametrize(
    'resolution, base, generator, discriminator',
    [(1024, 32768, 30_370_060, 29_012_513), (256, 16384, 24_767_458, 24_001_089)],
)
def test_parameters_of_stylegan2(resolution, base, generator, discriminator):
    synthesis = count(stylegan2.Synthesis(resolution, base=base), (4, stylegan.layers(resolution), 512))
    assert count(stylegan.Mapping(), (4, 512)) + synthesis == generator
    assert count(stylegan2.Discriminator(resolution, base=base), (4, resolution, resolution, 3)) == discriminator


def test_parameters_of_r3gan():
    settings, label = dict(resolution=32, base=768 * 32, most=768), jnp.zeros((4, 10))
    assert count(r3gan.Generator(**settings), (4, 64), label=label) == 20_781_952
    assert count(r3gan.Discriminator(**settings, embedding=768), (4, 32, 32, 3), label=label) == 21_280_512


@functools.cache
def grown(kind):
    """Returns (network of a level, its input, variables) of a network with levels 8x8 and 16x16."""
    if kind is stylegan.Synthesis:
        x = normal(0, 3, stylegan.layers(16), 8)
    else:
        x = normal(0, 3, 8)
    variables = jax.jit(lambda: kind(level=2, channels=1, **GROWING).init(jax.random.key(0), x, False))()
    return (lambda level: kind(level=level, channels=1, **GROWING)), x, variables


@pytest.mark.parametrize('kind', [progressive.Generator, stylegan.Synthesis])
def test_a_level_fades_in_from_the_one_below(kind):
    network, x, variables = grown(kind)

    @functools.partial(jax.jit, static_argnums=0)
    def draw(level, fade):
        return network(level).apply(variables, x, True, fade=fade, mutable=['growth'])

    below, _ = draw(1, 1.0)
    start, stats = draw(2, 0.0)
    np.testing.assert_allclose(start, double(below), atol=1e-6)  # two programs round differently
    full, _ = draw(2, 1.0)
    half, kept = draw(2, 0.5)
    np.testing.assert_allclose(half, (start + full) / 2, atol=1e-6)
    assert stats['growth']['fade'] == 0 and kept['growth']['fade'] == 0.5
    sampled = jax.jit(lambda kept: network(2).apply({**variables, **kept}, x, False))(kept)
    np.testing.assert_allclose(sampled, half, atol=1e-6)


def test_a_level_of_the_discriminator_fades_in():
    make = lambda level: progressive.Discriminator(level=level, group=2, **GROWING)
    coarse = normal(1, 4, 8, 8, 1)
    variables = jax.jit(lambda: make(2).init(jax.random.key(0), double(coarse), False))()

    @functools.partial(jax.jit, static_argnums=0)
    def judge(level, images, fade):
        return make(level).apply(variables, images, True, fade=fade, mutable=['growth'])[0]

    np.testing.assert_allclose(judge(2, double(coarse), 0.0), judge(1, coarse, 1.0), rtol=1e-5, atol=1e-6)
    assert np.abs(judge(2, double(coarse), 1.0) - judge(1, coarse, 1.0)).max() > 1e-4
    with pytest.raises(ValueError, match='level 2 needs images of side 16, not 8'):
        judge(2, coarse, 1.0)


def test_the_mapping_tracks_the_mean_and_truncation_moves_to_it():
    mapping, z = stylegan.Mapping(8, 2, decay=0.5), normal(2, 64, 8)
    variables = mapping.init(jax.random.key(0), z, False)
    w, moved = mapping.apply(variables, z, True, mutable=['batch_stats'])
    mean = moved['batch_stats']['mean']
    np.testing.assert_allclose(mean, w.mean(0) / 2, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(stylegan.truncate(w, mean[None], 0.0), jnp.broadcast_to(mean, w.shape), atol=1e-6)
    np.testing.assert_allclose(stylegan.truncate(w, mean[None], 1.0), w, atol=1e-6)
    np.testing.assert_allclose(mapping.apply(variables, 5 * z, False), w, rtol=1e-4, atol=1e-6)  # on the sphere


def test_styles_noise_and_keys_of_stylegan2():
    network = stylegan2.Synthesis(8, channels=1, base=64, most=8)
    w, keys = normal(3, 2, stylegan.layers(8), 4), jax.random.split(jax.random.key(1), 2)
    variables = jax.jit(lambda: network.init(jax.random.key(0), w, False))()
    draw = jax.jit(lambda params, w, keys: network.apply({**variables, 'params': params}, w, False, keys))
    still = draw(variables['params'], w, keys)
    np.testing.assert_array_equal(still, draw(variables['params'], w, keys[::-1]))  # strengths start at zero
    noisy = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 1.0 if 'strength' in jax.tree_util.keystr(path) else leaf, variables['params']
    )
    drawn = draw(noisy, w, keys)
    np.testing.assert_allclose(draw(noisy, w[::-1], keys[::-1])[::-1], drawn, atol=1e-5)  # noise belongs to a key
    assert np.abs(draw(noisy, w, keys[::-1]) - drawn).max() > 0.1
    for layer in range(stylegan.layers(8)):
        assert np.abs(draw(variables['params'], w.at[:, layer].add(1.0), keys) - still).max() > 1e-4, layer


@pytest.mark.parametrize('name', ['generator', 'discriminator'])
def test_rematerialised_stylegan2_has_the_same_numbers(name):
    """Parameters, outputs and gradients, with noise per example; the gradient keeps less."""
    shared = dict(base=32, most=8)
    if name == 'generator':
        make, x = functools.partial(stylegan2.Synthesis, 8, 1, **shared), normal(5, 2, stylegan.layers(8), 4)
        named = {'keys': jax.random.split(jax.random.key(1), 2)}
    else:
        make, x, named = functools.partial(stylegan2.Discriminator, 8, **shared), normal(5, 2, 8, 8, 1), {}
    found = []
    for network in (make(), make(remat=True)):
        variables = network.init(jax.random.key(0), x, True)
        moved = jax.tree.map(lambda leaf: leaf + 0.1, variables['params'])  # strengths of noise start at 0
        loss = lambda params, x, network=network, variables=variables: jnp.square(
            network.apply({**variables, 'params': params}, x, True, **named)
        ).sum()
        gradient = jax.value_and_grad(loss, (0, 1))
        kept = jax.eval_shape(lambda params, x, loss=loss: jax.vjp(loss, params, x)[1], moved, x)
        size = sum(leaf.size for leaf in jax.tree.leaves(kept))
        found.append((size, variables, jax.jit(gradient)(moved, x)))
    (before, variables, results), (after, same, others) = found
    assert after < before
    jax.tree.map(np.testing.assert_array_equal, variables, same)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), results, others)


def test_r3gan_starts_as_its_shortcuts_and_groups_do_not_mix():
    block = r3gan.Block(2, 1, 4, jnp.float32)
    x = normal(4, 2, 4, 4, 8)
    params = block.init(jax.random.key(0), x)['params']
    np.testing.assert_array_equal(block.apply({'params': params}, x), x)
    layer = r3gan.GroupedConv(2, r3gan.scaled())
    params = layer.init(jax.random.key(1), x)
    changed = layer.apply(params, x.at[..., :4].add(1.0)) - layer.apply(params, x)
    assert np.abs(changed[..., :4]).max() > 0.1
    np.testing.assert_array_equal(changed[..., 4:], 0)
    reference = jax.lax.conv_general_dilated(
        x,
        params['params']['kernel'],
        (1, 1),
        'SAME',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=2,
    )
    np.testing.assert_allclose(layer.apply(params, x), reference, atol=1e-5)


def test_r3gan_resamples_linearly():
    ramp = jnp.broadcast_to(jnp.arange(4.0)[None, :, None, None], (1, 4, 4, 1))
    np.testing.assert_allclose(r3gan.double(ramp)[0, 1:, 3, 0], [0, 0.5, 1, 1.5, 2, 2.5, 3], atol=1e-6)
    np.testing.assert_allclose(r3gan.halve(r3gan.double(ramp + 1))[0, 1:, 2, 0], [1.5, 2.5, 3.5], atol=1e-6)


def test_a_label_selects_the_scale_and_the_projection_of_the_residual_networks():
    labels = jnp.eye(3)[jnp.array([0, 2])]
    generator, critic = resnet.Generator(16, 1, 4), resnet.Discriminator(16, 4)
    z = normal(5, 1, 6).repeat(2, 0)
    made = jax.jit(lambda: generator.init(jax.random.key(0), z, False, labels))()
    assert made['params']['normalization']['scale'].shape == (3, 4)
    made['params']['normalization']['bias'] += jnp.arange(3.0)[:, None]
    images = jax.jit(lambda: generator.apply(made, z, False, labels))()
    assert images.shape == (2, 16, 16, 1) and np.abs(images[0] - images[1]).max() > 0.01
    judge = jax.jit(lambda: critic.init_with_output(jax.random.key(1), images[:1].repeat(2, 0), False, labels)[0])
    logits = judge()
    assert logits.shape == (2,) and abs(logits[0] - logits[1]) > 1e-4
