"""Discrete variational autoencoders: one player, which trains an encoder and a decoder.

Terms of `vae`: see `genlab.models.discrete.terms`. `config.model`: see `genlab.models.discrete.settings`.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.experiment import Experiment, Role, compose
from genlab.models import discrete


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.discrete.settings`."""
    vae = discrete.from_config(config, axis)
    return compose(
        config,
        axis,
        partial(discrete.networks, vae),
        {'vae': Role(discrete.NAMES, partial(discrete.terms, vae))},
        codec=discrete.codec(vae),
        measure=partial(discrete.measure, vae),
        reconstruct=partial(discrete.reconstruct, vae),
        tokenizer=discrete.tokenizer(vae),
    )
