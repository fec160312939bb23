"""VQGAN: the players `vae` and `discriminator`, and a frozen network that measures the perceptual distance.

Terms: see `genlab.models.vqgan.autoencoder_terms` and `discriminator_terms`. `config.model`: see `settings` there.
"""

from collections.abc import Callable
from functools import partial

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.data.source import Source
from genlab.errors import ConfigError
from genlab.evaluation.features import classifier
from genlab.experiment import Experiment, Role, compose
from genlab.models import quantized, vqgan
from genlab.training import parallel, pretrained
from genlab.training.state import State


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.vqgan.settings`."""
    perceptual = choices.build(PERCEPTUAL, config.model.perceptual, 'config.model.perceptual')
    model = vqgan.from_config(config, axis, perceptual)
    return compose(
        config,
        axis,
        partial(vqgan.networks, model),
        {
            'vae': Role(quantized.NAMES, partial(vqgan.autoencoder_terms, model), ('quantizer',)),
            'discriminator': Role(('discriminator',), partial(vqgan.discriminator_terms, model), ('discriminator',)),
        },
        codec=quantized.codec(model.vqvae),
        measure=partial(vqgan.measure, model),
        reconstruct=partial(quantized.reconstruct, model.vqvae),
        tokenizer=quantized.tokenizer(model.vqvae),
        start=partial(load, config) if config.model.perceptual.name == 'classifier' else None,
    )


def load(config: ConfigDict, state: State, source: Source, placement: parallel.Placement) -> State:
    """Puts the weights of the classifier of the data into the network `perceptual`.

    Raises:
        ConfigError: the data have no labels to train a classifier.
    """
    if 'label' not in source.fields:
        raise ConfigError(
            f'config.model.perceptual=classifier needs labels, and {source.name} has none: choose random or none'
        )
    params = jax.device_get(classifier.load(config.data).params)
    return pretrained.replace_networks(state, {'perceptual': {'params': parallel.initial(placement, lambda: params)}})


def _none() -> None:
    return None


def _random() -> nn.Module:
    return classifier.Network(1)


def _classifier(*, classes: int) -> nn.Module:
    return classifier.Network(classes)


# Name -> network of the perceptual distance; the keyword arguments are the options. random: weights as initialised.
PERCEPTUAL: dict[str, Callable[..., nn.Module | None]] = {
    'none': _none,
    'random': _random,
    'classifier': _classifier,
}
