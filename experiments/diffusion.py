"""Diffusion models and flows: one player, which trains a denoiser.

Terms of `denoiser`: see `genlab.models.diffusion.terms`. `config.model` and `config.sample`: see
`genlab.diffusion.settings`.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Codec, Likelihood, Sampler
from genlab.diffusion import conditions
from genlab.experiment import Experiment, Role, compose
from genlab.models import diffusion


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model` and `config.sample`; see `genlab.diffusion.settings`."""
    model = diffusion.from_config(config, diffusion.pixels(config))
    images = not config.model.dimensions
    # Inpainting restores known pixels between steps, which an adaptive solver does not support.
    fixed_steps = config.sample.sampler.name != 'ode'
    return compose(
        config,
        axis,
        partial(diffusion.networks, model),
        {'denoiser': Role(model.trains, partial(diffusion.terms, model))},
        sampler=Sampler(
            partial(diffusion.sample, model),
            inpaint=partial(diffusion.inpaint, model) if images and fixed_steps else None,
            image_to_image=partial(diffusion.image_to_image, model) if images else None,
        ),
        codec=Codec(
            partial(diffusion.decode, model),
            encode=partial(diffusion.encode, model),
            prior=partial(diffusion.prior, model),
        ),
        likelihood=Likelihood(exact=partial(diffusion.log_likelihood, model)),
        measure=partial(diffusion.measure, model),
        conditions=conditions.declared(config.model),
    )
