"""The space of diffusion models as the plain values of a config: `config.model` and `config.sample`.

What is named with options of its own (a network, a process, a distribution of times) is `named('linear', steps=1000)`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from genlab.config import untyped
from genlab.diffusion import ode, processes, samplers, times
from genlab.errors import ConfigError


def named(name: str, **options) -> ConfigDict:
    """A name and the options that belong to it."""
    return untyped(name=name, **options)


def model(network: ConfigDict, **changes) -> dict:
    """`config.model` of a diffusion model: epsilon-prediction of a discrete chain, but for the changes."""
    return _changed(
        'model',
        dict(
            network=network,  # named: 'unet', 'transformer', 'variational', 'points', and its fields
            dimensions=0,  # of a point; 0: images
            process=named('linear', steps=1000),  # diffusion.processes, or 'learned' (MonotoneSchedule's fields)
            prediction='epsilon',  # of the network: diffusion.predictions
            deviation=0.0,  # of the data: inputs are scaled to unit variance; 0: they are not
            level='time',  # what the network sees of t: 'time', 'unit_time', 'log_sigma' or 'log_snr'
            times=named('discrete', steps=1000),  # of training: diffusion.times
            stratified=True,  # times evenly over a batch, or each at random
            learned_variance=False,  # twice the channels: how large the noise of each step is
            bound='none',  # that `measure` computes of 8-bit images: 'discrete' or 'continuous'
            bound_times=4,  # at so many times an example
            classes=0,  # labels that condition the network; 0: none
            words=0,  # size of the vocabulary of captions (data.fields=('caption',)); 0: no captions
            text=untyped(width=128, blocks=2, heads=4),  # of the transformer that reads them
            drop_condition=0.1,  # the probability of the null condition in training, for guidance
            augmentation=0.0,  # the probability of each transform of diffusion.augmentation, which conditions the network
            gamma=5.0,  # of min_snr
            remat=False,  # compute blocks again in the backward pass: less memory, more time
        ),
        changes,
    )


def sample(**changes) -> dict:
    """`config.sample` of a diffusion model. A sampler and a grid take of it what they have an option for."""
    return _changed(
        'sample',
        dict(
            sampler='ddim',  # diffusion.samplers
            steps=50,
            grid='even',  # diffusion.times
            eta=0.0,  # ddim
            variance='large',  # ancestral: 'small', 'large', 'learned'
            churn=0.0,
            lowest=0.002,
            highest=float('inf'),
            inflate=1.0,  # heun; lowest also of grids
            rho=7.0,
            shift=3.0,
            power=1.0,  # grids
            stochastic=False,  # dpm_solver
            diffusion='process',  # euler_maruyama: 'process' or 'sigma'
            ratio=0.16,  # predictor_corrector
            solver='dopri5',
            tolerance=1e-4,  # sampler 'ode'
            process='',  # 've': solve in these coordinates, whatever the network was trained in
            clip=True,  # x_0 to [-1, 1]; points never
            guidance=1.0,  # scale; 1: none
            guidance_from=0.0,
            guidance_to=float('inf'),  # sigma / alpha between which there is guidance
            progress=False,  # say on stderr which step is done
            count=64,
            chunk=64,
            condition=False,  # as of every model
            strength=0.6,  # image-to-image: the time to begin at, as a part of the end
        ),
        changes,
    )


def check_sampling(config: ConfigDict) -> None:
    """Raises where `config.sample` names what there is not, or what does not suit the process: before training, not after."""
    chosen = config.sample
    tables = {
        'sampler': {**samplers.STEPS, 'ode': None},
        'grid': times.GRIDS,
        'variance': samplers.VARIANCES,
        'diffusion': samplers.DIFFUSIONS,
        'solver': ode.SOLVERS,
        'process': processes.PROCESSES,
    }
    for name, table in tables.items():
        if name != 'process' or chosen.process:  # '': that of training
            choose(table, chosen[name], f'config.sample.{name}')
    if chosen.variance == 'learned' and not config.model.learned_variance:
        raise ConfigError("config.sample.variance='learned', but the network learns none: choose 'small' or 'large'")
    asked = chosen.sampler, chosen.diffusion, chosen.process or config.model.process.name
    if asked == ('euler_maruyama', 'process', 'interpolant'):
        raise ConfigError("config.sample.diffusion='process' is infinite where the interpolant ends: set it to 'sigma'")


def options(function: Callable, values: Mapping[str, Any], skip: int) -> dict[str, Any]:
    """Those of `values` that a function has parameters for, after the first `skip`."""
    return {name: values[name] for name in list(inspect.signature(function).parameters)[skip:] if name in values}


def pick(table: Mapping[str, Callable], chosen: ConfigDict, where: str) -> Any:
    """table[name](**options) of what is `named`."""
    function = choose(table, chosen.name, f'{where}.name')
    given = {key: value for key, value in chosen.items() if key != 'name'}
    known = {*inspect.signature(function).parameters}
    if unknown := sorted({*given} - known):
        raise ConfigError(
            f'{where}.{unknown[0]}: {chosen.name} has no such option; it has {", ".join(sorted(known)) or "none"}'
        )
    return function(**given)


def choose(table: Mapping[str, Any], name: str, where: str) -> Any:
    """table[name], or one line that says what there is."""
    if name not in table:
        raise ConfigError(f'{where}={name!r}: choose one of {", ".join(table)}')
    return table[name]


def _changed(where: str, defaults: dict, changes: dict) -> dict:
    if unknown := sorted({*changes} - {*defaults}):
        raise ConfigError(
            f'config.{where}.{unknown[0]} is no setting of a diffusion model; these are {", ".join(defaults)}'
        )
    return defaults | changes
