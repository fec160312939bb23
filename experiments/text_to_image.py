"""Adversarial networks of images from text: the players `discriminator`, `generator` and `matcher`.

Terms: see `discriminator_terms`, `generator_terms` and `matcher_terms` of `genlab.models.text_to_image`.
`config.model`: see `settings` there.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Sampler
from genlab.experiment import Experiment, Role, compose
from genlab.models import text_to_image


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.text_to_image.settings`."""
    model = text_to_image.from_config(config, axis)
    roles = {
        'discriminator': Role(('discriminator',), partial(text_to_image.discriminator_terms, model)),
        'generator': Role(text_to_image.GENERATOR, partial(text_to_image.generator_terms, model), ('mapping',)),
    }
    if model.nets.matcher is not None:
        roles['matcher'] = Role(('matcher',), partial(text_to_image.matcher_terms, model))
    return compose(
        config,
        axis,
        partial(text_to_image.networks, model),
        roles,
        sampler=Sampler(partial(text_to_image.sample, model)),
        conditions=model.conditions,
    )
