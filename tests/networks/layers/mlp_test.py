"""Tests that the MLP applies its activation between the layers and its output function after the last."""

import jax
import jax.numpy as jnp
import numpy as np

from genlab.networks.layers.mlp import MLP


def test_layers_by_hand():
    x = jax.random.normal(jax.random.key(0), (5, 2, 3))
    module = MLP((4, 6), activation=jnp.sin, output=jnp.tanh)
    y, variables = module.init_with_output(jax.random.key(1), x)
    first, last = variables['params']['Dense_0'], variables['params']['Dense_1']
    expected = np.tanh(np.sin(x @ first['kernel']) @ last['kernel'])
    assert y.shape == (5, 2, 6)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_no_activation_after_the_last_layer():
    x = jax.random.normal(jax.random.key(0), (50, 3))
    y, _ = MLP((4,)).init_with_output(jax.random.key(1), x)
    assert (y < 0).any()
