"""VQGAN (Esser et al. 2021): a quantised autoencoder against a discriminator of patches.

The autoencoder comes from `genlab.models.quantized`. Its reconstruction may also be measured in the feature maps of a
frozen network.

For the arguments that all families share, see `genlab.models`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.config import weights
from genlab.errors import ConfigError, choose
from genlab.losses.adversarial import PAIRS, Pair, adaptive_weight
from genlab.losses.perceptual import feature_distance
from genlab.models import patches, quantized
from genlab.models.quantized import VQVAE
from genlab.training.players import Schedule
from genlab.training.state import Network

ERRORS = ('reconstruction', 'absolute_error', 'perceptual')  # terms that the adversarial one is balanced with


def settings(
    networks: ConfigDict, quantizer: ConfigDict, discriminator: ConfigDict, perceptual: ConfigDict, pair: str
) -> dict[str, Any]:
    """Returns `config.model` of a VQGAN."""
    return dict(
        **quantized.settings(networks, quantizer),
        discriminator=discriminator,  # named: patch, see genlab.models.patches
        perceptual=perceptual,  # named: none, random, or classifier, whose feature maps the term `perceptual` compares
        pair=pair,  # losses of both players: genlab.losses.adversarial
    )


class VQGAN(NamedTuple):
    """Holds a quantised autoencoder, its discriminator, and the network of the perceptual distance."""

    vqvae: VQVAE
    discriminator: nn.Module  # images -> logits of patches [B, h, w]
    pair: Pair
    errors: Mapping[str, Schedule]  # weights of the terms in ERRORS
    perceptual: nn.Module | None = None  # frozen; sows feature maps [B, h, w, D] of images into `intermediates`
    axis: str | None = None


def networks(model: VQGAN, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    found = quantized.networks(model.vqvae, batch)
    found['discriminator'] = Network(model.discriminator, (batch['x'], False))
    if model.perceptual is not None:
        found['perceptual'] = Network(model.perceptual, (batch['x'],))
    return found


def maps(model: VQGAN, variables: Variables, x: jax.Array) -> list[jax.Array]:
    """Returns the feature maps of images x [B, H, W, C] in the frozen network, [B, h, w, D] each."""
    assert model.perceptual is not None
    _, sown = model.perceptual.apply(variables['perceptual'], x, mutable=['intermediates'])
    return jax.tree.leaves(sown)


def error_terms(model: VQGAN, variables: Variables, x: jax.Array, output: jax.Array) -> dict[str, Any]:
    """Returns those of `quantized.error_terms`, and the distance of feature maps, [B] or a function of it."""
    found: dict[str, Any] = quantized.error_terms(output, x, model.vqvae.variance)
    if model.perceptual is not None:
        found['perceptual'] = lambda: feature_distance(maps(model, variables, output), maps(model, variables, x))
    return found


def generator_loss(model: VQGAN, variables: Variables, x: jax.Array, output: jax.Array) -> jax.Array:
    """Computes the adversarial loss of reconstructions [B, H, W, C], [B]."""
    real, _ = patches.judge(model.discriminator, variables['discriminator'], x)
    fake, _ = patches.judge(model.discriminator, variables['discriminator'], output)
    return patches.per_example(model.pair.generator, fake, real)


def autoencoder_terms(model: VQGAN, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of the player that trains the autoencoder.

    The terms of `error_terms` and of `quantized.quantization_terms` are offered too.

    adversarial: the generator's loss times the adaptive weight.
    adaptive_weight: the ratio of the gradients of the weighted errors and of the generator's loss at the kernel of the
        decoder's last layer (equation 7); a diagnostic of weight 0.
    """
    x = batch['x']
    z, codes, stats = quantized.infer(model.vqvae, variables, batch)
    output, pull = decode(model, variables, codes.codes)

    @functools.cache
    def balance() -> jax.Array:
        fixed = jax.lax.stop_gradient(output)
        slopes = (
            jax.grad(lambda output: _weighted_errors(model, variables, x, output, step))(fixed),
            jax.grad(lambda output: generator_loss(model, variables, x, output).mean())(fixed),
        )
        gradients = jax.lax.stop_gradient([pull(slope)[0] for slope in slopes])
        if model.axis is not None:
            gradients = jax.lax.pmean(gradients, model.axis)
        return adaptive_weight(*gradients)

    offered = {
        **error_terms(model, variables, x, output),
        **quantized.quantization_terms(model.vqvae.quantizer, z, codes),
        'adversarial': lambda: balance() * generator_loss(model, variables, x, output),
        'adaptive_weight': balance,
    }
    return offered, {'quantizer': stats}


def decode(model: VQGAN, variables: Variables, codes: jax.Array) -> tuple[jax.Array, Callable]:
    """Decodes a grid [B, h, w, D] in training mode.

    Returns:
        Images [B, H, W, C], and the function from gradients at the images to those at the kernel of the last layer.
    """
    params = variables['decoder']['params']
    name = last_layer(params)

    def run(kernel: jax.Array) -> jax.Array:
        replaced = {**params, name: {**params[name], 'kernel': kernel}}
        return cast(
            jax.Array, model.vqvae.decoder.apply({**variables['decoder'], 'params': replaced}, codes, train=True)
        )

    return jax.vjp(run, params[name]['kernel'])


def last_layer(params: Mapping[str, Any]) -> str:
    """Returns the name of the last layer of a decoder: 'output', or 'up_0' of the residual one."""
    return 'output' if 'output' in params else 'up_0'


def _weighted_errors(model: VQGAN, variables: Variables, x: jax.Array, output: jax.Array, step: jax.Array) -> jax.Array:
    """Returns the sum of the terms in ERRORS with their weights, a scalar."""
    found = error_terms(model, variables, x, output)
    total = jnp.zeros(())
    for name, weight in model.errors.items():
        value = found[name]() if callable(found[name]) else found[name]
        total += (weight(step) if callable(weight) else weight) * value.mean()
    return total


def discriminator_terms(model: VQGAN, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the discriminator's terms: adversarial, and the diagnostic logit_gap = D(real) - D(fake)."""
    _, codes, _ = quantized.infer(model.vqvae, variables, batch)
    fakes = jax.lax.stop_gradient(decode(model, variables, codes.codes)[0])
    real, fake, stats = patches.compare(model.discriminator, variables['discriminator'], batch['x'], fakes)
    return {
        'adversarial': patches.per_example(model.pair.discriminator, real, fake),
        'logit_gap': (real - fake).mean((1, 2)),
    }, {'discriminator': stats}


def measure(model: VQGAN, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures those of `quantized.measure`, and the perceptual distance if there is one."""
    found = quantized.measure(model.vqvae, variables, batch, keys)
    if model.perceptual is not None:
        output = quantized.reconstruct(model.vqvae, variables, batch, keys)['output']
        found['perceptual'] = feature_distance(maps(model, variables, output), maps(model, variables, batch['x']))
    return found


def from_config(config: ConfigDict, axis: str | None, perceptual: nn.Module | None) -> VQGAN:
    """Makes the VQGAN of `config.model`, see `settings`.

    Args:
        config: config of the run.
        axis: the name of the device axis under pmap; None under jit.
        perceptual: the network of the perceptual distance, or None.

    Raises:
        ConfigError: the adversarial term has a weight, but none of the terms that it is balanced with.
    """
    make = choices.bind(patches.DISCRIMINATORS, config.model.discriminator, 'config.model.discriminator')
    pair = choose(PAIRS, config.model.pair, 'config.model.pair')
    weighted = weights(config, 'vae') if 'vae' in config.losses else {}
    errors = {name: weight for name, weight in weighted.items() if name in ERRORS and (callable(weight) or weight)}
    if not errors and 'adversarial' in weighted:
        raise ConfigError(
            f'config.losses.vae.adversarial is balanced with the errors of the reconstruction: give a weight to one of '
            f'{", ".join(ERRORS)}'
        )
    return VQGAN(quantized.from_config(config, axis), make(config, axis), pair, errors, perceptual, axis)
