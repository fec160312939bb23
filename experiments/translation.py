"""pix2pix: the players `discriminator` and `generator`, over pairs of images.

Terms: see `genlab.models.translation.discriminator_terms` and `generator_terms`. `config.model`: see `settings` there.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Sampler
from genlab.conditioning import Conditions
from genlab.experiment import Experiment, Role, compose
from genlab.models import translation


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.translation.settings`."""
    model = translation.from_config(config, axis)
    discriminator, generator = ('discriminator',), ('generator',)
    return compose(
        config,
        axis,
        partial(translation.networks, model),
        {
            'discriminator': Role(discriminator, partial(translation.discriminator_terms, model), discriminator),
            'generator': Role(generator, partial(translation.generator_terms, model), generator),
        },
        sampler=Sampler(partial(translation.sample, model)),
        measure=partial(translation.measure, model),
        conditions=Conditions(fields=(model.input,)),
    )
