"""Diffusion models and flows (Ho et al. 2020; Karras et al. 2022; Kingma et al. 2021; Lipman et al. 2023): one player.

Terms of `denoiser`: the mean squared error of epsilon, x0, v, velocity and edm, whichever of them the network predicts: in
another one it is only weighed otherwise (diffusion.predictions). min_snr: the error of x0 times min(SNR, config.model.gamma)
(Hang et al. 2023). variance: the bound of one step, in bits a dimension times T / 1000, with a mean that is not trained, for
learned variances (Nichol & Dhariwal 2021, equation 16, weight 0.001). bound: the bound in continuous time, bits a dimension
(Kingma et al. 2021, equation 17)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab.diffusion import bounds, conditions, ode, predictions
from genlab.diffusion.guidance import keep_known
from genlab.diffusion.measures import measures
from genlab.diffusion.model import Model
from genlab.diffusion.processes import diffuse, log_snr
from genlab.diffusion.samplers import gaussian
from genlab.diffusion.settings import check_sampling
from genlab.errors import ConfigError
from genlab.experiment import Experiment, compose, shape
from genlab.losses.denoising import mean_squared_error


class Space(NamedTuple):
    """Where to diffuse, if not among the data themselves."""

    shape: tuple[int, ...]  # of one example of x there
    into: Callable  # (variables, batch, keys, train) -> (x [B, *shape], statistics of networks)
    out_of: Callable  # (variables, x [B, *shape]) -> what is made, [B, ...]
    networks: Callable  # batch -> {name: Network}, those that the two need
    trains: tuple[str, ...] = ()  # of which the denoiser's player keeps these


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """`config.model` and `config.sample`: see genlab.diffusion.settings."""
    networks, objectives, abilities = parts(config)
    return compose(config, axis, networks, objectives, **abilities)


def pixels(config: ConfigDict) -> Space:
    """The data as they are."""
    return Space(
        shape(config),
        into=lambda variables, batch, keys, train: (batch['x'], {}),
        out_of=lambda variables, x: x,
        networks=lambda batch: {},
    )


def parts(config: ConfigDict, space: Space | None = None) -> tuple[Callable, dict, dict]:
    """(batch -> networks, objectives, abilities) for `compose`, alone or among those of a larger experiment.

    With a space, what is made is what its `out_of` gives, and there are no codes and no likelihood of the data."""
    check(config)
    among_codes, space = space is not None, space or pixels(config)
    model, settings = Model(config, space.shape), config.model
    levels = 2 if config.data.binarise else 256
    measured = measures(model, levels)

    def condition(variables, batch):
        return conditions.told(settings, variables, batch)

    def nobody(variables, count):
        return conditions.untold(settings, variables, count)

    def sample(variables, keys, examples):
        """Told what the examples are told, or a class by chance."""
        told = condition(variables, examples) if examples else conditions.by_chance(settings, variables, keys)
        return space.out_of(variables, model.generate(variables, keys, told))

    def inpaint(variables, batch, mask, keys):
        """The batch with what is outside the mask (1: known) made anew."""
        known = space.into(variables, batch, keys, False)[0]
        between = lambda process: keep_known(process, known, coarse(mask, space.shape))
        return space.out_of(variables, model.generate(variables, keys, condition(variables, batch), between=between))

    def redraw(variables, batch, keys):
        """The batch with noise up to config.sample.strength of the end, made to data again (Meng et al. 2022)."""
        x0 = space.into(variables, batch, keys, False)[0]
        start = lambda process, keys: diffuse(
            process, x0, gaussian(keys, space.shape), jnp.asarray(process.end, jnp.float32)
        )
        told = condition(variables, batch)
        return space.out_of(variables, model.generate(variables, keys, told, start=start, part=config.sample.strength))

    def measure(variables, batch, keys):
        return measured(variables, {**batch, 'x': space.into(variables, batch, keys, False)[0]}, keys)

    def log_likelihood(variables, batch, keys):
        process, denoise = model.process(variables), model.denoiser(variables, condition(variables, batch))
        return ode.log_likelihood(denoise, process, batch['x'], keys, tolerance=config.sample.tolerance)

    def networks(batch):
        x = jnp.zeros((batch['x'].shape[0], *space.shape))
        return {
            **conditions.networks(settings, batch),
            **model.networks(x, conditions.blank(settings, batch)),
            **space.networks(batch),
        }

    def encode(variables, batch):
        return model.flow(variables, batch['x'], nobody(variables, batch['x'].shape[0]), forwards=True)

    trains = (
        'denoiser',
        *(('schedule',) if model.learned else ()),
        *(('text',) if settings.words else ()),
        *space.trains,
    )
    abilities = dict(sample=sample, measure=measure)
    if not settings.dimensions:
        abilities |= dict(redraw=redraw)
        if config.sample.sampler != 'ode':  # its steps are its own: nothing can be put back between them
            abilities |= dict(inpaint=inpaint)
    if not among_codes:
        abilities |= dict(
            prior=lambda variables, keys: model.noise(model.process(variables), keys),
            decode=lambda variables, noise: model.flow(variables, noise, nobody(variables, noise.shape[0])),
            encode=encode,
            log_likelihood=log_likelihood,
        )
    return networks, {'denoiser': (trains, training(model, space, levels))}, abilities


def training(model: Model, space: Space, levels: int) -> Callable:
    """The objective of the denoiser: (variables, batch, keys, step) -> (terms, statistics of networks)."""
    settings, bits = model.settings, 1 / (math.prod(space.shape) * math.log(2))

    def objective(variables, batch, keys, step):
        seen, augmentation = model.augment(batch['x'], keys)
        x0, statistics = space.into(variables, {**batch, 'x': seen}, keys, True)
        process, epsilon = model.process(variables), gaussian(keys, space.shape)
        t = model.draw_times(process, batch['position'], keys, step)
        x = diffuse(process, x0, epsilon, t)
        told = {**model.drop(conditions.told(settings, variables, batch, train=True), keys), **augmentation}
        deviation = settings.deviation or 1.0
        prediction, fraction = model.predict(variables, process, x, t, told, train=True, keys=keys)
        found = model.estimate(process, prediction, fraction, x, t)
        error = mean_squared_error(
            prediction, predictions.target(settings.prediction, process, x0, epsilon, t, deviation)
        )

        def weighed(name):
            return error * predictions.error_ratio(settings.prediction, name, process, t, deviation)

        def variance():
            steps = settings.times.steps
            fixed = found._replace(x0=jax.lax.stop_gradient(found.x0))
            return bits * steps**2 / 1000 * bounds.step(process, x0, x, fixed, t, t - 1 / steps, 'learned', levels)

        def bound():
            first = diffuse(process, x0, gaussian(keys, space.shape, 4), jnp.zeros(()))
            return bits * (
                bounds.prior(process, x0)
                + bounds.reconstruction(process, x0, first, levels)
                + process.end * bounds.continuous(process, epsilon, found, t)
            )

        terms = {name: lambda name=name: weighed(name) for name in predictions.PREDICTIONS}
        min_snr = lambda: jnp.minimum(jnp.exp(log_snr(process, t)), settings.gamma) * weighed('x0')
        return {**terms, 'min_snr': min_snr, 'variance': variance, 'bound': bound}, statistics

    return objective


def coarse(mask: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A mask [B, H, W, 1] at the sides of `shape`, 1 where it is 1 at all of its pixels there."""
    batch, height, width = mask.shape[0], *shape[:2]
    return mask.reshape(batch, height, mask.shape[1] // height, width, mask.shape[2] // width, 1).min((2, 4))


def check(config: ConfigDict) -> None:
    """Raises where parts of the config do not fit together."""
    check_sampling(config)
    model = config.model
    if model.bound not in ('none', 'discrete', 'continuous'):
        raise ConfigError(f"config.model.bound={model.bound!r}: choose 'none', 'discrete' or 'continuous'")
    if model.times.name != 'discrete' and (model.bound == 'discrete' or 'variance' in config.losses.denoiser):
        raise ConfigError(
            "a chain's bound needs its times: set config.model.times.name=discrete, or config.model.bound=none "
            'and no variance among config.losses.denoiser'
        )
    if model.learned_variance != ('variance' in config.losses.denoiser):
        raise ConfigError('config.losses.denoiser.variance and config.model.learned_variance=True need each other')
    if model.bound != 'none' and (config.data.dequantise or model.dimensions):
        raise ConfigError(f'config.model.bound={model.bound!r} is one of 8-bit levels: set it to none')
    if 'bound' in config.losses.denoiser and model.times.name != 'uniform':
        raise ConfigError('config.losses.denoiser.bound needs even times: set config.model.times.name=uniform')
