"""Autoencoders with a discriminator of codes or of images: three players, one per network.

The encoder and the decoder have the same terms; see `genlab.models.adversarial_autoencoder`.
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Codec, Sampler
from genlab.errors import choose
from genlab.experiment import Experiment, Role, compose
from genlab.losses.adversarial import PAIRS
from genlab.models import adversarial_autoencoder as models
from genlab.models import variational
from genlab.networks.adversarial.convolutional import ConvolutionalDiscriminator
from genlab.networks.layers.mlp import MLP


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.adversarial_autoencoder.settings`."""
    pair = choose(PAIRS, config.model.pair, 'config.model.pair')
    of_images = config.model.discriminator.name == 'images'
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
    autoencoder = choices.bind(AUTOENCODERS, config.model.networks, 'config.model.networks')(config, scale=1.0)
    discriminator = choices.bind(DISCRIMINATORS, config.model.discriminator, 'config.model.discriminator')(config)
    return *autoencoder, discriminator


def _of_codes(config: ConfigDict, *, features: tuple[int, ...]) -> nn.Module:
    return MLP((*features, 1), nn.relu, dtype=jnp.dtype(config.model.dtype))


def _of_images(config: ConfigDict, *, width: int) -> nn.Module:
    return ConvolutionalDiscriminator(width, dtype=jnp.dtype(config.model.dtype))


AUTOENCODERS = {name: variational.NETWORKS[name] for name in ('dense', 'convolutional')}
DISCRIMINATORS: dict[str, Callable[..., nn.Module]] = {'codes': _of_codes, 'images': _of_images}
