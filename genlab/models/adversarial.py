"""Generative adversarial networks (Goodfellow et al. 2014): a generator and a discriminator, any pair of losses.

For the arguments that all families share, see `genlab.models`.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.conditioning import Condition
from genlab.losses import penalties
from genlab.losses.adversarial import Pair
from genlab.noise import normal, uniform
from genlab.training.state import Network


def settings(networks: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of a GAN of images, but for the changes."""
    return choices.filled(
        'config.model',
        dict(
            networks=networks,  # named: dcgan or dense, see experiments/gan.py
            latent_size=100,  # of z ~ N(0, 1)
            dimensions=0,  # of a point, for dense networks; 0 for images
            pair='non_saturating',  # losses of both players: genlab.losses.adversarial
        ),
        changes,
    )


class GAN(NamedTuple):
    """Holds a generator, a discriminator and their losses. Both networks are called with (input, train).

    The generator maps latents z ~ N(0, 1) [N, latent_size] to examples. The discriminator maps examples to logits.
    """

    generator: nn.Module
    discriminator: nn.Module
    pair: Pair  # losses of discriminator and generator
    latent_size: int


def networks(model: GAN, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    z = jnp.zeros((batch['x'].shape[0], model.latent_size))
    return {
        'generator': Network(model.generator, (z, False)),
        'discriminator': Network(model.discriminator, (batch['x'], False)),
    }


def prior(model: GAN, variables: Variables, keys: jax.Array) -> jax.Array:
    """Draws latents [N, latent_size]."""
    return normal(keys, (model.latent_size,), 'latent')


def decode(model: GAN, variables: Variables, z: jax.Array) -> jax.Array:
    """Generates examples from latents z [N, latent_size], normalised by running statistics."""
    return cast(jax.Array, model.generator.apply(variables['generator'], z, False))


def sample(model: GAN, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Samples one example per key."""
    return decode(model, variables, prior(model, variables, keys))


def generate(model: GAN, variables: Variables, keys: jax.Array) -> tuple[jax.Array, dict]:
    """Generates fakes with batch statistics. Returns (fakes [B, ...], new collections of the generator)."""
    z = prior(model, variables, keys)
    outputs = model.generator.apply(variables['generator'], z, True, mutable=['batch_stats'])
    return cast(tuple[jax.Array, dict], outputs)


def discriminate(model: GAN, variables: Variables, x: jax.Array) -> tuple[jax.Array, dict]:
    """Returns (logits [B], new collections of the discriminator) for examples x [B, ...].

    Call it once for real and once for fake examples, so that BatchNorm normalises them separately.
    """
    outputs = model.discriminator.apply(variables['discriminator'], x, True, mutable=['batch_stats'])
    logits, stats = cast(tuple[jax.Array, dict], outputs)
    return logits.reshape(x.shape[0]), stats


def discriminator_terms(model: GAN, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the discriminator's terms: adversarial, r1, r2, gradient_penalty, drift and logit_gap.

    logit_gap = D(real) - D(fake) is a diagnostic.
    """
    real, (fake, _) = batch['x'], generate(model, variables, keys)
    real_logits, stats = discriminate(model, variables, real)
    seen = {'discriminator': {**variables['discriminator'], **stats}}
    fake_logits, stats = discriminate(model, seen, fake)

    def logits(x: jax.Array) -> jax.Array:
        return discriminate(model, variables, x)[0]

    terms = {
        'adversarial': model.pair.discriminator(real_logits, fake_logits),
        'r1': lambda: penalties.r1(logits, real),
        'r2': lambda: penalties.r2(logits, fake),
        'gradient_penalty': lambda: penalties.gradient_penalty(logits, real, fake, uniform(keys, (), 'mixing')),
        'drift': penalties.drift(real_logits),
        'logit_gap': real_logits - fake_logits,
    }
    return terms, {'discriminator': stats}


def generator_terms(model: GAN, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the generator's only term: adversarial."""
    fake, stats = generate(model, variables, keys)
    fake_logits, _ = discriminate(model, variables, fake)
    real_logits, _ = discriminate(model, variables, batch['x'])
    return {'adversarial': model.pair.generator(fake_logits, real_logits)}, {'generator': stats}
