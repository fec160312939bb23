"""Models of one evaluation, trained from scratch (Geng et al. 2025; Frans et al. 2024; Song & Dhariwal 2024): one player.

config.model.prediction says what the network is. 'velocity', of the interpolant: an average velocity, with the terms mean_flow
(its own derivative along the path), shortcut (its own two halves, and the plain velocity), and velocity (only that). 'edm', of
the process ve: a consistency function, with the term consistency. Weigh mean_flow_error or consistency_error with 0 to see
the mean squared error behind the weighted ones. Samples take config.sample.steps evaluations."""

import functools
import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab.diffusion import conditions, one_step, times
from genlab.diffusion.model import TIMES, Model
from genlab.diffusion.processes import diffuse, like
from genlab.diffusion.samplers import Sampler, gaussian, solve
from genlab.errors import ConfigError
from genlab.experiment import Experiment, compose, shape
from genlab.losses.denoising import adaptive, mean_squared_error, pseudo_huber

MANY = 16  # jumps, that `measure` holds one jump against


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """`config.model`: genlab.diffusion.settings, and `one_step` of genlab.diffusion.one_step."""
    check(config)
    model, settings, options = Model(config, shape(config)), config.model, config.model.one_step
    process, dimensions, averages = model.fixed, math.prod(shape(config)), settings.prediction == 'velocity'

    def average(variables, told, train=False, keys=None):
        """u(x, t, span) of the network, which sees the span as it sees the time."""
        scale = TIMES[settings.level]
        return lambda x, t, span: model.predict(variables, process, x, t, {**told, 'span': scale * span}, train, keys)[
            0
        ]

    def consistent(variables, told, train=False, keys=None):
        """f(x, sigma) of the network."""

        def function(x, sigma):
            prediction = model.predict(variables, process, x, sigma, told, train, keys)[0]
            return one_step.with_boundary(prediction, x, sigma, settings.deviation, options.lowest)

        return function

    def objective(variables, batch, keys, step):
        x0, epsilon = batch['x'], gaussian(keys, shape(config))
        u, share = model.draw_uniform(batch['position'], keys, step), one_step.chosen(batch['position'], options.share)
        told = model.drop(conditions.told(settings, variables, batch), keys)
        network = (average if averages else consistent)(variables, told, True, keys)
        menu = velocity_terms if averages else consistency_terms
        return menu(network, x0, epsilon, keys, u, share, step), {}

    def velocity_terms(u_of, x0, epsilon, keys, u, share, step):
        v = epsilon - x0

        @functools.cache
        def mean_flow_error():
            other = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 6)))(keys)
            one, two = model.quantile(process, u), model.quantile(process, other)
            t = jnp.maximum(one, two)
            span = jnp.where(share, t - jnp.minimum(one, two), 0)
            return mean_squared_error(*one_step.mean_flow(u_of, diffuse(process, x0, epsilon, t), v, t, span))

        def shortcut():
            far, span = jax.vmap(lambda key, u: one_step.draw_jump(jax.random.fold_in(key, 6), u, options.halvings))(
                keys, u
            )
            t, span = jnp.where(share, far, model.quantile(process, u)), jnp.where(share, span, 0)
            x = diffuse(process, x0, epsilon, t)
            halves = one_step.shortcut_target(u_of, x, t, span, 0.5**options.halvings)
            return mean_squared_error(u_of(x, t, span), jnp.where(like(share, x), halves, v))

        def velocity():
            t = model.quantile(process, u)
            return mean_squared_error(u_of(diffuse(process, x0, epsilon, t), t, jnp.zeros_like(t)), v)

        mean_flow = lambda: adaptive(dimensions * mean_flow_error(), power=options.power)
        return {'mean_flow': mean_flow, 'mean_flow_error': mean_flow_error, 'shortcut': shortcut, 'velocity': velocity}

    def consistency_terms(function, x0, epsilon, keys, u, share, step):
        count = one_step.intervals(step, config.train.steps, options.first, options.last)
        larger, smaller = one_step.draw_pair(
            u,
            count,
            settings.times.mean,
            settings.times.deviation,
            lowest=options.lowest,
            highest=process.end,
            rho=options.rho,
        )
        student, teacher = one_step.consistency(function, x0, epsilon, larger, smaller)
        width = options.width * math.sqrt(dimensions)
        return {
            'consistency': pseudo_huber(student, teacher, width=width) / (larger - smaller),
            'consistency_error': mean_squared_error(student, teacher),
        }

    def generate(variables, x, told, keys, steps):
        """Data of noise x in so many evaluations."""
        if averages:
            grid, step, network = times.even(process, steps), one_step.jump, average(variables, told)
        else:
            grid = times.karras(process, steps + 1, options.lowest, options.rho)[:-1]
            step, network = one_step.denoise_again(options.lowest), consistent(variables, told)
        return solve(Sampler(step), network, process, x, grid, keys)

    def sample(variables, keys, examples):
        """Labels as in the examples, or each by chance."""
        told = (
            conditions.told(settings, variables, examples)
            if examples
            else conditions.by_chance(settings, variables, keys)
        )
        return generate(variables, model.noise(process, keys), told, keys, config.sample.steps)

    def decode(variables, noise):
        """Of a consistency function in more than one step: with the same noise in between for all."""
        keys = jax.vmap(jax.random.key)(jnp.zeros(noise.shape[0], jnp.uint32))
        return generate(
            variables, noise, conditions.untold(settings, variables, noise.shape[0]), keys, config.sample.steps
        )

    def measure(variables, batch, keys):
        """denoising_error: of data from x_t in one evaluation. jump_error: one jump from noise to data against many."""
        told, u = conditions.told(settings, variables, batch), jax.vmap(jax.random.uniform)(keys)
        t, epsilon = model.quantile(process, u), gaussian(keys, shape(config))
        x = diffuse(process, batch['x'], epsilon, t)
        if not averages:
            return {'denoising_error': mean_squared_error(consistent(variables, told)(x, t), batch['x'])}
        straight = x - like(t, x) * average(variables, told)(x, t, t)
        one, many = (generate(variables, epsilon, told, keys, steps) for steps in (1, MANY))
        return {
            'denoising_error': mean_squared_error(straight, batch['x']),
            'jump_error': mean_squared_error(one, many),
        }

    def start(batch):
        told = {'span': jnp.zeros(batch['x'].shape[0])} if averages else {}
        return model.networks(batch['x'], {**conditions.blank(settings, batch), **told})

    return compose(
        config,
        axis,
        start,
        {'denoiser': (('denoiser',), objective)},
        sample=sample,
        measure=measure,
        prior=lambda variables, keys: model.noise(process, keys),
        decode=decode,
    )


def check(config: ConfigDict) -> None:
    """Raises where parts of the config do not fit together."""
    model = config.model
    if model.augmentation:
        raise ConfigError(
            f'config.model.augmentation={model.augmentation}: one-step models are trained without: set it to 0'
        )
    if (model.prediction, model.process.name) not in (('velocity', 'interpolant'), ('edm', 've')):
        raise ConfigError(
            f'config.model.prediction={model.prediction!r} with process {model.process.name!r}: here it is '
            "'velocity' with 'interpolant' (mean_flow, shortcut) or 'edm' with 've' (consistency)"
        )
    if model.prediction == 'edm' and (model.times.name != 'log_normal' or not model.deviation):
        raise ConfigError(
            'a consistency function needs config.model.times.name=log_normal and config.model.deviation above 0'
        )
    if model.prediction == 'velocity' and (model.level not in TIMES or not model.network.get('span')):
        raise ConfigError(
            'an average velocity is asked of times and spans: set config.model.level to time or unit_time, and '
            'config.model.network.span=True'
        )
