"""Quantised autoencoders with two grids of codes: one player, which trains all networks.

Terms of `vae`: see `genlab.models.hierarchical_quantized.terms`. `config.model`: see `settings` in
`genlab.models.quantized`.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.experiment import Experiment, Role, compose
from genlab.models import hierarchical_quantized as model_of


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.quantized.settings`."""
    model = model_of.from_config(config, axis)
    return compose(
        config,
        axis,
        partial(model_of.networks, model),
        {'vae': Role(model_of.NAMES, partial(model_of.terms, model), model_of.QUANTIZERS)},
        codec=model_of.codec(model),
        measure=partial(model_of.measure, model),
        reconstruct=partial(model_of.reconstruct, model),
        tokenizer=model_of.tokenizer(model),
    )
