"""Deterministic autoencoders: linear, deep, tied, greedy, convolutional, denoising or sparse, depending on the config.

The model is a stack of blocks, the networks block_1, block_2, ... from the data up. It has one block unless
`config.model.greedy`. The player `autoencoder` trains all blocks. With `greedy`, each player block_1, block_2, ...
trains one block alone, on clean codes of the frozen blocks below it (Vincent et al. 2010, section 3.4). Phases change
the turns. The abilities use the stack up to the highest block that the current phase trains. Terms: see
`genlab.models.autoencoder.terms`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Codec
from genlab.choices import named
from genlab.config import order
from genlab.data import corruption
from genlab.data.source import example_shape
from genlab.errors import choose
from genlab.experiment import Experiment, Role, compose
from genlab.models import autoencoder
from genlab.models.autoencoder import Block, Stack
from genlab.networks.autoencoders.deterministic import ConvolutionalAutoencoder, DenseAutoencoder
from genlab.networks.layers.mlp import identity

ACTIVATIONS = {'linear': identity, 'sigmoid': nn.sigmoid, 'tanh': jnp.tanh, 'relu': nn.relu, 'cos': jnp.cos}
# Gains of the initial kernels that preserve the variance of a signal.
GAINS = {'linear': 1.0, 'sigmoid': 4.0, 'tanh': 1.0, 'relu': math.sqrt(2), 'cos': 1.0}
OUTPUTS = {'linear': identity, 'sigmoid': lambda logits: jnp.tanh(logits / 2)}  # of images: 2 s(l) - 1, in [-1, 1]
Settings = dict[str, Any]  # fields of both networks that the config sets outside of the choice


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.autoencoder.settings`."""
    corrupt = choices.bind(corruption.KINDS, config.model.corruption, 'config.model.corruption')
    stack = Stack(blocks(config), corrupt, config.model.rho, axis)
    names = stack.names
    trains = {'autoencoder': names, **({name: (name,) for name in names} if config.model.greedy else {})}
    active = {name for player in order(config) for name in trains.get(player, ())}
    through = names[: max((names.index(name) + 1 for name in active), default=len(names))]
    return compose(
        config,
        axis,
        partial(autoencoder.networks, stack),
        {player: Role(chosen, partial(autoencoder.terms, stack, chosen)) for player, chosen in trains.items()},
        codec=Codec(
            partial(autoencoder.decode, stack, through), encode=partial(autoencoder.encode_batch, stack, through)
        ),
        measure=partial(autoencoder.measure, stack, through),
        reconstruct=partial(autoencoder.reconstruct, stack, through),
    )


def blocks(config: ConfigDict) -> dict[str, Block]:
    """Makes block_1, block_2, ... from the data up. Together they have the layers of a single block."""
    model = config.model
    features = tuple(model.networks.features)
    widths = [(width,) for width in features] if model.greedy else [features]
    shapes = [example_shape(config), *widths]
    return {
        f'block_{number + 1}': _block(model, number, shapes[number], features, number == len(widths) - 1)
        for number, features in enumerate(widths)
    }


def _block(model: ConfigDict, number: int, shape: tuple[int, ...], features: tuple[int, ...], last: bool) -> Block:
    """Makes the block at position `number` of the stack, for inputs [B, *shape]."""
    code = model.code if last else model.activation
    output = model.activation if number else model.output
    gain = choose(GAINS, model.activation, 'config.model.activation')
    settings: Settings = {
        'activation': ACTIVATIONS[model.activation],
        'dtype': jnp.dtype(model.dtype),
        'code': choose(ACTIVATIONS, code, 'config.model.code'),
        'output': choose(ACTIVATIONS if number else OUTPUTS, output, 'config.model.output'),
        'kernel_init': nn.initializers.variance_scaling(gain**2, 'fan_in', 'truncated_normal'),
    }
    networks = model.networks
    if number and networks.name != 'dense':  # blocks above the first encode codes, which have no pixels
        networks = named('dense', features=features)
    module = choices.bind(NETWORKS, networks, 'config.model.networks')(shape, settings, features=features)
    return Block(module, (0.0, 1.0) if number or model.dimensions else (-1.0, 1.0), code, output)


def _dense(
    shape: tuple[int, ...], settings: Settings, *, features: tuple[int, ...], tied: bool = False, use_bias: bool = True
) -> nn.Module:
    return DenseAutoencoder(shape, features, tied=tied, use_bias=use_bias, **settings)


def _convolutional(
    shape: tuple[int, ...], settings: Settings, *, features: tuple[int, ...], width: int, halvings: int = 2
) -> nn.Module:
    return ConvolutionalAutoencoder(shape, features, width, halvings, **settings)


# Name -> the network of a block of this shape and settings; the keyword arguments are the options.
NETWORKS: dict[str, Callable[..., nn.Module]] = {'dense': _dense, 'convolutional': _convolutional}
