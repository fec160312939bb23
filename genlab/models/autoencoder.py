"""Deterministic autoencoders: a stack of blocks, where each block autoencodes the codes of the block below it.

A function that takes `through` uses the named blocks, ordered from the data up, as one autoencoder.

For the arguments that all families share, see `genlab.models`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.choices import named
from genlab.config import order
from genlab.data import corruption
from genlab.data.source import Source, example_shape
from genlab.errors import ConfigError, choose
from genlab.losses import reconstruction, sparsity
from genlab.losses.isometry import isometry
from genlab.networks.autoencoders.deterministic import ConvolutionalAutoencoder, DenseAutoencoder, truncate
from genlab.networks.layers.mlp import identity
from genlab.noise import normal, stream
from genlab.training import pretrained
from genlab.training.parallel import Placement
from genlab.training.state import Network, State

ACTIVATIONS = {'linear': identity, 'sigmoid': nn.sigmoid, 'tanh': jnp.tanh, 'relu': nn.relu, 'cos': jnp.cos}
# Gains of the initial kernels that preserve the variance of a signal.
GAINS = {'linear': 1.0, 'sigmoid': 4.0, 'tanh': 1.0, 'relu': math.sqrt(2), 'cos': 1.0}
OUTPUTS = {'linear': identity, 'sigmoid': lambda logits: jnp.tanh(logits / 2)}  # of images: 2 s(l) - 1, in [-1, 1]
PRETRAINED = 'config.model.pretrained'  # the key that names the run of a deep belief network
Fields = dict[str, Any]  # fields of both networks that the config sets outside of the choice


def settings(networks: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of a deterministic autoencoder of images, with changes."""
    return choices.filled(
        'config.model',
        dict(
            networks=networks,  # named: dense or convolutional; features are the widths down to the code
            dimensions=0,  # number of coordinates of a point; 0 for images
            greedy=False,  # whether each layer is a block with a player of its own
            activation='relu',  # activation of hidden layers: linear, sigmoid, tanh, relu or cos
            code='linear',  # activation of the code
            output='sigmoid',  # activation of the last layer: sigmoid or linear
            corruption=named('none'),  # corruption of the input: genlab.data.corruption, with its amount
            rho=0.0,  # target of the mean activation of sigmoid codes, for the term sparsity
            pretrained='',  # folder of a run of configs/dbn.py, whose unrolled weights are the first ones; '': random
        ),
        changes,
    )


class Block(NamedTuple):
    """Holds one autoencoder with methods `encode`, `decode` and `logits`."""

    module: nn.Module
    bounds: tuple[float, float]  # range of its input; (0, 1) for points, which are not rescaled
    code: str  # name of the activation of its code
    output: str  # name of the activation of its last layer


class Stack(NamedTuple):
    """Holds blocks by name, from the data up, and the settings of their training."""

    blocks: Mapping[str, Block]
    corrupt: Callable[..., jax.Array]  # (example, key, low, high) -> corrupted example
    rho: float  # target of the mean activation for the term `sparsity`
    axis: str | None = None  # mapped axis of the devices

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the names of the blocks, from the data up."""
        return tuple(self.blocks)


def networks(stack: Stack, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    inputs, found = batch['x'], {}
    for name, block in stack.blocks.items():
        found[name] = Network(block.module, (inputs, False))
        inputs = jnp.zeros((inputs.shape[0], block.module.features[-1]))
    return found


def encode(stack: Stack, through: tuple[str, ...], variables: Variables, x: jax.Array) -> jax.Array:
    """Encodes inputs x [B, ...] of the lowest block as codes [B, K] of the highest."""
    for name in through:
        x = cast(jax.Array, stack.blocks[name].module.apply(variables[name], x, method='encode'))
    return x


def decode(stack: Stack, through: tuple[str, ...], variables: Variables, codes: jax.Array) -> jax.Array:
    """Decodes codes [B, K] of the highest block to inputs [B, ...] of the lowest."""
    for name in through[::-1]:
        codes = cast(jax.Array, stack.blocks[name].module.apply(variables[name], codes, method='decode'))
    return codes


def corrupt(stack: Stack, block: Block, x: jax.Array, keys: jax.Array) -> jax.Array:
    """Corrupts the inputs of a block.

    Args:
        stack: the model.
        block: block whose bounds limit the corrupted values.
        x: inputs of the block, [B, ...].
        keys: one key per example [B].

    Returns:
        Corrupted inputs [B, ...].
    """
    corrupted = jax.vmap(lambda x, key: stack.corrupt(x, key, *block.bounds))
    return corrupted(x, stream(keys, 'corruption'))


def unit(block: Block, x: jax.Array) -> jax.Array:
    """Rescales the input or output of a block to [0, 1]."""
    low, high = block.bounds
    return (x - low) / (high - low)


def terms(stack: Stack, through: tuple[str, ...], variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of the player that trains the blocks `through` together.

    Their input is the clean code of the blocks below them. Reconstruction terms compare values rescaled to [0, 1].

    squared_error, absolute_error: distances between output and clean input.
    cross_entropy: nats; for sigmoid outputs only.
    nested: squared error under nested dropout of the code.
    isometry: penalty on the decoder's Jacobian.
    l1: sum of the absolute values of the code.
    sparsity: divergence of the mean activations from `rho`; for sigmoid codes only.
    """
    lowest, highest = stack.blocks[through[0]], stack.blocks[through[-1]]
    below = stack.names[: stack.names.index(through[0])]
    clean = encode(stack, below, variables, batch['x'])
    codes = encode(stack, through, variables, corrupt(stack, lowest, clean, keys))
    target = unit(lowest, clean)

    def output(codes: jax.Array) -> jax.Array:
        return unit(lowest, decode(stack, through, variables, codes))

    def nested() -> jax.Array:
        return reconstruction.squared_error(output(truncate(codes, stream(keys, 'nested'))), target)

    def isometric() -> jax.Array:
        direction = normal(keys, codes.shape[1:], 'isometry')
        return isometry(output, codes, direction / jnp.linalg.norm(direction, axis=1, keepdims=True))

    def cross_entropy() -> jax.Array:
        above = decode(stack, through[1:], variables, codes)
        logits = cast(jax.Array, lowest.module.apply(variables[through[0]], above, method='logits'))
        return reconstruction.cross_entropy(logits, target)

    def sparse() -> jax.Array:
        activation = codes.mean(0) if stack.axis is None else jax.lax.pmean(codes.mean(0), stack.axis)  # global batch
        return sparsity.divergence(activation, rho=stack.rho)

    offered = {
        'squared_error': lambda: reconstruction.squared_error(output(codes), target),
        'absolute_error': lambda: reconstruction.absolute_error(output(codes), target),
        'nested': nested,
        'isometry': isometric,
        'l1': lambda: sparsity.l1(codes),
    }
    if lowest.output == 'sigmoid':
        offered['cross_entropy'] = cross_entropy
    if highest.code == 'sigmoid' and stack.rho:
        offered['sparsity'] = sparse
    return offered, {}


def encode_batch(stack: Stack, through: tuple[str, ...], variables: Variables, batch: Batch) -> jax.Array:
    """Encodes clean examples as codes [B, K]."""
    return encode(stack, through, variables, batch['x'])


def measure(stack: Stack, through: tuple[str, ...], variables: Variables, batch: Batch, keys: jax.Array):
    """Measures squared_error of values rescaled to [0, 1], and activation, the mean absolute value of the code."""
    codes = encode(stack, through, variables, batch['x'])
    first = stack.blocks[through[0]]
    output, target = unit(first, decode(stack, through, variables, codes)), unit(first, batch['x'])
    return {'squared_error': reconstruction.squared_error(output, target), 'activation': jnp.abs(codes).mean(1)}


def reconstruct(stack: Stack, through: tuple[str, ...], variables: Variables, batch: Batch, keys: jax.Array):
    """Reconstructs examples from their corrupted versions."""
    corrupted = corrupt(stack, stack.blocks[through[0]], batch['x'], keys)
    codes = encode(stack, through, variables, corrupted)
    return {'input': corrupted, 'output': decode(stack, through, variables, codes)}


def load(config: ConfigDict, stack: Stack, state: State, source: Source, placement: Placement) -> State:
    """Returns the fresh state with the weights of the deep belief network of the run `config.model.pretrained`.

    Args:
        config: config of this run.
        stack: the model.
        state: before the first step.
        source: the training data, which are not used.
        placement: placement of the state.

    Raises:
        UserError: the run has no checkpoint.
        ConfigError: there is no such run, it is no deep belief network, or its layers differ.
    """
    run, variables = pretrained.load(config.model.pretrained, placement, PRETRAINED)
    check_layers(config, run)
    params = {name: state.params[name] for name in stack.blocks}
    shardings = jax.tree.map(lambda leaf: leaf.sharding, params)
    made = jax.jit(partial(unrolled, stack), out_shardings=shardings)([own['params'] for own in variables.values()])
    return pretrained.replace_networks(state, {name: {'params': made[name], **state.stats[name]} for name in made})


def check_layers(config: ConfigDict, run: ConfigDict) -> None:
    """Raises ConfigError if the run of a deep belief network has other layers than the autoencoder of a config."""
    model, where = config.model, f'{PRETRAINED}={config.model.pretrained}'
    if run.experiment != 'dbn':
        raise ConfigError(
            f'{where}: its run is one of config.experiment={run.experiment!r}: name one of configs/dbn.py'
        )
    if model.networks.name != 'dense' or not choices.options(model.networks).get('use_bias', True):
        raise ConfigError(f"{where}: config.model.networks must be 'dense' with biases, as the layers of its run are")
    if model.networks.get('tied', False):
        raise ConfigError(f'{where}: set config.model.networks.tied=False: tied kernels cannot have the two scales')
    code = {'gaussian': 'linear', 'binary': 'sigmoid'}[run.model.code]
    wanted = {
        'config.model.networks.features': (tuple(model.networks.features), tuple(run.model.features)),
        'config.data': (example_shape(config), example_shape(run)),
        'config.model.activation': (model.activation, 'sigmoid'),
        'config.model.code': (model.code, code),
        'config.model.output': (model.output, 'sigmoid'),
    }
    for key, (here, there) in wanted.items():
        if here != there:
            raise ConfigError(f'{where}: {key} gives {here}, and its run needs {there}: make them the same')


def unrolled(stack: Stack, layers: Sequence[Mapping[str, jax.Array]]) -> dict[str, dict[str, Any]]:
    """Unrolls restricted Boltzmann machines into an autoencoder (Hinton and Salakhutdinov 2006, figure 1).

    The encoder has their weights and hidden biases, the decoder the transposed weights and visible biases. So it
    computes the mean-field pass up and down. Visible units v = (x - low) / (high - low) of the data x in [low, high]
    are folded into the first layer.

    Args:
        stack: the autoencoder, whose blocks are dense and untied.
        layers: {'weights' [D, H], 'visible' [D], 'hidden' [H]} of each machine, from the data up.

    Returns:
        The parameters of each block.
    """
    left, made = list(layers), dict[str, dict[str, Any]]()
    for name, block in stack.blocks.items():
        count, (low, high) = len(block.module.features), block.bounds
        own, left = left[:count], left[count:]
        made[name] = params = {}
        for number, layer in enumerate(own):
            kernel, bias = layer['weights'], layer['hidden']
            if number == 0:
                kernel, bias = kernel / (high - low), bias - low / (high - low) * kernel.sum(0)
            params[f'encoder_{number}'] = {'kernel': kernel, 'bias': bias}
            params[f'decoder_{count - 1 - number}'] = {'kernel': layer['weights'].T, 'bias': layer['visible']}
    return made


def from_config(config: ConfigDict, axis: str | None = None) -> Stack:
    """Makes the stack of `config.model`, see `settings`."""
    corrupt = choices.bind(corruption.KINDS, config.model.corruption, 'config.model.corruption')
    return Stack(blocks(config), corrupt, config.model.rho, axis)


def blocks(config: ConfigDict) -> dict[str, Block]:
    """Makes block_1, block_2, ... from the data up. Together they have the layers of a single block."""
    model = config.model
    choices.bind(NETWORKS, model.networks, 'config.model.networks')  # a check, before an option is read
    features = tuple(model.networks.features)
    widths = [(width,) for width in features] if model.greedy else [features]
    shapes = [example_shape(config), *widths]
    return {
        f'block_{number + 1}': _block(model, number, shapes[number], features, number == len(widths) - 1)
        for number, features in enumerate(widths)
    }


def trained(config: ConfigDict, stack: Stack) -> dict[str, tuple[str, ...]]:
    """Returns player -> the blocks that it trains. With `greedy`, each block has a player of its own name, too."""
    return {'autoencoder': stack.names, **({name: (name,) for name in stack.names} if config.model.greedy else {})}


def active(config: ConfigDict, stack: Stack) -> tuple[str, ...]:
    """Returns the blocks up to the highest that the current phase trains, or all if it trains none."""
    turns = trained(config, stack)
    chosen = {name for player in order(config) for name in turns.get(player, ())}
    return stack.names[: max((stack.names.index(name) + 1 for name in chosen), default=len(stack.names))]


def _block(model: ConfigDict, number: int, shape: tuple[int, ...], features: tuple[int, ...], last: bool) -> Block:
    """Makes the block at position `number` of the stack, for inputs [B, *shape]."""
    code = model.code if last else model.activation
    output = model.activation if number else model.output
    gain = choose(GAINS, model.activation, 'config.model.activation')
    fields: Fields = {
        'activation': ACTIVATIONS[model.activation],
        'dtype': jnp.dtype(model.dtype),
        'code': choose(ACTIVATIONS, code, 'config.model.code'),
        'output': choose(ACTIVATIONS if number else OUTPUTS, output, 'config.model.output'),
        'kernel_init': nn.initializers.variance_scaling(gain**2, 'fan_in', 'truncated_normal'),
    }
    chosen = model.networks
    if number and chosen.name != 'dense':  # blocks above the first encode codes, which have no pixels
        chosen = named('dense', features=features)
    module = choices.bind(NETWORKS, chosen, 'config.model.networks')(shape, fields, features=features)
    return Block(module, (0.0, 1.0) if number or model.dimensions else (-1.0, 1.0), code, output)


def _dense(
    shape: tuple[int, ...], fields: Fields, *, features: tuple[int, ...], tied: bool = False, use_bias: bool = True
) -> nn.Module:
    return DenseAutoencoder(shape, features, tied=tied, use_bias=use_bias, **fields)


def _convolutional(
    shape: tuple[int, ...], fields: Fields, *, features: tuple[int, ...], width: int, halvings: int = 2
) -> nn.Module:
    return ConvolutionalAutoencoder(shape, features, width, halvings, **fields)


# Name -> the network of a block of this shape and fields; the keyword arguments are the options.
NETWORKS: dict[str, Callable[..., nn.Module]] = {'dense': _dense, 'convolutional': _convolutional}
