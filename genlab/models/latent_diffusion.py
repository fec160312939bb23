"""Latent diffusion (Rombach et al. 2022): a diffusion model of the codes of an autoencoder, its first stage.

The denoiser sees the codes divided by their standard deviation. The model's codes are the autoencoder's
codes, [B, D], not scaled. Their prior is the diffusion model.

For the arguments that all families share, see `genlab.models`.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab import conditioning
from genlab.abilities import Batch, Variables
from genlab.data.source import Source
from genlab.diffusion import conditions
from genlab.errors import ConfigError
from genlab.models import diffusion, quantized, variational
from genlab.models.diffusion import Diffusion, Space
from genlab.models.first_stage import FirstStage
from genlab.networks.layers.latent_scale import LatentScale
from genlab.training import pretrained
from genlab.training.parallel import Placement
from genlab.training.state import Network, State

FLAG = 'config.model.first_stage'


class LatentDiffusion(NamedTuple):
    """Holds the first stage, the scale of its codes, and the diffusion model of the scaled codes."""

    first: FirstStage
    scale: LatentScale
    second: Diffusion


def scaled(first: FirstStage, scale: LatentScale) -> Space:
    """Returns the space of the codes of a first stage, scaled to about unit variance."""
    return Space(
        first.grid,
        partial(enter, first, scale),
        partial(leave, first, scale),
        partial(networks, first, scale),
        updates=('scale',),
    )


def enter(
    first: FirstStage, scale: LatentScale, variables: Variables, batch: Batch, keys: jax.Array, train: bool
) -> tuple[jax.Array, dict]:
    """Encodes examples and scales their codes; see `Space.enter`. Training measures the scale."""
    codes = first.encode(variables, batch, keys)
    outputs = scale.apply(variables['scale'], codes, train, mutable=['latents'])
    deviation, stats = cast(tuple[jax.Array, dict], outputs)
    return codes / deviation, {'scale': stats} if train else {}


def leave(first: FirstStage, scale: LatentScale, variables: Variables, x: jax.Array) -> jax.Array:
    """Decodes scaled codes x [B, h, w, D] to images [B, H, W, C]."""
    return first.decode(variables, unscale(scale, variables, x).reshape(x.shape))


def networks(first: FirstStage, scale: LatentScale, batch: Batch) -> dict[str, Network]:
    """Returns the networks of the first stage and the scale, with inputs that initialise them."""
    codes = jnp.zeros((len(batch['x']), *first.grid))
    return {**first.networks(batch), 'scale': Network(scale, (codes, False))}


def unscale(scale: LatentScale, variables: Variables, x: jax.Array) -> jax.Array:
    """Returns the codes [B, D] for scaled codes x [B, h, w, C] of unit variance."""
    codes = x.reshape(len(x), -1)
    return codes * cast(jax.Array, scale.apply(variables['scale'], codes, False))


def prior(model: LatentDiffusion, variables: Variables, keys: jax.Array) -> jax.Array:
    """Samples codes [N, D] by diffusion, each under a random condition."""
    settings = model.second.settings
    condition = conditioning.random(conditions.declared(settings), keys, conditions.length(settings, variables))
    return unscale(model.scale, variables, diffusion.sample_space(model.second, variables, keys, condition))


def encode(model: LatentDiffusion, variables: Variables, batch: Batch) -> jax.Array:
    """Encodes examples as codes [B, D], the means where the first stage is a VAE."""
    return model.first.encode(variables, batch, None).reshape(len(batch['x']), -1)


def decode(model: LatentDiffusion, variables: Variables, codes: jax.Array) -> jax.Array:
    """Decodes codes [B, D] to images [B, H, W, C]."""
    return model.first.decode(variables, codes.reshape(len(codes), *model.first.grid))


def measure(model: LatentDiffusion, variables: Variables, batch: Batch, keys: jax.Array) -> Mapping[str, jax.Array]:
    """Measures what the first stage measures, and the errors of the denoiser."""
    return {
        **model.first.measure(variables, batch, keys),
        **diffusion.measure(model.second, variables, batch, keys),
    }


def load(model: LatentDiffusion, state: State, source: Source, placement: Placement) -> State:
    """Replaces the first stage in a state by the autoencoder of the run `config.model.first_stage`.

    Args:
        model: the model.
        state: the state before the first step.
        source: the training data, which are not used.
        placement: where to place the variables.

    Returns:
        The state with the networks of that run.

    Raises:
        UserError: the run has no checkpoint.
        ConfigError: there is no such run, or its model is not `config.model.autoencoder`.
    """
    settings = model.second.settings
    run, variables = pretrained.load(settings.first_stage, placement, FLAG)
    pretrained.expect(run, settings.autoencoder, FLAG, 'config.model.autoencoder')
    return pretrained.replace_networks(state, {name: variables[name] for name in model.first.trains})


def from_config(config: ConfigDict, axis: str | None = None) -> LatentDiffusion:
    """Makes the model of `config.model`, which extends genlab.diffusion.settings by three entries.

    autoencoder: `config.model` of experiments/variational.py with spatial networks, or of experiments/vq_vae.py if it
        has a quantizer.
    first_stage: folder of the run that trained the autoencoder. If it is '', config.phases train `vae` first and then
        `denoiser`.
    scale_steps: number of initial training steps over which the standard deviation of the codes is measured.
    """
    check(config)
    first, scale = first_stage(config, axis), LatentScale(config.model.scale_steps, axis)
    return LatentDiffusion(first, scale, diffusion.from_config(config, scaled(first, scale)))


def first_stage(config: ConfigDict, axis: str | None = None) -> FirstStage:
    """Makes the autoencoder of `config.model.autoencoder`."""
    config = config.copy_and_resolve_references()
    config.model = ConfigDict({'dtype': config.model.dtype, **config.model.autoencoder})
    if 'quantizer' in config.model:
        return quantized.first_stage(quantized.from_config(config, axis))
    return variational.first_stage(variational.from_config(config, axis), variational.grid_of(config))


def check(config: ConfigDict) -> None:
    """Raises ConfigError if parts of the config contradict each other."""
    if config.model.autoencoder.networks.name != 'spatial' and 'quantizer' not in config.model.autoencoder:
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
