"""The state of a run: arrays only, so it checkpoints, shards and is donated as it is."""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
from flax import linen as nn


class State(flax.struct.PyTreeNode):
    """Everything that a step reads and writes. Each field is a pytree of arrays."""

    step: jax.Array  # int32 [], the rounds done
    params: Mapping[str, Any]  # network -> parameters
    stats: Mapping[str, Any]  # network -> collection -> statistics that no gradient moves (batch_stats, codebooks)
    optimizer: Mapping[str, Any]  # player -> optax state
    average: Mapping[str, Any]  # network -> moving average of its parameters, where one is kept

    def variables(self, averaged: bool = False) -> dict[str, Any]:
        """network -> what its `apply` takes: parameters (the averaged ones where kept, if asked) and statistics."""
        params = {**self.params, **self.average} if averaged else self.params
        return {network: {'params': params[network], **self.stats[network]} for network in params}


class Network(NamedTuple):
    """A linen module and what to call it with to make its variables; arrays may be abstract."""

    module: nn.Module
    inputs: tuple[Any, ...]


def initialize(networks: Mapping[str, Network], key: jax.Array) -> dict[str, Any]:
    """network -> fresh variables. A network's key depends on its name alone, so adding one leaves the others as they were."""
    return {
        name: network.module.copy(name=name).init(jax.random.fold_in(key, zlib.crc32(name.encode())), *network.inputs)
        for name, network in networks.items()
    }


def create(variables: Mapping[str, Any], players: Mapping[str, Any], averaged: tuple[str, ...] = ()) -> State:
    """The state before the first step, of `initialize`'s variables and the players that will move them."""
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
