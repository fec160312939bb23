"""Boltzmann machines as modules: their parameters, the base rates of the data, and persistent chains.

Fields that both have: `base_rates` are the biases [D] of independent units with the frequencies of the data, in the
collection `buffers`. They are zeros until the training set is read. `chains` is the number of persistent chains in the
collection `chains`, 0 for none; they are equal on all devices. Modules are called with (v, train) and return the inputs
of the hidden units.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.classical import boltzmann


def start_chains(module: nn.Module, count: int, units: int, gaussian: bool) -> None:
    """Adds the collections of a machine to its module; chains start at random."""
    module.variable('buffers', 'base_rates', jnp.zeros, (units,), jnp.float32)
    if count:
        draw = jax.random.normal if gaussian else lambda key, shape: jax.random.bernoulli(key, shape=shape)
        first = lambda: draw(module.make_rng('params'), (count, units)).astype(jnp.float32)
        module.variable('chains', 'visible', first)


class RestrictedMachine(nn.Module):
    """Holds the parameters of a restricted Boltzmann machine, called with states v [B, D].

    Weights start as N(0, 0.01^2) and biases as zeros (Hinton 2010, section 8). 784 and 500 units have 393,284
    parameters.
    """

    visible: int
    hidden: int
    chains: int = 0
    gaussian: bool = False  # whether the visible units are

    @nn.compact
    def __call__(self, v: jax.Array, train: bool = False) -> jax.Array:
        del train  # part of the common signature; no effect here
        parameters = boltzmann.Restricted(
            self.param('weights', nn.initializers.normal(0.01), (self.visible, self.hidden)),
            self.param('visible', nn.initializers.zeros_init(), (self.visible,)),
            self.param('hidden', nn.initializers.zeros_init(), (self.hidden,)),
        )
        start_chains(self, self.chains, self.visible, self.gaussian)
        return boltzmann.hidden_field(parameters, v)


class FullMachine(nn.Module):
    """Holds the parameters of a full Boltzmann machine of N = `visible` + `hidden` units, called with v [B, visible].

    One weight per pair of units is kept, so the matrix is symmetric with a zero diagonal after any update. There are
    N (N + 1) / 2 parameters.
    """

    visible: int
    hidden: int
    chains: int = 0

    @nn.compact
    def __call__(self, v: jax.Array, train: bool = False) -> jax.Array:
        del train  # part of the common signature; no effect here
        units = self.visible + self.hidden
        pairs = self.param('pairs', nn.initializers.normal(0.01), (units * (units - 1) // 2,))
        bias = self.param('bias', nn.initializers.zeros_init(), (units,))
        start_chains(self, self.chains, self.visible, False)
        weights = boltzmann.symmetric(pairs, units)[: self.visible, self.visible :]
        return v @ weights + bias[None, self.visible :]
