"""Deterministic autoencoders: linear, deep, tied, greedy, convolutional, denoising and sparse ones are configs of this file.

The model is a stack of blocks, the networks block_1, block_2, ... from the data up, each an autoencoder of the codes of the
one below; one block unless `config.model.greedy`. Player autoencoder trains them all; where there are several, player
block_1 ... trains its own alone, on the clean codes of those below, which are frozen (Vincent et al. 2010, section 3.4).
Phases change the turns. The abilities see the stack as far up as the phase at hand trains it.

Terms of every player. Of its reconstruction, its input taken to [0, 1] (points as they are): squared_error, absolute_error,
cross_entropy (a sigmoid's), nested (the squared error under nested dropout). Of its decoder: isometry. Of its code: sparsity
(a sigmoid's), l1."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.data import corruption
from genlab.errors import ConfigError
from genlab.experiment import Experiment, compose
from genlab.losses import reconstruction, sparsity
from genlab.losses.isometry import isometry
from genlab.networks.autoencoders.deterministic import ConvolutionalAutoencoder, DenseAutoencoder, truncate
from genlab.networks.layers.mlp import identity
from genlab.training.state import Network

ACTIVATIONS = {'linear': identity, 'sigmoid': nn.sigmoid, 'tanh': jnp.tanh, 'relu': nn.relu, 'cos': jnp.cos}
GAINS = {'linear': 1.0, 'sigmoid': 4.0, 'tanh': 1.0, 'relu': math.sqrt(2), 'cos': 1.0}  # keep a signal's size
OUTPUTS = {'linear': identity, 'sigmoid': lambda logits: jnp.tanh(logits / 2)}  # of images: 2 s(l) - 1, in [-1, 1]
NETWORKS = {'dense': DenseAutoencoder, 'convolutional': ConvolutionalAutoencoder}


class Block(NamedTuple):
    module: nn.Module
    bounds: tuple[float, float]  # between which its input lies; (0, 1), which changes nothing, for points
    code: str  # the functions of its last layers
    output: str


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """`config.model`: networks ('dense', or 'convolutional' with its width and halvings), dimensions of points (0: images),
    features (widths down to the code), greedy (a block a layer), tied, bias, the functions activation, code and output,
    corruption and its amount, rho (the mean activation that sparsity aims at)."""
    model, blocks = config.model, stack(config)
    names = tuple(blocks)
    corrupt = _choose('corruption', model.corruption, corruption.KINDS)

    def encode(variables, x, through):
        for name in through:
            x = blocks[name].module.apply(variables[name], x, method='encode')
        return x

    def decode(variables, codes, through):
        for name in through[::-1]:
            codes = blocks[name].module.apply(variables[name], codes, method='decode')
        return codes

    def spoil(x, keys, block):
        """What a block sees of its input when it learns."""
        return jax.vmap(lambda x, key: corrupt(x, key, model.amount, *block.bounds))(x, keys)

    def objective(through):
        """The menu of the player who trains the blocks `through` together."""
        lowest, highest, below = blocks[through[0]], blocks[through[-1]], names[: names.index(through[0])]

        def learn(variables, batch, keys, step):
            clean = encode(variables, batch['x'], below)
            codes = encode(variables, spoil(clean, keys, lowest), through)
            target = unit(clean, lowest)

            def output(codes):
                return unit(decode(variables, codes, through), lowest)

            def ordered():
                return output(truncate(codes, jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)))

            def stretch():
                ahead = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 2), codes.shape[1:]))(keys)
                return isometry(output, codes, ahead / jnp.linalg.norm(ahead, axis=1, keepdims=True))

            def logits():
                above = decode(variables, codes, through[1:])
                return lowest.module.apply(variables[through[0]], above, method='logits')

            def mean_activation():
                return codes.mean(0) if axis is None else jax.lax.pmean(codes.mean(0), axis)  # of the whole batch

            terms = {
                'squared_error': lambda: reconstruction.squared_error(output(codes), target),
                'absolute_error': lambda: reconstruction.absolute_error(output(codes), target),
                'nested': lambda: reconstruction.squared_error(ordered(), target),
                'isometry': stretch,
                'l1': lambda: sparsity.l1(codes),
            }
            if lowest.output == 'sigmoid':
                terms['cross_entropy'] = lambda: reconstruction.cross_entropy(logits(), target)
            if highest.code == 'sigmoid':
                terms['sparsity'] = lambda: sparsity.divergence(mean_activation(), rho=model.rho)
            return terms, {}

        return learn

    players = {'autoencoder': names, **({name: (name,) for name in names} if model.greedy else {})}
    trained = {name for player in config.train.order for name in players.get(player, ())}
    seen = names[: max((names.index(name) + 1 for name in trained), default=len(names))]

    def measure(variables, batch, keys):
        codes = encode(variables, batch['x'], seen)
        output, target = (unit(x, blocks[names[0]]) for x in (decode(variables, codes, seen), batch['x']))
        return {'squared_error': reconstruction.squared_error(output, target), 'activation': jnp.abs(codes).mean(1)}

    def reconstruct(variables, batch, keys):
        spoiled = spoil(batch['x'], keys, blocks[names[0]])
        return {'input': spoiled, 'output': decode(variables, encode(variables, spoiled, seen), seen)}

    def start(batch):
        inputs, networks = batch['x'], {}
        for name, block in blocks.items():
            networks[name] = Network(block.module, (inputs, False))
            inputs = jnp.zeros((inputs.shape[0], block.module.features[-1]))
        return networks

    return compose(
        config,
        axis,
        start,
        {player: (through, objective(through)) for player, through in players.items()},
        measure=measure,
        reconstruct=reconstruct,
        encode=lambda variables, batch: encode(variables, batch['x'], seen),
        decode=lambda variables, codes: decode(variables, codes, seen),
    )


def unit(x: jax.Array, block: Block) -> jax.Array:
    """A block's input or output, taken to [0, 1]."""
    low, high = block.bounds
    return (x - low) / (high - low)


def stack(config: ConfigDict) -> dict[str, Block]:
    """block_1, ... from the data up: together they have the layers that the one block would have."""
    model, data = config.model, config.data
    shape = (model.dimensions,) if model.dimensions else (data.resolution, data.resolution, data.channels)
    widths = [(width,) for width in model.features] if model.greedy else [tuple(model.features)]
    shapes = [shape, *widths]
    return {
        f'block_{number + 1}': _block(model, number, shapes[number], features, number == len(widths) - 1)
        for number, features in enumerate(widths)
    }


def _block(model: ConfigDict, number: int, shape: tuple[int, ...], features: tuple[int, ...], last: bool) -> Block:
    """The block `number` steps from the data, of inputs [B, *shape]."""
    code, output = model.code if last else model.activation, model.activation if number else model.output
    gain = _choose('activation', model.activation, GAINS)
    settings = {
        'activation': ACTIVATIONS[model.activation],
        'dtype': jnp.dtype(model.dtype),
        'code': _choose('code', code, ACTIVATIONS),
        'output': _choose('output', output, ACTIVATIONS if number else OUTPUTS),
        'kernel_init': nn.initializers.variance_scaling(gain**2, 'fan_in', 'truncated_normal'),
    }
    if number or _choose('networks', model.networks, NETWORKS) is DenseAutoencoder:
        module: nn.Module = DenseAutoencoder(shape, features, tied=model.tied, use_bias=model.bias, **settings)
    else:
        module = ConvolutionalAutoencoder(shape, features, model.width, model.halvings, **settings)
    return Block(module, (0.0, 1.0) if number or model.dimensions else (-1.0, 1.0), code, output)


def _choose(key: str, name: str, known: dict):
    if name not in known:
        raise ConfigError(f'config.model.{key}={name!r}: choose one of {", ".join(known)}')
    return known[name]
