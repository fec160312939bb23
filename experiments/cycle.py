"""CycleGAN: the players `discriminator` and `generator`, of two networks each, between two domains of images.

Terms: see `genlab.models.cycle.discriminator_terms` and `generator_terms`. `config.model`: see `settings` there.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Sampler
from genlab.conditioning import Conditions
from genlab.experiment import Experiment, Role, compose
from genlab.models import cycle


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.cycle.settings`."""
    model = cycle.from_config(config, axis)
    return compose(
        config,
        axis,
        partial(cycle.networks, model),
        {
            'discriminator': Role(
                cycle.DISCRIMINATORS,
                partial(cycle.discriminator_terms, model),
                cycle.updated(model, 'discriminator'),
            ),
            'generator': Role(
                cycle.GENERATORS, partial(cycle.generator_terms, model), cycle.updated(model, 'generator')
            ),
        },
        sampler=Sampler(partial(cycle.sample, model), field=model.made),
        measure=partial(cycle.measure, model),
        reconstruct=partial(cycle.reconstruct, model),
        conditions=Conditions(fields=(model.condition,)),
    )
