"""Deep belief networks (Hinton, Osindero and Teh 2006): a stack of restricted Boltzmann machines, trained greedily.

The networks are machine_1, machine_2, ... from the data up. The data of a machine are the means of the hidden units of
the machine below it, and the visible units take their means in learning. The last machine may have Gaussian hidden
units, a linear code of unit variance (Hinton and Salakhutdinov 2006). `through` are the machines from the data up that
take part. For the arguments that all families share, see `genlab.models`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.classical import boltzmann as functions
from genlab.conditioning import Condition
from genlab.config import order
from genlab.data.source import example_shape
from genlab.errors import choose
from genlab.losses import reconstruction
from genlab.models import boltzmann
from genlab.models.boltzmann import Boltzmann
from genlab.training.state import Network


def settings(features: tuple[int, ...], **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of a deep belief network, with changes. features: hidden units, lowest first."""
    return choices.filled(
        'config.model',
        dict(
            features=features,
            code='gaussian',  # hidden units of the last machine: gaussian or binary
            gibbs_steps=1,  # k of CD-k, or steps of the persistent chains per training step
            persistent=False,  # whether negative samples come from persistent chains
            rho=0.0,  # target of the mean activation of binary hidden units, for the term sparsity
        ),
        changes,
    )


class Belief(NamedTuple):
    """Holds the machines by name, from the data up."""

    machines: Mapping[str, Boltzmann]

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the names of the machines, from the data up."""
        return tuple(self.machines)


def from_config(config: ConfigDict, axis: str | None = None) -> Belief:
    """Makes the machines of `config.model`, see `settings`."""
    choose(functions.UNITS, config.model.code, 'config.model.code')
    features = tuple(config.model.features)
    shapes = [example_shape(config), *((width,) for width in features)]
    return Belief(
        {
            f'machine_{number + 1}': boltzmann.restricted(
                config,
                axis,
                shapes[number],
                width,
                hidden=config.model.code if number == len(features) - 1 else 'binary',
                images=number == 0,
                means=True,
            )
            for number, width in enumerate(features)
        }
    )


def active(config: ConfigDict, belief: Belief) -> tuple[str, ...]:
    """Returns the machines up to the highest that the current phase trains, or all if it trains none."""
    trained = (belief.names.index(player) + 1 for player in order(config) if player in belief.machines)
    return belief.names[: max(trained, default=len(belief.names))]


def networks(belief: Belief, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    v, found = batch['x'], {}
    for name, machine in belief.machines.items():
        v = boltzmann.states(machine, v)
        found[name] = Network(machine.module, (v, False))
        v = jnp.zeros((len(v), machine.module.hidden))
    return found


def up(belief: Belief, through: tuple[str, ...], variables: Variables, x: jax.Array) -> jax.Array:
    """Returns the means of the hidden units of the highest machine, [B, H], or examples x as they are without any."""
    for name in through:
        machine = belief.machines[name]
        x = boltzmann.hidden_means(machine, variables[name], boltzmann.states(machine, x))
    return x


def down(belief: Belief, through: tuple[str, ...], variables: Variables, h: jax.Array) -> jax.Array:
    """Decodes hidden units h [B, H] of the highest machine to the means of the examples, [B, ...]."""
    for name in through[::-1]:
        machine = belief.machines[name]
        h = boltzmann.examples(machine, boltzmann.visible_means(machine, variables[name], h))
    return h


def terms(belief: Belief, name: str, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of one machine, whose data come up from the machines below it."""
    machine, below = belief.machines[name], belief.names[: belief.names.index(name)]
    v = boltzmann.states(machine, up(belief, below, variables, batch['x']))
    return boltzmann.machine_terms(machine, name, variables[name], v, batch['position'], keys), {}


def encode(belief: Belief, through: tuple[str, ...], variables: Variables, batch: Batch) -> jax.Array:
    """Encodes examples as means of the highest hidden units, [B, H]."""
    return up(belief, through, variables, batch['x'])


def reconstruct(belief: Belief, through: tuple[str, ...], variables: Variables, batch: Batch, keys: jax.Array):
    """Reconstructs examples by one mean-field pass up and down."""
    return {'input': batch['x'], 'output': down(belief, through, variables, up(belief, through, variables, batch['x']))}


def measure(belief: Belief, through: tuple[str, ...], variables: Variables, batch: Batch, keys: jax.Array):
    """Measures squared_error of a mean-field pass up and down, of images in [0, 1]."""
    output = reconstruct(belief, through, variables, batch, keys)['output']
    return {'squared_error': reconstruction.squared_error((output + 1) / 2, (batch['x'] + 1) / 2)}


def sample(
    belief: Belief, through: tuple[str, ...], variables: Variables, keys: jax.Array, condition: Condition
) -> jax.Array:
    """Samples by a Gibbs chain of the highest machine, then means down to the data (section 5 of Hinton et al.)."""
    *below, top = through
    machine = belief.machines[top]
    v = boltzmann.examples(machine, boltzmann.chain(machine, variables[top], keys))
    return down(belief, tuple(below), variables, v)


def filters(belief: Belief, variables: Variables) -> jax.Array:
    """Returns the weights of each hidden unit of the lowest machine, in the shape of an example: [H, ...]."""
    lowest = belief.names[0]
    return boltzmann.weights_as_examples(belief.machines[lowest], variables[lowest])
