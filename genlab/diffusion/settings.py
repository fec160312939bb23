"""The settings of diffusion models as plain values of a config: `config.model` and `config.sample`."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from genlab import choices
from genlab.choices import named
from genlab.config import counted, untyped
from genlab.diffusion import ode, processes, samplers, times
from genlab.errors import ConfigError, choose, warn_once


def model(network: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of a diffusion model, with changes of the defaults.

    The default is epsilon-prediction of a discrete chain. network: a named choice of diffusion.model.NETWORKS.
    """
    known = choices.filled(
        'config.model',
        dict(
            network=network,  # named: 'unet', 'transformer', 'variational' or 'points', and its fields
            dimensions=0,  # dimensions of a point; 0: images
            process=named('linear', steps=1000),  # of diffusion.processes, or 'learned' (fields of MonotoneSchedule)
            prediction='epsilon',  # quantity that the network predicts, of diffusion.predictions
            deviation=0.0,  # standard deviation of the data, to scale inputs to unit variance; 0: do not scale
            level='time',  # the network's input for t: 'time', 'unit_time', 'log_sigma' or 'log_snr'
            times=named('discrete', steps=1000),  # distribution of training times, of diffusion.times
            stratified=True,  # stratify the times over the global batch; else they are independent
            learned_variance=False,  # learn the variance of each step; doubles the output channels
            bound=named('none'),  # variational bound to measure: 'discrete' or 'continuous', of diffusion.measures
            bound_times=4,  # number of times per example at which the bound is estimated
            classes=0,  # number of labels that condition the network; 'auto': those of the data; 0: none
            words=0,  # size of the vocabulary of captions (data.fields=('caption',)), or 'auto'; 0: no captions
            text=untyped(width=128, blocks=2, heads=4),  # transformer that encodes captions
            drop_condition=0.1,  # probability of the null condition in training, for guidance
            augmentation=0.0,  # probability of each image transform (diffusion.augmentation); 0: no augmentation
            gamma=5.0,  # largest SNR weight of the term min_snr
            remat=False,  # recompute blocks in the backward pass: less memory, more time
        ),
        changes,
    )
    return known | {name: counted(known[name]) for name in ('classes', 'words')}


def sample(**changes: Any) -> dict[str, Any]:
    """Returns `config.sample` of a diffusion model, with changes of the defaults: DDIM in 50 even steps."""
    return choices.filled(
        'config.sample',
        dict(
            sampler=named('ddim'),  # entry of diffusion.samplers, with its keyword options, or 'ode'
            steps=50,  # number of steps of the sampler; at most the number of discrete times
            grid=named('even'),  # entry of diffusion.times.GRIDS, with its keyword options
            process='',  # process in whose coordinates to solve, e.g. 've'; '': the process of training
            clip=True,  # clip the estimate of x_0 to [-1, 1]; points are never clipped
            guidance=1.0,  # guidance scale; 1: no guidance
            guidance_from=0.0,  # lowest sigma / alpha with guidance
            guidance_to=float('inf'),  # highest sigma / alpha with guidance
            guidance_channels=0,  # number of channels with guidance, the first ones (DiT: 3); 0: all
            progress=False,  # print the number of each completed step on stderr
            count=64,  # number of samples
            chunk=64,  # number of samples that are drawn at once
            condition=False,  # as in all models
            strength=0.6,  # image-to-image: first time, as a fraction of the end
        ),
        changes,
    )


SOLVERS: dict[str, Callable[..., Any]] = {**samplers.STEPS, 'ode': ode.integrate}
# Options whose values are names, and the tables of these names.
TABLES: dict[str, Mapping[str, Any]] = {
    'variance': samplers.VARIANCES,
    'diffusion': samplers.DIFFUSIONS,
    'solver': ode.SOLVERS,
}


def chain(model: ConfigDict) -> int:
    """Returns the number of discrete times that a network of `config.model` is trained at, or 0: all times."""
    return model.times.steps if model.times.name == 'discrete' else 0


def check_sampling(config: ConfigDict) -> None:
    """Checks before training that `config.sample` names known choices and suits the process.

    More steps than a chain has are clamped, with a warning.

    Raises:
        ConfigError: a name or option is unknown, or the sampler does not suit the network or the process.
    """
    chosen, where = config.sample, 'config.sample.sampler'
    choices.bind(SOLVERS, chosen.sampler, where)
    choices.bind(times.GRIDS, chosen.grid, 'config.sample.grid')
    steps = 0 if chosen.process else chain(config.model)
    if chosen.grid.name in times.CHAIN_GRIDS and not steps:
        raise ConfigError(
            f'config.sample.grid={chosen.grid.name!r} numbers the steps of a chain, but the times are continuous: '
            "set it to 'even'"
        )
    if steps and chosen.steps > steps:
        warn_once(
            f'config.sample.steps={chosen.steps}: there are {steps} discrete times, so samples take {steps} steps'
        )
    options = choices.options(chosen.sampler)
    for name in options.keys() & TABLES.keys():
        choose(TABLES[name], options[name], f'{where}.{name}')
    if chosen.process:  # '': the process of training
        choose(processes.PROCESSES, chosen.process, 'config.sample.process')
    if options.get('variance') == 'learned' and not config.model.learned_variance:
        raise ConfigError(f"{where}.variance='learned', but the network learns none: choose 'small' or 'large'")
    process = chosen.process or config.model.process.name
    finite = options.get('diffusion') == 'sigma' or process != 'interpolant'
    if chosen.sampler.name == 'euler_maruyama' and not finite:
        raise ConfigError(f"{where}.diffusion='process' is infinite where the interpolant ends: set it to 'sigma'")
