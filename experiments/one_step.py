"""Models that sample in one evaluation: one player, which trains a denoiser.

A sample takes `config.sample.steps` evaluations of the network.
Terms of `denoiser`: see `genlab.models.one_step.terms`.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Codec, Sampler
from genlab.diffusion import conditions
from genlab.experiment import Experiment, Role, compose
from genlab.models import one_step


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see genlab.diffusion.settings, and genlab.diffusion.one_step."""
    model = one_step.from_config(config)
    return compose(
        config,
        axis,
        partial(one_step.networks, model),
        {'denoiser': Role(('denoiser',), partial(one_step.terms, model))},
        sampler=Sampler(partial(one_step.sample, model)),
        codec=Codec(partial(one_step.decode, model), prior=partial(one_step.prior, model)),
        measure=partial(one_step.measure, model),
        conditions=conditions.declared(config.model),
    )
