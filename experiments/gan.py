"""Generative adversarial networks: two players, with any pair of losses and any penalties, for images or points.

Terms of `discriminator`: adversarial, r1, r2, gradient_penalty, drift, logit_gap (a diagnostic: weight 0).
Terms of `generator`: adversarial.
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
from genlab.models import adversarial
from genlab.networks.adversarial import dcgan
from genlab.networks.layers.mlp import MLP


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.adversarial.settings`."""
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
    return choices.bind(NETWORKS, config.model.networks, 'config.model.networks')(config, axis)


def _dcgan(config: ConfigDict, axis: str | None, *, width: int) -> tuple[nn.Module, nn.Module]:
    dtype = jnp.dtype(config.model.dtype)
    shared = {'resolution': config.data.resolution, 'width': width, 'axis': axis, 'dtype': dtype}
    generator = dcgan.Generator(channels=config.data.channels, latent_size=config.model.latent_size, **shared)
    return generator, dcgan.Discriminator(**shared)


def _dense(config: ConfigDict, axis: str | None, *, features: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    dtype = jnp.dtype(config.model.dtype)
    return MLP((*features, config.model.dimensions), dtype=dtype), MLP((*features, 1), dtype=dtype)


NETWORKS: dict[str, Callable[..., tuple[nn.Module, nn.Module]]] = {'dcgan': _dcgan, 'dense': _dense}
