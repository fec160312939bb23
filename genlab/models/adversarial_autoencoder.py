"""Autoencoders with a discriminator, of codes (Makhzani et al. 2016) or of images (VAE-GAN, Larsen et al. 2016).

The encoder is Gaussian: z = mean + deviation * noise.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.abilities import Batch, Variables
from genlab.conditioning import Condition
from genlab.losses import divergences, likelihoods, reconstruction
from genlab.losses.adversarial import Pair
from genlab.noise import normal
from genlab.training.state import Network


class AdversarialAutoencoder(NamedTuple):
    """An encoder to (mean, log-variance), a decoder to logits of pixels, and a discriminator of codes or of images."""

    encoder: nn.Module
    decoder: nn.Module
    discriminator: nn.Module
    pair: Pair
    latent_size: int
    of_images: bool  # what the discriminator sees; else codes


class Round(NamedTuple):
    """What all players of one turn compute."""

    mean: jax.Array  # [B, D]
    log_variance: jax.Array  # [B, D]
    z: jax.Array  # [B, D], a draw from the posterior
    real: jax.Array  # what the discriminator sees as real
    fakes: tuple[jax.Array, ...]  # and as fake


def networks(model: AdversarialAutoencoder, batch: Batch) -> dict[str, Network]:
    x, z = batch['x'], jnp.zeros((batch['x'].shape[0], model.latent_size))
    return {
        'encoder': Network(model.encoder, (x, unconditional(x), False)),
        'decoder': Network(model.decoder, (z, unconditional(z), False)),
        'discriminator': Network(model.discriminator, (x if model.of_images else z, False)),
    }


def unconditional(x: jax.Array) -> jax.Array:
    return jnp.zeros((x.shape[0], 0))


def infer(model: AdversarialAutoencoder, variables: Variables, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Runs the encoder: mean and log-variance."""
    return model.encoder.apply(variables['encoder'], x, unconditional(x), True)


def logits(model: AdversarialAutoencoder, variables: Variables, z: jax.Array) -> jax.Array:
    """Runs the decoder: logits of pixels [B, H, W, C]."""
    return model.decoder.apply(variables['decoder'], z, unconditional(z), True)[0]


def decode(model: AdversarialAutoencoder, variables: Variables, z: jax.Array) -> jax.Array:
    """Decodes to the expected image in [-1, 1]."""
    return jnp.tanh(logits(model, variables, z) / 2)


def prior(model: AdversarialAutoencoder, variables: Variables, keys: jax.Array) -> jax.Array:
    return normal(keys, (model.latent_size,), 'latent')


def sample(model: AdversarialAutoencoder, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    return decode(model, variables, prior(model, variables, keys))


def encode(model: AdversarialAutoencoder, variables: Variables, batch: Batch) -> jax.Array:
    return infer(model, variables, batch['x'])[0]


def discriminate(model: AdversarialAutoencoder, variables: Variables, inputs: jax.Array):
    """Returns (logits [B], features of the last convolution, or None for a discriminator of codes)."""
    outputs = model.discriminator.apply(variables['discriminator'], inputs, True)
    return outputs if model.of_images else (outputs[:, 0], None)


def play(model: AdversarialAutoencoder, variables: Variables, batch: Batch, keys: jax.Array) -> Round:
    """Encodes a batch, and makes what the discriminator sees. It is the same for players on the same turn."""
    x = batch['x']
    mean, log_variance = infer(model, variables, x)
    drawn = prior(model, variables, keys)
    z = mean + jnp.exp(log_variance / 2) * normal(keys, (model.latent_size,), 'inner')
    if model.of_images:
        return Round(mean, log_variance, z, x, (decode(model, variables, z), decode(model, variables, drawn)))
    return Round(mean, log_variance, z, drawn, (z,))


def autoencoder_terms(model: AdversarialAutoencoder, variables: Variables, batch: Batch, keys: jax.Array, step):
    """Terms of the encoder and of the decoder.

    reconstruction: cross-entropy of pixels, nats. kl: nats. adversarial: fakes should look real. Of images also
    feature_reconstruction: the distance in the last features of the discriminator, in place of pixels.
    """
    mean, log_variance, z, real, fakes = play(model, variables, batch, keys)

    def adversarial() -> jax.Array:
        real_logits = discriminate(model, variables, real)[0]
        losses = [model.pair.generator(discriminate(model, variables, fake)[0], real_logits) for fake in fakes]
        return sum(losses) / len(fakes)

    def feature_reconstruction() -> jax.Array:
        target, output = (discriminate(model, variables, x)[1] for x in (real, fakes[0]))
        return likelihoods.gaussian(target, output, jnp.zeros((1,) * output.ndim))

    terms = {
        'reconstruction': lambda: likelihoods.bernoulli(batch['x'], logits(model, variables, z)),
        'kl': divergences.standard_kl(mean, log_variance).sum(1),
        'adversarial': adversarial,
    }
    return {**terms, 'feature_reconstruction': feature_reconstruction} if model.of_images else terms, {}


def discriminator_terms(model: AdversarialAutoencoder, variables: Variables, batch: Batch, keys: jax.Array, step):
    """Terms of the discriminator: adversarial, and logit_gap = D(real) - D(fake), a diagnostic."""
    *_, real, fakes = play(model, variables, batch, keys)
    real_logits = discriminate(model, variables, real)[0]
    fake_logits = [discriminate(model, variables, fake)[0] for fake in fakes]
    losses = [model.pair.discriminator(real_logits, logits) for logits in fake_logits]
    return {
        'adversarial': sum(losses) / len(fakes),
        'logit_gap': real_logits - sum(fake_logits) / len(fakes),
    }, {}


def reconstruct(model: AdversarialAutoencoder, variables: Variables, batch: Batch, keys: jax.Array):
    return {'input': batch['x'], 'output': decode(model, variables, encode(model, variables, batch))}


def measure(model: AdversarialAutoencoder, variables: Variables, batch: Batch, keys: jax.Array):
    """Measures squared_error, and kl in nats."""
    mean, log_variance = infer(model, variables, batch['x'])
    error = reconstruction.squared_error(decode(model, variables, mean), batch['x']) / 4  # of images in [0, 1]
    return {'squared_error': error, 'kl': divergences.standard_kl(mean, log_variance).sum(1)}
