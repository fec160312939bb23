"""Tests that Winograd's convolution agrees with lax, equally exact, and is used only where it is faster."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genlab.networks.layers.convolution import convolve
from genlab.networks.layers.kernels import winograd

DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


def test_is_a_convolution():
    generator = np.random.default_rng(0)
    x, kernel = generator.normal(size=(2, 6, 8, 3)), generator.normal(size=(3, 3, 3, 5))
    around = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    exact = sum(around[:, i : i + 6, j : j + 8] @ kernel[i, j] for i in range(3) for j in range(3))
    found = winograd.convolve(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    np.testing.assert_allclose(found, exact, atol=1e-5)
    found = winograd.convolve(jnp.asarray(around, jnp.float32), jnp.asarray(kernel, jnp.float32), ((0, 0), (0, 0)))
    np.testing.assert_allclose(found, exact, atol=1e-5)


@pytest.mark.parametrize(
    'side, channels, dtype, taken',
    [
        (16, 128, jnp.float32, True),
        (16, 128, jnp.bfloat16, False),
        (14, 128, jnp.float32, False),
        (17, 128, jnp.float32, False),
        (16, 127, jnp.float32, False),
    ],
)
def test_where_it_is_used(side, channels, dtype, taken):
    x, kernel = jnp.ones((1, side, 18, channels), dtype), jnp.ones((3, 3, channels, 128), dtype)
    text = jax.jit(convolve).trace(x, kernel).lower(lowering_platforms=('cpu',)).as_text()
    assert ('stablehlo.convolution' not in text) == taken
    valid, larger = (
        jax.jit(lambda x, kernel: convolve(x, kernel, padding='VALID')),
        jnp.pad(x, ((0, 0), *[(1, 1)] * 2, (0, 0))),
    )
    assert ('stablehlo.convolution' not in valid.trace(larger, kernel).lower().as_text()) == taken
    padded = jax.jit(lambda x, kernel: convolve(x, kernel, padding=((2, 2), (2, 2))))
    assert 'stablehlo.convolution' in padded.trace(x, kernel).lower().as_text()


def test_gradients_agree_with_lax():
    generator = np.random.default_rng(1)
    x, kernel = (
        jnp.asarray(generator.normal(size=size) / 30, jnp.float32) for size in ((1, 16, 16, 128), (3, 3, 128, 128))
    )
    plain = lambda x, kernel: lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=DIMENSIONS)
    gradients = [
        jax.jit(jax.value_and_grad(lambda *both: jnp.sin(f(*both)).sum(), (0, 1)))(x, kernel) for f in (convolve, plain)
    ]
    for ours, theirs in zip(*map(jax.tree.leaves, gradients)):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
