"""A denoising network and its process, as a config describes them. All diffusion experiments build on this module.

`genlab.diffusion.denoising` evaluates the network, `genlab.diffusion.generation` samples from it.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Variables
from genlab.diffusion import augmentation, predictions, processes, times
from genlab.diffusion.processes import Process
from genlab.diffusion.settings import chain
from genlab.errors import ConfigError, choose, meant
from genlab.networks.diffusion.dit import DiT
from genlab.networks.diffusion.points import PointNetwork
from genlab.networks.diffusion.unet import UNet
from genlab.networks.diffusion.vdm import MonotoneSchedule, VariationalUNet

Level = Callable[[Process, jax.Array], jax.Array]  # (process, t [B]) -> level [B], the network's input for the time


class Model(NamedTuple):
    """Holds a denoising network, its process, and the settings of both.

    Variables hold 'denoiser', and 'schedule' where the process is learned.
    """

    settings: ConfigDict  # `config.model`, see genlab.diffusion.settings
    solving: ConfigDict  # `config.sample`, see genlab.diffusion.settings
    shape: tuple[int, ...]  # shape of one example of x
    network: nn.Module
    level: Level
    process: Callable[[Variables], Process]  # a learned process reads its schedule from the variables
    schedule: MonotoneSchedule | None  # network of a learned process
    draw: times.Draw  # draws u, of which the times of a training step are quantiles
    quantile: times.Quantile


def _time(scale: float) -> Level:
    """Returns the level that is proportional to the time, `scale` at the end of the process.

    A chain of T steps counts them from 0: step k has the level scale (k - 1) / T (Ho et al. 2020, their code).
    """

    def level(process: Process, t: jax.Array) -> jax.Array:
        if not process.chain:
            return scale * t / process.end
        return scale * jnp.maximum(t / process.end - 1 / process.chain, 0)

    return level


NETWORKS: dict[str, type[nn.Module]] = {
    'unet': UNet,
    'transformer': DiT,
    'variational': VariationalUNet,
    'points': PointNetwork,
}
TIMES = {'time': 1000.0, 'unit_time': 1.0}  # level at the end of the process; use 1 where time is differentiated
# log_sigma: log(sigma / alpha) / 4 (Karras et al. 2022, table 1). log_snr: from 0 at a log-SNR of 13.3 to 1000 at one
# of -5 (Kingma et al. 2021, appendix B.3).
LEVELS: dict[str, Level] = {
    **{name: _time(scale) for name, scale in TIMES.items()},
    'log_sigma': lambda process, t: -processes.log_snr(process, t) / 8,
    'log_snr': lambda process, t: 1000 * (13.3 - processes.log_snr(process, t)) / 18.3,
}


def make_model(config: ConfigDict, shape: tuple[int, ...]) -> Model:
    """Makes the model of `config.model` and `config.sample`.

    Args:
        config: the config of the run; see genlab.diffusion.settings.
        shape: shape of one example of x.

    Returns:
        The model.

    Raises:
        ConfigError: a name or option is unknown, or the network is not conditioned on the augmentation.
    """
    settings = config.model
    choose(predictions.PREDICTIONS, settings.prediction, 'config.model.prediction')
    level = choose(LEVELS, settings.level, 'config.model.level')
    quantile = choices.build(times.QUANTILES, settings.times, 'config.model.times')
    network, (process, schedule) = _network(settings, shape[-1]), _process(settings)
    draw: times.Draw = times.draw_independent
    if settings.stratified:
        draw = partial(times.draw_stratified, seed=config.seed, batch_size=config.data.batch_size)
    return Model(settings, config.sample, shape, network, level, process, schedule, draw, quantile)


def _process(settings: ConfigDict) -> tuple[Callable[[Variables], Process], MonotoneSchedule | None]:
    """Makes the function from variables to the process, and the network of a learned one."""
    if settings.process.name == 'learned':
        schedule = choices.build({'learned': MonotoneSchedule}, settings.process, 'config.model.process')
        return partial(_learned, schedule, chain(settings)), schedule
    fixed = choices.build(processes.PROCESSES, settings.process, 'config.model.process')
    fixed = fixed._replace(chain=chain(settings))
    return lambda variables: fixed, None


def _learned(schedule: MonotoneSchedule, chain: int, variables: Variables) -> Process:
    def gamma(t: jax.Array) -> jax.Array:
        return cast(jax.Array, schedule.apply(variables['schedule'], t))

    return processes.from_gamma(gamma)._replace(chain=chain)


def _network(settings: ConfigDict, channels: int) -> nn.Module:
    """Makes the network of data with this number of channels."""
    chosen = settings.network
    fields = choices.options(chosen)
    make = choose(NETWORKS, chosen.name, 'config.model.network.name')
    known = {field.name for field in dataclasses.fields(make)} - {'parent', 'name'}
    if unknown := sorted({*fields} - known):
        raise ConfigError(
            f'config.model.network.{unknown[0]}: {chosen.name} has no such option; it has {", ".join(sorted(known))}'
            f'{meant(unknown[0], known)}'
        )
    given = {
        'channels': channels * (2 if settings.learned_variance else 1),
        'classes': settings.classes,
        'dtype': jnp.dtype(settings.dtype),
        'remat': settings.remat,
    }
    network = make(**fields, **{name: value for name, value in given.items() if name in known})
    if settings.augmentation and getattr(network, 'augmentation', 0) != augmentation.NUMBERS:
        raise ConfigError(
            f'config.model.augmentation={settings.augmentation}: the network is not conditioned on it: set it to 0, or '
            f'use a unet with config.model.network.augmentation={augmentation.NUMBERS}'
        )
    return network
