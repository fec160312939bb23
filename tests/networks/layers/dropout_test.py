"""Tests that layers with noise draw it apart: two kinds of layers, and two layers of one kind."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genlab.networks.adversarial.stylegan import PixelNoise
from genlab.networks.layers.dropout import Dropout


class Dropped(nn.Module):
    """Holds dropout at a path where another network has noise."""

    @nn.compact
    def __call__(self, x, keys):
        return Dropout(0.5, name='layer')(x, keys)


class Noisy(nn.Module):
    """Holds noise at two paths."""

    @nn.compact
    def __call__(self, x, keys):
        return [PixelNoise(name=name)(x, keys) for name in ('layer', 'other')]


def test_layers_with_the_same_keys_draw_independent_noise():
    """The same bits would give a mask that says the sign of the noise: a correlation of 0.8."""
    x, keys = jnp.ones((20, 16, 16, 1)), jax.random.split(jax.random.key(3), 20)
    params = {name: {'strength': jnp.ones(1)} for name in ('layer', 'other')}
    layers = [*Noisy().apply({'params': params}, x, keys), Dropped().apply({}, x, keys)]
    constant = [layer[:1] + 0 * x for layer in Noisy().apply({'params': params}, x[:1], None)]
    correlations = np.corrcoef([np.ravel(layer) for layer in layers + constant])[np.triu_indices(5, 1)]
    # The constant noise has 256 independent values, repeated for 20 examples.
    assert abs(correlations[[0, 1, 4]]).max() < 4 / np.sqrt(x.size)
    assert abs(correlations).max() < 4 / np.sqrt(256)
