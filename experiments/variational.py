"""Variational autoencoders: one player, which trains an encoder and a decoder.

Terms of `vae`: see `genlab.models.variational.terms`. `config.model`: see `genlab.models.variational.from_config`.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Codec, Likelihood, Sampler
from genlab.conditioning import Conditions
from genlab.experiment import Experiment, Role, compose
from genlab.models import variational


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.variational.from_config`."""
    vae = variational.from_config(config, axis)
    return compose(
        config,
        axis,
        partial(variational.networks, vae),
        {'vae': Role(('encoder', 'decoder'), partial(variational.terms, vae))},
        sampler=Sampler(partial(variational.sample, vae)),
        codec=Codec(
            partial(variational.decode, vae),
            encode=partial(variational.encode, vae),
            prior=partial(variational.prior, vae),
        ),
        likelihood=Likelihood(log_weight=partial(variational.log_weight, vae)) if vae.comparable else None,
        measure=partial(variational.measure, vae),
        reconstruct=partial(variational.reconstruct, vae),
        conditions=Conditions(classes=vae.classes),
        tokenizer=None if config.model.classes else variational.tokenizer(vae, variational.code_shape(config)),
    )
