"""The state of a run: arrays only, so it checkpoints, shards and is donated as it is."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.noise import named_key
from genlab.training import parallel


class State(flax.struct.PyTreeNode):
    """Everything that a step reads and writes. Each field is a pytree of arrays."""

    step: jax.Array  # int32 [], the rounds done
    params: Mapping[str, Any]  # network -> parameters
    stats: Mapping[str, Any]  # network -> collection -> statistics that no gradient moves (batch_stats, codebooks)
    optimizer: Mapping[str, Any]  # player -> optax state
    average: Mapping[str, Any]  # network -> moving average of its parameters, where one is kept

    def variables(self, averaged: bool = False) -> dict[str, Any]:
        """Returns network -> the variables of its `apply`: parameters and collections.

        averaged: whether to take moving averages of parameters where they are kept.
        """
        params = {**self.params, **self.average} if averaged else self.params
        return {network: {'params': params[network], **self.stats[network]} for network in params}


class Network(NamedTuple):
    """A linen module and the inputs that initialise it; arrays may be abstract."""

    module: nn.Module
    inputs: tuple[Any, ...]
    named: Mapping[str, Any] = {}  # inputs by keyword, such as conditions


def initialize(networks: Mapping[str, Network], key: jax.Array) -> dict[str, Any]:
    """Returns network -> fresh variables. A key depends on the name alone: another network changes nothing."""
    return {
        name: network.module.copy(name=name).init(named_key(key, name), *network.inputs, **network.named)
        for name, network in networks.items()
    }


def create(variables: Mapping[str, Any], players: Mapping[str, Any], averaged: tuple[str, ...] = ()) -> State:
    """Returns the state before the first step.

    Args:
      variables: network -> collections, as `initialize` returns them.
      players: name -> player, whose optimizer initialises its moments.
      averaged: networks with a moving average of their parameters.
    """
    params = {
        network: collections.get('params', {}) for network, collections in variables.items()
    }  # one may only measure
    stats = {
        network: {name: tree for name, tree in collections.items() if name != 'params'}
        for network, collections in variables.items()
    }
    optimizer = {
        name: player.optimizer.init({network: params[network] for network in player.trains})
        for name, player in players.items()
    }
    average = {network: jax.tree.map(jnp.copy, params[network]) for network in averaged}
    return State(jnp.zeros((), jnp.int32), params, stats, optimizer, average)


def all_finite(tree: Any) -> jax.Array:
    """Returns whether all numbers of a tree are finite: 0 times any other is NaN. Leaves of one shape share one sum.

    A sum per leaf, let alone an `isfinite`, costs a tenth of a step of small layers.
    """
    sums: dict[tuple, jax.Array] = {}
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            kind = leaf.shape, leaf.dtype
            sums[kind] = sums.get(kind, 0) + 0 * leaf
    return jnp.isfinite(sum(jnp.sum(zeros) for zeros in sums.values()))


def not_finite(tree: Any) -> list[str]:
    """Returns the paths of the leaves of a tree that hold a NaN or an infinity: one reduction and one transfer."""
    floats = [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    finite = parallel.to_host(_finite([leaf for _, leaf in floats]))
    return [path for (path, _), fine in zip(floats, finite) if not fine]


@jax.jit
def _finite(leaves: list[jax.Array]) -> list[jax.Array]:
    """Returns one bool per array, whether all its elements are finite."""
    return [jnp.isfinite(leaf).all() for leaf in leaves]
