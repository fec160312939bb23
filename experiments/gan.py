"""Generative adversarial networks: two players, with any pair of losses and any penalties, for images or points.

Terms of `discriminator`: see `genlab.models.adversarial.discriminator_terms`. Terms of `generator`: see
`generator_terms` there. `config.model`: see `settings` there.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Codec, Sampler
from genlab.augmentation import AUGMENTATIONS
from genlab.conditioning import Conditions
from genlab.errors import ConfigError, choose
from genlab.experiment import Experiment, Role, compose
from genlab.losses.adversarial import PAIRS
from genlab.models import adversarial, generators


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.adversarial.settings`."""
    nets, fade = generators.networks(config, axis), config.model.fade
    if fade and not (nets.grows and len(fade) == 2):
        raise ConfigError(f'config.model.fade={fade}: give (first step, steps), and only to networks that grow')
    model = adversarial.GAN(
        nets,
        choose(PAIRS, config.model.pair, 'config.model.pair'),
        config.model.latent_size,
        conditions=Conditions(classes=config.model.classes),
        augment=choices.build(AUGMENTATIONS, config.model.augment, 'config.model.augment'),
        mixing=config.model.mixing,
        path_decay=config.model.path_decay,
        fade=fade,
        truncation=config.sample.get('truncation', 1.0),
        axis=axis,
    )
    styled = model.nets.mapping is not None
    return compose(
        config,
        axis,
        partial(adversarial.networks, model),
        {
            'discriminator': Role(
                ('discriminator',),
                partial(adversarial.discriminator_terms, model),
                adversarial.updated(model, 'discriminator'),
            ),
            'generator': Role(
                adversarial.trained(model),
                partial(adversarial.generator_terms, model),
                adversarial.updated(model, 'generator'),
            ),
        },
        sampler=Sampler(partial(adversarial.sample, model)),
        codec=Codec(
            partial(adversarial.decode, model),
            prior=partial(adversarial.prior, model),
            mix=partial(adversarial.mix, model) if styled else None,
            truncate=partial(adversarial.truncate_codes, model) if styled else None,
            directions=partial(adversarial.weight_directions, model) if styled else None,
        ),
        conditions=model.conditions,
    )
