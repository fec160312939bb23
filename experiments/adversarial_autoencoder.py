"""Autoencoders with a discriminator of codes or of images: three players, one per network.

The encoder and the decoder have the same terms; see `genlab.models.adversarial_autoencoder`.
"""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.abilities import Codec, Sampler
from genlab.data.source import example_shape
from genlab.errors import choose
from genlab.experiment import Experiment, Role, compose
from genlab.losses.adversarial import PAIRS
from genlab.models import adversarial_autoencoder as models
from genlab.networks.adversarial.convolutional import ConvolutionalDiscriminator
from genlab.networks.autoencoders import variational
from genlab.networks.layers.mlp import MLP


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`.

    networks: 'dense' or 'convolutional', with their sizes.
    latent_size: number of latents.
    pair: name of the pair of adversarial losses.
    judges: input of the discriminator. 'codes' are real if drawn from N(0, 1); 'images' are fake if decoded.
    """
    pair = choose(PAIRS, config.model.pair, 'config.model.pair')
    of_images = config.model.judges == 'images'
    model = models.AdversarialAutoencoder(*networks(config), pair, config.model.latent_size, of_images)
    autoencode = partial(models.autoencoder_terms, model)
    roles = {
        'encoder': Role(('encoder',), autoencode),
        'decoder': Role(('decoder',), autoencode),
        'discriminator': Role(('discriminator',), partial(models.discriminator_terms, model)),
    }
    return compose(
        config,
        axis,
        partial(models.networks, model),
        roles,
        sampler=Sampler(partial(models.sample, model)),
        codec=Codec(
            partial(models.decode, model), encode=partial(models.encode, model), prior=partial(models.prior, model)
        ),
        measure=partial(models.measure, model),
        reconstruct=partial(models.reconstruct, model),
    )


def networks(config: ConfigDict) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Returns (encoder, decoder, discriminator)."""
    autoencoder = choose(AUTOENCODERS, config.model.networks, 'config.model.networks')(config)
    return *autoencoder, choose(DISCRIMINATORS, config.model.judges, 'config.model.judges')(config)


def _dense(config: ConfigDict) -> tuple[nn.Module, nn.Module]:
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    encoder = variational.DenseEncoder(model.features, model.latent_size, dtype=dtype)
    return encoder, variational.DenseDecoder(model.features[::-1], example_shape(config), scale=1.0, dtype=dtype)


def _convolutional(config: ConfigDict) -> tuple[nn.Module, nn.Module]:
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    encoder = variational.ConvolutionalEncoder(model.width, model.latent_size, dtype=dtype)
    return encoder, variational.ConvolutionalDecoder(model.width, example_shape(config), scale=1.0, dtype=dtype)


def _of_codes(config: ConfigDict) -> nn.Module:
    return MLP((*config.model.critic.features, 1), nn.relu, dtype=jnp.dtype(config.model.dtype))


def _of_images(config: ConfigDict) -> nn.Module:
    return ConvolutionalDiscriminator(config.model.critic.width, dtype=jnp.dtype(config.model.dtype))


AUTOENCODERS = {'dense': _dense, 'convolutional': _convolutional}
DISCRIMINATORS = {'codes': _of_codes, 'images': _of_images}
