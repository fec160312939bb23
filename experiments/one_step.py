"""Models that sample in one evaluation: one player, who trains a denoiser. Samples take config.sample.steps evaluations.

Terms of `denoiser`: see `genlab.models.one_step.terms`.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Codec, Sampler
from genlab.diffusion import conditions
from genlab.experiment import Experiment, Role, compose
from genlab.models import one_step


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """`config.model`: genlab.diffusion.settings, and `one_step` of genlab.diffusion.one_step."""
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
