"""Latent diffusion (Rombach et al. 2022): a denoiser of the codes of a frozen autoencoder.

The terms of `denoiser` are those of `genlab.models.diffusion`. The first stage is a spatial VAE, or a VQ-VAE, whose quantiser
counts as part of the decoder. It is loaded from another run, or trained first by the player `vae`. Its networks lie in the
state beside the denoiser either way, so that a checkpoint is complete.
"""

from functools import partial

import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab import conditioning
from genlab.abilities import Codec, Sampler
from genlab.diffusion import conditions
from genlab.errors import ConfigError
from genlab.experiment import Experiment, Role, compose
from genlab.models import diffusion, quantized, variational
from genlab.models.first_stage import FirstStage
from genlab.networks.layers.latent_scale import LatentScale
from genlab.training import pretrained
from genlab.training.state import Network

FLAG = 'config.model.first_stage'


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """`config.model`: as of diffusion (genlab.diffusion.settings), and

    autoencoder: `config.model` of experiments/variational.py with networks='spatial', or, if it has codebook entries, of
        experiments/vq_vae.py.
    first_stage: the folder of the run that it is from; '': config.phases train it first, by `vae`, and then `denoiser`.
    scale_steps: the first steps of the denoiser, over which the deviation of the codes is measured.

    Codes of the experiment are those of the autoencoder, [B, D]. Its prior is the diffusion.
    """
    check(config)
    first = first_stage(config, axis)
    scale = LatentScale(config.model.scale_steps, axis)
    model = diffusion.from_config(config, scaled(first, scale))
    latent = model._replace(space=model.space._replace(leave=partial(unscale, scale)))  # its samples are codes
    declared = conditions.declared(config.model)

    def prior(variables, keys):
        length = conditions.length(config.model, variables)
        return diffusion.sample(latent, variables, keys, conditioning.random(declared, keys, length))

    def decode(variables, codes):
        return first.decode(variables, codes.reshape(len(codes), *first.grid))

    def encode(variables, batch):
        return first.encode(variables, batch, None).reshape(len(batch['x']), -1)

    def measure(variables, batch, keys):
        return {**first.measure(variables, batch, keys), **diffusion.measure(model, variables, batch, keys)}

    def load(state, source, placement):
        run, variables = pretrained.load(config.model.first_stage, placement, FLAG)
        pretrained.expect(run, config.model.autoencoder, FLAG, 'config.model.autoencoder')
        return pretrained.adopt(state, {name: variables[name] for name in first.trains})

    roles = {'denoiser': Role(model.trains, partial(diffusion.terms, model), model.space.updates)}
    if not config.model.first_stage:
        roles = {'vae': Role(first.trains, first.objective, first.updates), **roles}
    return compose(
        config,
        axis,
        partial(diffusion.networks, model),
        roles,
        sampler=Sampler(
            partial(diffusion.sample, model),
            inpaint=partial(diffusion.inpaint, model) if config.sample.sampler.name != 'ode' else None,
            image_to_image=partial(diffusion.image_to_image, model),
        ),
        codec=Codec(decode, encode=encode, prior=prior),
        measure=measure,
        reconstruct=first.reconstruct,
        conditions=declared,
        start=load if config.model.first_stage else None,
    )


def scaled(first: FirstStage, scale: LatentScale) -> diffusion.Space:
    """Returns the space of codes at about unit variance."""

    def enter(variables, batch, keys, train):
        codes = first.encode(variables, batch, keys)
        deviation, stats = scale.apply(variables['scale'], codes, train, mutable=['latents'])
        return codes / deviation, {'scale': stats} if train else {}

    def leave(variables, x):
        return first.decode(variables, unscale(scale, variables, x).reshape(len(x), *first.grid))

    def networks(batch):
        codes = jnp.zeros((len(batch['x']), *first.grid))
        return {**first.networks(batch), 'scale': Network(scale, (codes, False))}

    return diffusion.Space(first.grid, enter, leave, networks, updates=('scale',))


def unscale(scale: LatentScale, variables, x):
    """Returns the codes [B, D] of x [B, h, w, D] at unit variance."""
    codes = x.reshape(len(x), -1)
    return codes * scale.apply(variables['scale'], codes, False)


def first_stage(config: ConfigDict, axis: str | None) -> FirstStage:
    """Makes the autoencoder of `config.model.autoencoder`."""
    config = config.copy_and_resolve_references()
    config.model = ConfigDict({'dtype': config.model.dtype, **config.model.autoencoder})
    if 'entries' in config.model:
        return quantized.first_stage(quantized.from_config(config, axis))
    return variational.first_stage(variational.from_config(config, axis), variational.grid_of(config))


def check(config: ConfigDict) -> None:
    """Raises ConfigError where parts of the config do not fit together."""
    if config.model.autoencoder.networks != 'spatial' and 'entries' not in config.model.autoencoder:
        raise ConfigError("config.model.autoencoder.networks: codes lie on a grid only where it is 'spatial'")
    if bool(config.model.first_stage) == ('vae' in config.losses):
        raise ConfigError(
            f'{FLAG}={config.model.first_stage!r} and a player vae (config.losses, config.optimizer, its turns in '
            'config.phases) exclude each other: have one of them, as configs/latent_diffusion.py:frozen'
        )
    if config.model.bound.name != 'none':
        raise ConfigError(
            f'config.model.bound={config.model.bound.name!r} is for 8-bit levels, not codes: set it to none'
        )
