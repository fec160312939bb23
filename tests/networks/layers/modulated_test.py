"""Tests modulated and adaptive convolutions against one kernel per example: values, and gradients of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genlab.networks.adversarial.stylegan2 import double_convolved, halve_convolved
from genlab.networks.layers.convolution import convolve
from genlab.networks.layers.modulated import AdaptiveConv, ModulatedConv, adaptive, modulated

INPUTS = [
    jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)
    for seed, shape in enumerate([(2, 4, 4, 3), (3, 3, 3, 5), (2, 3)])
]


def one_by_one(x, kernel, style, demodulate=True):
    """Forms the kernel of each example (Karras et al. 2020, equations 1 and 3)."""

    def one(x, style):
        own = kernel * style[None, None, :, None]
        if demodulate:
            own = own / jnp.sqrt(jnp.square(own).sum((0, 1, 2)) + 1e-8)[None, None, None]
        return lax.conv_general_dilated(x[None], own, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))[0]

    return jnp.stack([one(x[i], style[i]) for i in range(len(x))])


@pytest.mark.parametrize('demodulate', [True, False])
def test_it_equals_a_kernel_per_example(demodulate):
    def norm_of_gradient(function):
        """A function of the inputs whose gradient contains second derivatives."""
        total = lambda *inputs: jnp.sum(jnp.sin(function(*inputs, demodulate)))
        return lambda *inputs: sum(jnp.square(part).sum() for part in jax.grad(total, (0, 1, 2))(*inputs))

    np.testing.assert_allclose(modulated(*INPUTS, demodulate), one_by_one(*INPUTS, demodulate), atol=1e-5)
    ours, theirs = (
        jax.value_and_grad(norm_of_gradient(function), (0, 1, 2))(*INPUTS) for function in (modulated, one_by_one)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs)):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize('operation', [convolve, double_convolved])
def test_an_adaptive_kernel_is_the_mixture_of_kernels(operation):
    """Kang et al. 2023, equation 1: the kernel of an example is formed, modulated and demodulated."""
    noise = np.random.default_rng(5)
    x, _, style = INPUTS
    bank = jnp.asarray(noise.normal(size=(4, 3, 3, 3, 5)), jnp.float32)
    logits = jnp.asarray(noise.normal(size=(2, 4)), jnp.float32)

    def mixed(x, bank, style, logits):
        weights, parts = jax.nn.softmax(logits), []
        for i in range(len(x)):
            kernel = sum(weights[i, n] * bank[n] for n in range(len(bank))) * style[i][None, None, :, None]
            kernel /= jnp.sqrt(jnp.square(kernel).sum((0, 1, 2)) + 1e-8)[None, None, None]
            parts.append(operation(x[i : i + 1], kernel))
        return jnp.concatenate(parts)

    ours = lambda x, bank, style, logits: adaptive(x, bank, style, jax.nn.softmax(logits), operation=operation)
    inputs = x, bank, style, logits

    def both(function):
        """The images, and the gradients of a function of them."""

        def total(*inputs):
            images = function(*inputs)
            return jnp.sum(jnp.sin(images)), images

        gradients, images = jax.jit(jax.grad(total, (0, 1, 2, 3), has_aux=True))(*inputs)
        return images, *gradients

    for name, a, b in zip(('made', 'images', 'kernels', 'styles', 'logits'), both(ours), both(mixed)):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5, err_msg=name)
        assert np.abs(b).max() > 1e-3


def test_a_certain_selection_is_a_single_kernel():
    x, _, w = INPUTS
    bank = jnp.asarray(np.random.default_rng(6).normal(size=(3, 3, 3, 3, 5)), jnp.float32)
    style = {'style': {'kernel': bank[0, 0, :, :, 0], 'bias': jnp.ones(3)}}
    certain = {'selection': {'kernel': jnp.zeros((3, 3)), 'bias': jnp.array([-90.0, 90.0, -90.0])}}
    apply = lambda layer, **params: jax.jit(layer.apply)({'params': {**style, **params}}, x, w)
    found = apply(AdaptiveConv(5, 3), kernel=bank, **certain)
    np.testing.assert_allclose(found, apply(AdaptiveConv(5, 1), kernel=bank[1:2]), atol=1e-5)
    np.testing.assert_allclose(found, apply(ModulatedConv(5), kernel=bank[1]), atol=1e-5)


def test_demodulated_outputs_have_unit_variance():
    x = jnp.asarray(np.random.default_rng(3).normal(size=(4, 16, 16, 32)), jnp.float32)
    w = 5 * jnp.asarray(np.random.default_rng(4).normal(size=(4, 8)), jnp.float32)
    layer = ModulatedConv(16)
    y = layer.apply(layer.init(jax.random.key(0), x, w), x, w)[:, 1:-1, 1:-1]
    np.testing.assert_allclose(jnp.std(y, (1, 2, 3)), 1, atol=0.15)


def test_resampling_convolutions_keep_constants():
    """A kernel whose centre is 1 doubles and halves images away from the borders by smooth filters alone."""
    kernel, ones = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0), jnp.ones((1, 8, 8, 1))
    up, down = double_convolved(ones, kernel), halve_convolved(ones, kernel)
    assert up.shape == (1, 16, 16, 1) and down.shape == (1, 4, 4, 1)
    np.testing.assert_allclose(up[0, 2:-2, 2:-2], 1, atol=1e-6)
    np.testing.assert_allclose(down[0, 1:-1, 1:-1], 1, atol=1e-6)
    ramp = jnp.broadcast_to(jnp.arange(8.0)[None, :, None, None], (1, 8, 8, 1))
    np.testing.assert_allclose(halve_convolved(ramp, kernel)[0, 1:-1, 2, 0], [2.5, 4.5], atol=1e-6)
    np.testing.assert_allclose(double_convolved(ramp, kernel)[0, 4:8, 4, 0], [1.75, 2.25, 2.75, 3.25], atol=1e-6)


def test_the_epsilon_stands_beside_the_norm_of_the_parameters():
    layer, w = ModulatedConv(1, side=1), jnp.zeros((1, 3))
    params = {'kernel': jnp.full((1, 1, 4, 1), 1e-4), 'style': {'kernel': jnp.zeros((3, 4)), 'bias': jnp.ones(4)}}
    found = layer.apply({'params': params}, jnp.ones((1, 1, 1, 4)), w)
    np.testing.assert_allclose(found.item(), 4e-4 / np.sqrt(4 * 1e-4**2 + 1e-8), rtol=1e-5)
