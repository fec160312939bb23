"""Generative adversarial networks: two players, with any pair of losses and any penalties, for images or points.

Terms of `discriminator`: adversarial, r1, r2, gradient_penalty, drift, logit_gap (a diagnostic: weight 0).
Terms of `generator`: adversarial.
"""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.abilities import Codec, Sampler
from genlab.errors import choose
from genlab.experiment import Experiment, Role, compose
from genlab.losses.adversarial import PAIRS
from genlab.models import adversarial
from genlab.networks.adversarial import dcgan
from genlab.networks.layers.mlp import MLP


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`.

    networks: 'dcgan' or 'dense', with their sizes.
    latent_size: size of the latents z ~ N(0, 1).
    pair: name of the pair of adversarial losses.
    """
    pair = choose(PAIRS, config.model.pair, 'config.model.pair')
    model = adversarial.GAN(*networks(config, axis), pair, config.model.latent_size)
    roles = {
        'discriminator': Role(('discriminator',), partial(adversarial.discriminator_terms, model), ('discriminator',)),
        'generator': Role(('generator',), partial(adversarial.generator_terms, model), ('generator',)),
    }
    return compose(
        config,
        axis,
        partial(adversarial.networks, model),
        roles,
        sampler=Sampler(partial(adversarial.sample, model)),
        codec=Codec(partial(adversarial.decode, model), prior=partial(adversarial.prior, model)),
    )


def networks(config: ConfigDict, axis: str | None) -> tuple[nn.Module, nn.Module]:
    """Returns (generator, discriminator)."""
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    return choose({'dcgan': _dcgan, 'dense': _dense}, model.networks, 'config.model.networks')(config, axis, dtype)


def _dcgan(config: ConfigDict, axis: str | None, dtype: jnp.dtype) -> tuple[nn.Module, nn.Module]:
    model = config.model
    shared = {'resolution': config.data.resolution, 'width': model.width, 'axis': axis, 'dtype': dtype}
    generator = dcgan.Generator(channels=config.data.channels, latent_size=model.latent_size, **shared)
    return generator, dcgan.Discriminator(**shared)


def _dense(config: ConfigDict, axis: str | None, dtype: jnp.dtype) -> tuple[nn.Module, nn.Module]:
    model = config.model
    return MLP((*model.features, model.dimensions), dtype=dtype), MLP((*model.features, 1), dtype=dtype)
