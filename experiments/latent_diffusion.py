"""Latent diffusion (Rombach et al. 2022): a denoiser of the codes of a frozen autoencoder.

`denoiser` has the terms of `genlab.models.diffusion`. The first stage is a spatial VAE, or a VQ-VAE, whose quantiser is
part of the decoder. It is loaded from another run, or trained first by the player `vae`. In both cases its networks are
in the state together with the denoiser, so that a checkpoint is complete.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Codec, Sampler
from genlab.diffusion import conditions
from genlab.experiment import Experiment, Role, compose
from genlab.models import diffusion, latent_diffusion


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.latent_diffusion.from_config`."""
    model = latent_diffusion.from_config(config, axis)
    first, second = model.first, model.second
    pretrained = bool(config.model.first_stage)
    roles = {} if pretrained else {'vae': Role(first.trains, first.objective, first.updates)}
    roles['denoiser'] = Role(second.trains, partial(diffusion.terms, second), second.space.updates)
    return compose(
        config,
        axis,
        partial(diffusion.networks, second),
        roles,
        sampler=Sampler(
            partial(diffusion.sample, second),
            inpaint=partial(diffusion.inpaint, second) if config.sample.sampler.name != 'ode' else None,
            image_to_image=partial(diffusion.image_to_image, second),
        ),
        codec=Codec(
            partial(latent_diffusion.decode, model),
            encode=partial(latent_diffusion.encode, model),
            prior=partial(latent_diffusion.prior, model),
        ),
        measure=partial(latent_diffusion.measure, model),
        reconstruct=first.reconstruct,
        conditions=conditions.declared(config.model),
        start=partial(latent_diffusion.load, model) if pretrained else None,
    )
