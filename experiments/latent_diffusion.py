"""Latent diffusion (Rombach et al. 2022): a denoiser of the codes of a frozen autoencoder.

`denoiser` has the terms of `genlab.models.diffusion`. The first stage is a spatial VAE, or a VQ-VAE, whose quantiser is
part of the decoder. It is loaded from another run, or trained first by the player `vae`. In both cases its networks are
in the state together with the denoiser, so that a checkpoint is complete.
"""

from collections.abc import Mapping
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab import conditioning
from genlab.abilities import Batch, Codec, Sampler, Variables
from genlab.data.source import Source
from genlab.diffusion import conditions
from genlab.errors import ConfigError
from genlab.experiment import Experiment, Role, compose
from genlab.models import diffusion, quantized, variational
from genlab.models.first_stage import FirstStage
from genlab.networks.layers.latent_scale import LatentScale
from genlab.training import pretrained
from genlab.training.parallel import Placement
from genlab.training.state import Network, State

FLAG = 'config.model.first_stage'


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`, which extends genlab.diffusion.settings by three entries.

    autoencoder: `config.model` of experiments/variational.py with spatial networks, or of experiments/vq_vae.py if it
        has codebook entries.
    first_stage: folder of the run that trained the autoencoder. If it is '', config.phases train `vae` first and then
        `denoiser`.
    scale_steps: number of initial training steps over which the standard deviation of the codes is measured.

    Codes of the experiment are the codes of the autoencoder, [B, D]. Their prior is the diffusion model.
    """
    check(config)
    first = first_stage(config, axis)
    scale = LatentScale(config.model.scale_steps, axis)
    model = diffusion.from_config(config, scaled(first, scale))
    latent = model._replace(space=model.space._replace(leave=partial(unscale, scale)))  # samples codes
    declared = conditions.declared(config.model)

    def prior(variables: Variables, keys: jax.Array) -> jax.Array:
        length = conditions.length(config.model, variables)
        return diffusion.sample(latent, variables, keys, conditioning.random(declared, keys, length))

    def decode(variables: Variables, codes: jax.Array) -> jax.Array:
        return first.decode(variables, codes.reshape(len(codes), *first.grid))

    def encode(variables: Variables, batch: Batch) -> jax.Array:
        return first.encode(variables, batch, None).reshape(len(batch['x']), -1)

    def measure(variables: Variables, batch: Batch, keys: jax.Array) -> Mapping[str, jax.Array]:
        return {**first.measure(variables, batch, keys), **diffusion.measure(model, variables, batch, keys)}

    def load(state: State, source: Source, placement: Placement) -> State:
        run, variables = pretrained.load(config.model.first_stage, placement, FLAG)
        pretrained.expect(run, config.model.autoencoder, FLAG, 'config.model.autoencoder')
        return pretrained.replace_networks(state, {name: variables[name] for name in first.trains})

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
    """Returns the space of the codes, scaled to about unit variance."""

    def enter(variables: Variables, batch: Batch, keys: jax.Array, train: bool) -> tuple[jax.Array, dict]:
        codes = first.encode(variables, batch, keys)
        outputs = scale.apply(variables['scale'], codes, train, mutable=['latents'])
        deviation, stats = cast(tuple[jax.Array, dict], outputs)
        return codes / deviation, {'scale': stats} if train else {}

    def leave(variables: Variables, x: jax.Array) -> jax.Array:
        return first.decode(variables, unscale(scale, variables, x).reshape(len(x), *first.grid))

    def networks(batch: Batch) -> dict[str, Network]:
        codes = jnp.zeros((len(batch['x']), *first.grid))
        return {**first.networks(batch), 'scale': Network(scale, (codes, False))}

    return diffusion.Space(first.grid, enter, leave, networks, updates=('scale',))


def unscale(scale: LatentScale, variables: Variables, x: jax.Array) -> jax.Array:
    """Returns the codes [B, D] for scaled codes x [B, h, w, C] of unit variance."""
    codes = x.reshape(len(x), -1)
    return codes * cast(jax.Array, scale.apply(variables['scale'], codes, False))


def first_stage(config: ConfigDict, axis: str | None) -> FirstStage:
    """Makes the autoencoder of `config.model.autoencoder`."""
    config = config.copy_and_resolve_references()
    config.model = ConfigDict({'dtype': config.model.dtype, **config.model.autoencoder})
    if 'entries' in config.model:
        return quantized.first_stage(quantized.from_config(config, axis))
    return variational.first_stage(variational.from_config(config, axis), variational.grid_of(config))


def check(config: ConfigDict) -> None:
    """Raises ConfigError if parts of the config contradict each other."""
    if config.model.autoencoder.networks.name != 'spatial' and 'entries' not in config.model.autoencoder:
        raise ConfigError(
            "config.model.autoencoder.networks: codes lie on a grid only with 'spatial': set networks='spatial'"
        )
    if bool(config.model.first_stage) == ('vae' in config.losses):
        raise ConfigError(
            f'{FLAG}={config.model.first_stage!r} and a player vae (config.losses, config.optimizer, its turns in '
            'config.phases) exclude each other: keep one of them, as in configs/latent_diffusion.py:frozen'
        )
    if config.model.bound.name != 'none':
        raise ConfigError(
            f'config.model.bound={config.model.bound.name!r} is for 8-bit levels, not codes: set it to none'
        )
