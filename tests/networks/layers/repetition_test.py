"""Tests repeated blocks: copy i has row i of the stacked parameters, in a loop and unrolled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genlab.networks.layers.repetition import repeat


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, offset=None):
        y = nn.Dense(x.shape[-1], name='dense')(x)
        return jnp.tanh(y if offset is None else y + offset)


class Stack(nn.Module):
    unrolled: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, x, offset=None):
        return repeat(Layer(name='layers'), 3, x, offset, unrolled=self.unrolled, remat=self.remat)


@pytest.mark.parametrize('unrolled, remat', [(False, False), (True, False), (False, True), (True, True)])
def test_copy_i_has_row_i(unrolled, remat):
    x = np.random.RandomState(0).randn(2, 4).astype(np.float32)
    network = Stack(unrolled, remat)
    variables = Stack().init(jax.random.key(0), x)
    layers = variables['params']['layers']['dense']
    assert jax.tree.map(jnp.shape, layers) == {'kernel': (3, 4, 4), 'bias': (3, 4)}
    kernels, biases = np.asarray(layers['kernel']), np.asarray(layers['bias'])
    for offset in (None, x[:1]):
        y = x
        for row in range(3):
            y = np.tanh(y @ kernels[row] + biases[row] + (0 if offset is None else offset))
        np.testing.assert_allclose(network.apply(variables, x, offset), y, atol=1e-5)
