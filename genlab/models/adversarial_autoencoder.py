"""Autoencoders with a discriminator of codes (Makhzani et al. 2016) or of images (VAE-GAN, Larsen et al. 2016).

The encoder is Gaussian: z = mean + deviation * noise.

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
from genlab.losses import divergences, likelihoods, reconstruction
from genlab.losses.adversarial import Pair
from genlab.noise import normal
from genlab.training.state import Network


def settings(networks: ConfigDict, discriminator: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of an adversarial autoencoder of images, with changes."""
    return choices.filled(
        'config.model',
        dict(
            networks=networks,  # named: dense or convolutional, of encoder and decoder
            discriminator=discriminator,  # named: of codes, real if drawn from N(0, 1); of images, fake if decoded
            latent_size=8,
            pair='non_saturating',  # losses of both sides: genlab.losses.adversarial
        ),
        changes,
    )


class AdversarialAutoencoder(NamedTuple):
    """Holds an encoder to (mean, log-variance), a decoder to pixel logits, and a discriminator of codes or images."""

    encoder: nn.Module
    decoder: nn.Module
    discriminator: nn.Module
    pair: Pair
    latent_size: int
    of_images: bool  # whether the discriminator sees images; else codes


class Round(NamedTuple):
    """Holds the values that all players compute on one turn."""

    mean: jax.Array  # [B, D]
    log_variance: jax.Array  # [B, D]
    z: jax.Array  # [B, D], a draw from the posterior
    real: jax.Array  # real inputs of the discriminator, [B, ...]
    fakes: tuple[jax.Array, ...]  # fake inputs of the discriminator, [B, ...] each


def networks(model: AdversarialAutoencoder, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    x, z = batch['x'], jnp.zeros((batch['x'].shape[0], model.latent_size))
    return {
        'encoder': Network(model.encoder, (x, unconditional(x), False)),
        'decoder': Network(model.decoder, (z, unconditional(z), False)),
        'discriminator': Network(model.discriminator, (x if model.of_images else z, False)),
    }


def unconditional(x: jax.Array) -> jax.Array:
    """Returns the empty condition [B, 0] that the networks take."""
    return jnp.zeros((x.shape[0], 0))


def infer(model: AdversarialAutoencoder, variables: Variables, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Encodes images x [B, H, W, C] as mean and log-variance, [B, latent_size] each."""
    outputs = model.encoder.apply(variables['encoder'], x, unconditional(x), True)
    return cast(tuple[jax.Array, jax.Array], outputs)


def logits(model: AdversarialAutoencoder, variables: Variables, z: jax.Array) -> jax.Array:
    """Decodes latents z [B, latent_size] to pixel logits [B, H, W, C]."""
    outputs = model.decoder.apply(variables['decoder'], z, unconditional(z), True)
    return cast(tuple[jax.Array, jax.Array], outputs)[0]


def decode(model: AdversarialAutoencoder, variables: Variables, z: jax.Array) -> jax.Array:
    """Decodes latents z [B, latent_size] to expected images [B, H, W, C] in [-1, 1]."""
    return jnp.tanh(logits(model, variables, z) / 2)


def prior(model: AdversarialAutoencoder, variables: Variables, keys: jax.Array) -> jax.Array:
    """Draws latents [N, latent_size]."""
    return normal(keys, (model.latent_size,), 'latent')


def sample(model: AdversarialAutoencoder, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Samples one image per key."""
    return decode(model, variables, prior(model, variables, keys))


def encode(model: AdversarialAutoencoder, variables: Variables, batch: Batch) -> jax.Array:
    """Encodes to posterior means [B, latent_size]."""
    return infer(model, variables, batch['x'])[0]


def discriminate(
    model: AdversarialAutoencoder, variables: Variables, inputs: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """Runs the discriminator on images [B, H, W, C] or codes [B, latent_size].

    Returns:
        Logits [B], and the features [B, h, w, D] of the last convolution, or None for a discriminator of codes.
    """
    outputs = model.discriminator.apply(variables['discriminator'], inputs, True)
    if model.of_images:
        return cast(tuple[jax.Array, jax.Array], outputs)
    return cast(jax.Array, outputs)[:, 0], None


def play(model: AdversarialAutoencoder, variables: Variables, batch: Batch, keys: jax.Array) -> Round:
    """Encodes a batch and makes the inputs of the discriminator. Players on the same turn get equal results."""
    x = batch['x']
    mean, log_variance = infer(model, variables, x)
    drawn = prior(model, variables, keys)
    z = mean + jnp.exp(log_variance / 2) * normal(keys, (model.latent_size,), 'inner')
    if model.of_images:
        return Round(mean, log_variance, z, x, (decode(model, variables, z), decode(model, variables, drawn)))
    return Round(mean, log_variance, z, drawn, (z,))


def autoencoder_terms(model: AdversarialAutoencoder, variables: Variables, batch: Batch, keys: jax.Array, step):
    """Offers the terms of encoder and decoder.

    reconstruction: cross-entropy of the pixels, nats.
    kl: KL divergence of the posterior from N(0, 1), nats.
    adversarial: the generator's loss on the fakes.
    feature_reconstruction: minus the log-likelihood of unit variance for the discriminator's last features, nats. It
        replaces the reconstruction of pixels, and exists only for a discriminator of images.
    """
    mean, log_variance, z, real, fakes = play(model, variables, batch, keys)

    def adversarial() -> jax.Array:
        real_logits = discriminate(model, variables, real)[0]
        losses = [model.pair.generator(discriminate(model, variables, fake)[0], real_logits) for fake in fakes]
        return jnp.asarray(sum(losses) / len(fakes))

    def feature_reconstruction() -> jax.Array:
        target, output = (discriminate(model, variables, x)[1] for x in (real, fakes[0]))
        assert target is not None and output is not None  # a discriminator of images returns features
        return likelihoods.gaussian(target, output, jnp.zeros((1,) * output.ndim))

    terms = {
        'reconstruction': lambda: likelihoods.bernoulli(batch['x'], logits(model, variables, z)),
        'kl': divergences.standard_kl(mean, log_variance).sum(1),
        'adversarial': adversarial,
    }
    return {**terms, 'feature_reconstruction': feature_reconstruction} if model.of_images else terms, {}


def discriminator_terms(model: AdversarialAutoencoder, variables: Variables, batch: Batch, keys: jax.Array, step):
    """Offers the discriminator's terms: adversarial, and the diagnostic logit_gap = D(real) - D(fake)."""
    *_, real, fakes = play(model, variables, batch, keys)
    real_logits = discriminate(model, variables, real)[0]
    fake_logits = [discriminate(model, variables, fake)[0] for fake in fakes]
    losses = [model.pair.discriminator(real_logits, logits) for logits in fake_logits]
    return {
        'adversarial': sum(losses) / len(fakes),
        'logit_gap': real_logits - sum(fake_logits) / len(fakes),
    }, {}


def reconstruct(model: AdversarialAutoencoder, variables: Variables, batch: Batch, keys: jax.Array):
    """Reconstructs images from their posterior means."""
    return {'input': batch['x'], 'output': decode(model, variables, encode(model, variables, batch))}


def measure(model: AdversarialAutoencoder, variables: Variables, batch: Batch, keys: jax.Array):
    """Measures squared_error of images in [0, 1], and kl in nats."""
    mean, log_variance = infer(model, variables, batch['x'])
    error = reconstruction.squared_error(decode(model, variables, mean), batch['x']) / 4  # rescaled to images in [0, 1]
    return {'squared_error': error, 'kl': divergences.standard_kl(mean, log_variance).sum(1)}
