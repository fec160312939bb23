"""Autoencoders with a discriminator, of their codes (Makhzani et al. 2016) or of their images (VAE-GAN, Larsen et al. 2016).

Three players, each of the network that it is named after. The encoder and the decoder choose from one menu: reconstruction
(cross-entropy of the pixels, nats), kl (nats), adversarial (the fakes should look real), and with a discriminator of images
feature_reconstruction: the distance in its last features, in place of pixels. The discriminator has adversarial and, to be
watched, logit_gap. The encoder's codes are Gaussian, z = mean + deviation * noise."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.errors import ConfigError
from genlab.experiment import Experiment, compose
from genlab.losses import adversarial, divergences, likelihoods, reconstruction
from genlab.networks.adversarial.convolutional import ConvolutionalDiscriminator
from genlab.networks.autoencoders import variational
from genlab.networks.layers.mlp import MLP
from genlab.training.state import Network


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """`config.model`: networks ('dense' or 'convolutional') and their sizes, latent_size, the `pair` of adversarial losses, and
    what the discriminator `judges`: 'codes', real where drawn from N(0, 1), or 'images', fake where decoded from either."""
    model = config.model
    if model.pair not in adversarial.PAIRS:
        raise ConfigError(f'config.model.pair={model.pair!r}: choose one of {", ".join(adversarial.PAIRS)}')
    pair, of_images = adversarial.PAIRS[model.pair], model.judges == 'images'
    encoder, decoder, discriminator = networks(config)

    def prior(variables, keys):
        return jax.vmap(lambda key: jax.random.normal(key, (model.latent_size,)))(keys)

    def unconditioned(x):
        return jnp.zeros((x.shape[0], 0))

    def infer(variables, x):
        return encoder.apply(variables['encoder'], x, unconditioned(x), True)

    def logits_of(variables, z):
        """The logits [B, H, W, C] of pixels."""
        return decoder.apply(variables['decoder'], z, unconditioned(z), True)[0]

    def decode(variables, z):
        return jnp.tanh(logits_of(variables, z) / 2)

    def judge(variables, inputs):
        """Logits [B], and features where it judges images."""
        outputs = discriminator.apply(variables['discriminator'], inputs, True)
        return outputs if of_images else (outputs[:, 0], None)

    def play(variables, batch, keys):
        """mean, log-variance and sample of the codes, then what the discriminator is shown as real and as fakes."""
        x, (mean, log_variance) = batch['x'], infer(variables, batch['x'])
        drawn = prior(variables, keys)
        inner = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        z = mean + jnp.exp(log_variance / 2) * prior(variables, inner)
        shown = (x, (decode(variables, z), decode(variables, drawn))) if of_images else (drawn, (z,))
        return mean, log_variance, z, *shown

    def autoencode(variables, batch, keys, step):
        mean, log_variance, z, real, fakes = play(variables, batch, keys)

        def deceive():
            real_logits = judge(variables, real)[0]
            return sum(pair.generator(judge(variables, fake)[0], real_logits) for fake in fakes) / len(fakes)

        def feature_reconstruction():
            target, made = judge(variables, real)[1], judge(variables, fakes[0])[1]
            return likelihoods.gaussian(target, made, jnp.zeros((1,) * made.ndim))

        terms = {
            'reconstruction': lambda: likelihoods.bernoulli(batch['x'], logits_of(variables, z)),
            'kl': divergences.standard_kl(mean, log_variance).sum(1),
            'adversarial': deceive,
        }
        return {**terms, 'feature_reconstruction': feature_reconstruction} if of_images else terms, {}

    def discriminate(variables, batch, keys, step):
        *_, real, fakes = play(variables, batch, keys)
        real_logits, fake_logits = judge(variables, real)[0], [judge(variables, fake)[0] for fake in fakes]
        return {
            'adversarial': sum(pair.discriminator(real_logits, logits) for logits in fake_logits) / len(fakes),
            'logit_gap': real_logits - sum(fake_logits) / len(fakes),
        }, {}

    def encode(variables, batch):
        return infer(variables, batch['x'])[0]

    def reconstruct(variables, batch, keys):
        return {'input': batch['x'], 'output': decode(variables, encode(variables, batch))}

    def measure(variables, batch, keys):
        mean, log_variance = infer(variables, batch['x'])
        error = reconstruction.squared_error(decode(variables, mean), batch['x']) / 4  # of images in [0, 1]
        return {'squared_error': error, 'kl': divergences.standard_kl(mean, log_variance).sum(1)}

    def start(batch):
        x, z = batch['x'], jnp.zeros((batch['x'].shape[0], model.latent_size))
        return {
            'encoder': Network(encoder, (x, unconditioned(x), False)),
            'decoder': Network(decoder, (z, unconditioned(z), False)),
            'discriminator': Network(discriminator, (x if of_images else z, False)),
        }

    return compose(
        config,
        axis,
        start,
        {
            'encoder': (('encoder',), autoencode),
            'decoder': (('decoder',), autoencode),
            'discriminator': (('discriminator',), discriminate),
        },
        sample=lambda variables, keys, condition: decode(variables, prior(variables, keys)),
        prior=prior,
        encode=encode,
        decode=decode,
        reconstruct=reconstruct,
        measure=measure,
    )


def networks(config: ConfigDict) -> tuple[nn.Module, nn.Module, nn.Module]:
    """(encoder, decoder, discriminator)."""
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    shape = (config.data.resolution, config.data.resolution, config.data.channels)
    if model.networks == 'dense':
        pair = (
            variational.DenseEncoder(model.features, model.latent_size, dtype=dtype),
            variational.DenseDecoder(model.features[::-1], shape, scale=1.0, dtype=dtype),
        )
    elif model.networks == 'convolutional':
        pair = (
            variational.ConvolutionalEncoder(model.width, model.latent_size, dtype=dtype),
            variational.ConvolutionalDecoder(model.width, shape, scale=1.0, dtype=dtype),
        )
    else:
        raise ConfigError(f'config.model.networks={model.networks!r}: choose dense or convolutional')
    if model.judges == 'images':
        return *pair, ConvolutionalDiscriminator(model.critic.width, dtype=dtype)
    if model.judges == 'codes':
        return *pair, MLP((*model.critic.features, 1), nn.relu, dtype=dtype)
    raise ConfigError(f'config.model.judges={model.judges!r}: choose codes or images')
