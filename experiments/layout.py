"""Images from layouts: the players `discriminator` and `generator`, with a term for images and one for objects.

Terms: see `genlab.models.layout.discriminator_terms` and `generator_terms`. `config.model`: see `settings` there.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Sampler
from genlab.experiment import Experiment, Role, compose
from genlab.models import layout


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.layout.settings`."""
    model = layout.from_config(config, axis)
    return compose(
        config,
        axis,
        partial(layout.networks, model),
        {
            name: Role((name,), partial(terms, model), (name,))
            for name, terms in (
                ('discriminator', layout.discriminator_terms),
                ('generator', layout.generator_terms),
            )
        },
        sampler=Sampler(partial(layout.sample, model)),
        conditions=model.conditions,
    )
