"""Tests that the statistics of every normalisation survive a mean of 1,000 deviations, and the running variance."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab import networks
from genlab.networks.diffusion import dit, vdm
from genlab.networks.layers.latent_scale import LatentScale
from genlab.networks.layers.normalization import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    group_count,
    group_normalization,
    normalize,
)

FAR = jnp.asarray(1000 + np.random.default_rng(0).normal(size=(4, 6, 6, 8)), jnp.float32)  # unit deviation


class Calls(nn.Module):
    """Calls a function that makes its layers in the calling module."""

    function: object

    @nn.compact
    def __call__(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    'layer, axes',
    [
        (lambda x: BatchNorm()(x, True), (0, 1, 2)),
        (lambda x: GroupNorm(1)(x), (1, 2, 3)),
        (lambda x: GroupNorm(8)(x), (1, 2)),
        (lambda x: InstanceNorm()(x), (1, 2)),
        (lambda x: LayerNorm()(x), 3),
        (lambda x: dit.normalized(x, 0, 0, 'norm'), 3),
        (lambda x: vdm.normalize(x, 1, 'norm'), (1, 2, 3)),
    ],
    ids=['batch', 'group', 'channels', 'instance', 'layer', 'DiT', 'VDM'],
)
def test_a_mean_of_a_thousand_deviations_costs_no_accuracy(layer, axes):
    y = jax.jit(lambda x: Calls(layer).init_with_output(jax.random.key(0), x)[0])(FAR)
    x = np.asarray(FAR, np.float64)
    expected = (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)
    np.testing.assert_allclose(y, expected, atol=1e-3)


def test_the_scale_of_codes_survives_a_large_mean():
    scale = LatentScale()
    train = jax.jit(lambda variables, x: scale.apply(variables, x, True, mutable=['latents']))
    variables = scale.init(jax.random.key(0), FAR[:2], False)
    for half in (FAR[:2], FAR[2:] + 1):
        deviation, variables = train(variables, half)
    both = np.concatenate([FAR[:2], FAR[2:] + 1]).astype(np.float64)
    np.testing.assert_allclose(deviation, both.std(), rtol=1e-3)


def test_no_network_uses_the_fast_variance_of_flax():
    folder = pathlib.Path(networks.__file__).parent
    kinds = 'Batch', 'Group', 'Instance', 'Layer', 'RMS'
    used = [path.name for path in folder.rglob('*.py') for kind in kinds if f'nn.{kind}Norm(' in path.read_text()]
    assert not used, 'use genlab.networks.layers.normalization'


def test_the_running_variance_is_unbiased_over_all_devices():
    x = jax.random.normal(jax.random.key(1), (2, 3, 1, 1, 5))  # [devices, B, H, W, C]
    variables = {'params': {'scale': jnp.ones(5), 'bias': jnp.zeros(5)}}

    def variance(axis, x):
        stats = {'mean': jnp.zeros(5), 'var': jnp.ones(5)}
        layer = BatchNorm(axis, momentum=0.0)
        return layer.apply({**variables, 'batch_stats': stats}, x, True, mutable='batch_stats')[1]['batch_stats']['var']

    alone = jax.jit(jax.vmap(lambda x: variance(None, x)))(x)
    np.testing.assert_allclose(alone, np.var(x, (1, 2, 3), ddof=1), rtol=1e-5)
    shared = jax.jit(jax.vmap(lambda x: variance('devices', x), axis_name='devices'))(x)
    np.testing.assert_allclose(shared, [np.var(x, (0, 1, 2, 3), ddof=1)] * 2, rtol=1e-5)


def test_examples_of_weight_zero_are_not_part_of_the_statistics_of_any_device():
    x = jax.random.normal(jax.random.key(1), (2, 3, 2, 2, 5))  # [devices, B, H, W, C]
    weights = jnp.array([[1.0, 0, 1], [0, 0, 1]])
    layer, stats = BatchNorm('devices', momentum=0.0, affine=False), {'mean': jnp.zeros(5), 'var': jnp.ones(5)}
    run = lambda x, weights: layer.apply({'batch_stats': stats}, x, True, weights=weights, mutable='batch_stats')
    y, new = jax.jit(jax.vmap(run, axis_name='devices'))(x, weights)
    kept = np.asarray(x)[np.asarray(weights) > 0]
    np.testing.assert_allclose(new['batch_stats']['mean'], [kept.mean((0, 1, 2))] * 2, atol=1e-6)
    np.testing.assert_allclose(new['batch_stats']['var'], [kept.var((0, 1, 2), ddof=1)] * 2, rtol=1e-5)
    x = np.asarray(x)
    np.testing.assert_allclose(y, (x - kept.mean((0, 1, 2))) / np.sqrt(kept.var((0, 1, 2)) + 1e-5), atol=1e-5)


def test_groups_and_epsilon_are_settings():
    x = jax.random.normal(jax.random.key(1), (2, 3, 3, 8))
    layer = lambda x: group_normalization(x, 'norm', groups=4, epsilon=2.0)
    y = jax.jit(lambda x: Calls(layer).init_with_output(jax.random.key(0), x)[0])(x)
    parts = np.asarray(x).reshape(2, 9, 4, 2)
    mean, variance = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
    np.testing.assert_allclose(y, ((parts - mean) / np.sqrt(variance + 2)).reshape(x.shape), atol=1e-5)


@pytest.mark.parametrize('channels', [4, 12, 32, 64, 128, 256, 384, 512, 640, 1024])
def test_the_default_number_of_groups_is_the_rule_of_edm(channels):
    """At 128 channels or more it is the constant 32 of DDPM, OpenAI's networks and latent diffusion."""
    assert group_count(channels) == min(32, channels // 4)


def test_affine_instances_are_a_batch_of_one():
    """The same parameters give the numbers of batch normalisation of each example alone, and the same gradients."""
    x, rows = FAR - 1000, np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32)
    variables = {'scale': jnp.asarray(rows[0]), 'bias': jnp.asarray(rows[1])}

    def run(kind, variables, x):
        module = Calls(lambda x: normalize(x, kind, True, 'norm'))
        return module.apply({'params': {'norm': variables}, 'batch_stats': stats}, x, mutable=['batch_stats'])[0]

    stats = {'norm': {'mean': jnp.zeros(8), 'var': jnp.ones(8)}}
    alone = lambda variables, x: jax.vmap(lambda one: run('batch', variables, one[None])[0])(x)
    together = lambda variables, x: run('affine_instance', variables, x)
    found, expected = (
        jax.jit(jax.value_and_grad(lambda *both: jnp.sin(3 * f(*both)).sum(), (0, 1)))(variables, x)
        for f in (together, alone)
    )
    for ours, theirs in zip(*map(jax.tree.leaves, (found, expected))):
        np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=2e-5)
    assert not Calls(lambda x: normalize(x, 'instance', True, 'norm')).init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="no normalisation 'layer': choose one of batch, instance, affine_instance"):
        Calls(lambda x: normalize(x, 'layer', True, 'norm')).init(jax.random.key(0), x)
