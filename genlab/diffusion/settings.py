"""The settings of diffusion models as plain values of a config: `config.model` and `config.sample`."""

from ml_collections import ConfigDict

from genlab import choices
from genlab.choices import named
from genlab.config import untyped
from genlab.diffusion import ode, processes, samplers, times
from genlab.errors import ConfigError, choose


def model(network: ConfigDict, **changes) -> dict:
    """Returns `config.model` of a diffusion model: epsilon-prediction of a discrete chain, but for the changes."""
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
            bound=named('none'),  # of the likelihood of 8-bit images: 'discrete' or 'continuous' of diffusion.measures
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
    """Returns `config.sample` of a diffusion model: DDIM in 50 even steps, but for the changes."""
    return _changed(
        'sample',
        dict(
            sampler=named('ddim'),  # diffusion.samplers and their keyword options, or 'ode'
            steps=50,
            grid=named('even'),  # diffusion.times.GRIDS and their keyword options
            process='',  # 've': solve in these coordinates, whatever the network was trained in
            clip=True,  # x_0 to [-1, 1]; points never
            guidance=1.0,  # scale; 1: none
            guidance_from=0.0,  # sigma / alpha above which there is guidance,
            guidance_to=float('inf'),  # and up to which
            progress=False,  # print on stderr which step is done
            count=64,
            chunk=64,
            condition=False,  # as of every model
            strength=0.6,  # image-to-image: the time to begin at, as a part of the end
        ),
        changes,
    )


SOLVERS = {**samplers.STEPS, 'ode': ode.integrate}
# Options whose values are names.
TABLES = {'variance': samplers.VARIANCES, 'diffusion': samplers.DIFFUSIONS, 'solver': ode.SOLVERS}


def check_sampling(config: ConfigDict) -> None:
    """Raises before training where `config.sample` names something unknown or does not suit the process."""
    chosen, where = config.sample, 'config.sample.sampler'
    choices.bind(SOLVERS, chosen.sampler, where)
    choices.bind(times.GRIDS, chosen.grid, 'config.sample.grid')
    options = choices.options(chosen.sampler)
    for name in options.keys() & TABLES.keys():
        choose(TABLES[name], options[name], f'{where}.{name}')
    if chosen.process:  # '': that of training
        choose(processes.PROCESSES, chosen.process, 'config.sample.process')
    if options.get('variance') == 'learned' and not config.model.learned_variance:
        raise ConfigError(f"{where}.variance='learned', but the network learns none: choose 'small' or 'large'")
    process = chosen.process or config.model.process.name
    finite = options.get('diffusion') == 'sigma' or process != 'interpolant'
    if chosen.sampler.name == 'euler_maruyama' and not finite:
        raise ConfigError(f"{where}.diffusion='process' is infinite where the interpolant ends: set it to 'sigma'")


def _changed(where: str, defaults: dict, changes: dict) -> dict:
    if unknown := sorted({*changes} - {*defaults}):
        raise ConfigError(
            f'config.{where}.{unknown[0]} is no setting of a diffusion model; these are {", ".join(defaults)}'
        )
    return defaults | changes
