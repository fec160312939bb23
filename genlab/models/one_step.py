"""Models that sample in one evaluation, trained from scratch: average velocities and consistency functions.

Geng et al. 2025; Frans et al. 2024; Song & Dhariwal 2024. `config.model.prediction` selects the kind. 'velocity' with
the process 'interpolant' is an average velocity. 'edm' with the process 've' is a consistency function.

For the arguments that all families share, see `genlab.models`.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab import choices, conditioning
from genlab.abilities import Batch, Variables
from genlab.conditioning import Condition
from genlab.config import ramp_steps
from genlab.data.source import example_shape
from genlab.diffusion import conditions, denoising, generation, one_step, times
from genlab.diffusion.measures import BOUNDS
from genlab.diffusion.model import TIMES, Model, make_model
from genlab.diffusion.processes import Process, diffuse, like
from genlab.diffusion.samplers import Sampler, solve
from genlab.errors import ConfigError
from genlab.losses.denoising import adaptive, mean_squared_error, pseudo_huber
from genlab.noise import normal, stream, uniform
from genlab.training.state import Network

MANY = 16  # steps of the sample that `measure` compares with a sample of one step


class OneStep(NamedTuple):
    """Holds a denoising network and the settings of its one-step training."""

    model: Model
    process: Process
    options: ConfigDict  # genlab.diffusion.one_step.settings
    steps: int  # evaluations per sample
    train_steps: int  # training steps of the run

    @property
    def averages(self) -> bool:
        """Tells whether the network is an average velocity. Otherwise it is a consistency function."""
        return self.model.settings.prediction == 'velocity'


def from_config(config: ConfigDict) -> OneStep:
    """Makes the model of `config.model`; see `settings` of genlab.diffusion.settings and genlab.diffusion.one_step."""
    check(config)
    model = make_model(config, example_shape(config))
    return OneStep(model, model.process({}), config.model.one_step, config.sample.steps, config.train.steps)


def networks(jumper: OneStep, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them."""
    span = {'span': jnp.zeros(batch['x'].shape[0])} if jumper.averages else {}
    condition = {**conditions.zeros(jumper.model.settings, batch), **span}
    return denoising.networks(jumper.model, batch['x'], condition)


def average_velocity(
    jumper: OneStep, variables: Variables, condition: Condition, train: bool = False, keys: jax.Array | None = None
) -> one_step.Average:
    """Returns the average velocity u(x, t, span) of the network. The span is embedded on the scale of the time.

    Args:
        jumper: the model.
        variables: network -> {collection: values}.
        condition: embedded condition, leaves [B, ...].
        train: whether to run the network in training mode.
        keys: dropout keys, one per example [B], or None.

    Returns:
        A function (x [B, ...], t [B], span [B]) -> u [B, ...].
    """
    scale = TIMES[jumper.model.settings.level]

    def average(x: jax.Array, t: jax.Array, span: jax.Array) -> jax.Array:
        given = {**condition, 'span': scale * span}
        return denoising.predict(jumper.model, variables, jumper.process, x, t, given, train, keys)[0]

    return average


def consistency_function(
    jumper: OneStep, variables: Variables, condition: Condition, train: bool = False, keys: jax.Array | None = None
) -> one_step.Consistency:
    """Returns the consistency function f(x, sigma) of the network.

    Args:
        jumper: the model.
        variables: network -> {collection: values}.
        condition: embedded condition, leaves [B, ...].
        train: whether to run the network in training mode.
        keys: dropout keys, one per example [B], or None.

    Returns:
        A function (x [B, ...], sigma [B]) -> x_0 [B, ...].
    """
    model = jumper.model

    def function(x: jax.Array, sigma: jax.Array) -> jax.Array:
        prediction = denoising.predict(model, variables, jumper.process, x, sigma, condition, train, keys)[0]
        return one_step.with_boundary(prediction, x, sigma, model.settings.deviation, jumper.options.lowest)

    return function


def terms(jumper: OneStep, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of the denoiser; see `velocity_terms` and `consistency_terms`."""
    model = jumper.model
    x0, epsilon = batch['x'], normal(keys, model.shape, 'noise')
    u = model.draw(batch['position'], keys, step)
    embedded = conditions.embed(model.settings, variables, _condition_of(jumper, batch))
    condition = conditions.drop(model.settings, embedded, keys)
    if jumper.averages:
        share = one_step.chosen(batch['position'], jumper.options.share)
        average = average_velocity(jumper, variables, condition, True, keys)
        return velocity_terms(jumper, average, x0, epsilon, keys, u, share), {}
    function = consistency_function(jumper, variables, condition, True, keys)
    return consistency_terms(jumper, function, x0, epsilon, u, step), {}


def velocity_terms(
    jumper: OneStep,
    average: one_step.Average,
    x0: jax.Array,
    epsilon: jax.Array,
    keys: jax.Array,
    u: jax.Array,
    share: jax.Array,
) -> dict[str, Callable[[], jax.Array]]:
    """Offers the terms of an average velocity.

    mean_flow: MeanFlow loss with adaptive weights; the target comes from the network's derivative along the path.
    mean_flow_error: the mean squared error behind mean_flow, a diagnostic.
    shortcut: mean squared error to two jumps of half the span, or to the velocity for examples without a span.
    velocity: mean squared error to the velocity alone, at span 0.

    Args:
        jumper: the model.
        average: the average velocity u(x, t, span).
        x0: data [B, ...].
        epsilon: noise [B, ...].
        keys: one key per example [B].
        u: uniform numbers [B] in [0, 1), which are mapped to times by the quantile function.
        share: bool [B], true for examples with a span.

    Returns:
        Terms by name, each a function that returns [B].
    """
    model, options = jumper.model, jumper.options
    process, v = jumper.process, epsilon - x0

    @functools.cache
    def mean_flow_error() -> jax.Array:
        other = uniform(keys, (), 'span')
        one, two = model.quantile(process, u), model.quantile(process, other)
        t = jnp.maximum(one, two)
        span = jnp.where(share, t - jnp.minimum(one, two), 0)
        return mean_squared_error(*one_step.mean_flow(average, diffuse(process, x0, epsilon, t), v, t, span))

    def mean_flow() -> jax.Array:
        return adaptive(math.prod(model.shape) * mean_flow_error(), power=options.power)

    def shortcut() -> jax.Array:
        draw = lambda key, u: one_step.draw_jump(key, u, options.halvings)
        far, span = jax.vmap(draw)(stream(keys, 'span'), u)
        t, span = jnp.where(share, far, model.quantile(process, u)), jnp.where(share, span, 0)
        x = diffuse(process, x0, epsilon, t)
        halves = one_step.shortcut_target(average, x, t, span, 0.5**options.halvings)
        return mean_squared_error(average(x, t, span), jnp.where(like(share, x), halves, v))

    def velocity() -> jax.Array:
        t = model.quantile(process, u)
        return mean_squared_error(average(diffuse(process, x0, epsilon, t), t, jnp.zeros_like(t)), v)

    return {'mean_flow': mean_flow, 'mean_flow_error': mean_flow_error, 'shortcut': shortcut, 'velocity': velocity}


def consistency_terms(
    jumper: OneStep,
    function: one_step.Consistency,
    x0: jax.Array,
    epsilon: jax.Array,
    u: jax.Array,
    step: jax.Array,
) -> dict[str, jax.Array]:
    """Offers the terms of a consistency function.

    consistency: weighted pseudo-Huber loss between student and teacher.
    consistency_error: the mean squared error behind it, a diagnostic.

    Args:
        jumper: the model.
        function: the consistency function f(x, sigma).
        x0: data [B, ...].
        epsilon: noise [B, ...].
        u: uniform numbers [B] in [0, 1), which select pairs of noise levels.
        step: number of the training step, which sets the number of intervals.

    Returns:
        Terms by name, [B] each.
    """
    model, options = jumper.model, jumper.options
    count, law = options.intervals, model.settings.times
    if isinstance(count, ConfigDict):
        length = ramp_steps(count, jumper.train_steps)
        count = one_step.intervals(jnp.maximum(step - count.begin, 0), length, count.start, count.end)
    larger, smaller = one_step.draw_pair(
        u, count, law.mean, law.deviation, lowest=options.lowest, highest=jumper.process.end, rho=options.rho
    )
    student, teacher = one_step.consistency(function, x0, epsilon, larger, smaller)
    width = options.width * math.sqrt(math.prod(model.shape))
    return {
        'consistency': pseudo_huber(student, teacher, width=width) / (larger - smaller),
        'consistency_error': mean_squared_error(student, teacher),
    }


def generate(
    jumper: OneStep, variables: Variables, x: jax.Array, condition: Condition, keys: jax.Array, steps: int
) -> jax.Array:
    """Maps noise to data in `steps` evaluations.

    Args:
        jumper: the model.
        variables: network -> {collection: values}.
        x: noise [N, ...].
        condition: embedded condition, leaves [N, ...].
        keys: one key per sample [N].
        steps: number of evaluations.

    Returns:
        Data [N, ...].
    """
    process, options = jumper.process, jumper.options
    if jumper.averages:
        grid = times.even(process, steps)
        return solve(Sampler(one_step.jump), average_velocity(jumper, variables, condition), process, x, grid, keys)
    grid = times.karras(process, steps + 1, lowest=options.lowest, rho=options.rho)[:-1]
    sampler = Sampler(functools.partial(one_step.denoise_again, lowest=options.lowest))
    return solve(sampler, consistency_function(jumper, variables, condition), process, x, grid, keys)


def sample(jumper: OneStep, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Samples one example per key."""
    embedded = conditions.embed(jumper.model.settings, variables, condition)
    return generate(jumper, variables, prior(jumper, variables, keys), embedded, keys, jumper.steps)


def prior(jumper: OneStep, variables: Variables, keys: jax.Array) -> jax.Array:
    """Draws codes: noise [N, ...] at the end of the process."""
    return generation.noise(jumper.model, jumper.process, keys)


def decode(jumper: OneStep, variables: Variables, noise: jax.Array) -> jax.Array:
    """Maps noise to data under the null condition. Noise added between steps is equal for all examples."""
    keys = jax.vmap(jax.random.key)(jnp.zeros(noise.shape[0], jnp.uint32))
    null = conditions.null(jumper.model.settings, variables, noise.shape[0])
    return generate(jumper, variables, noise, null, keys, jumper.steps)


def measure(jumper: OneStep, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures the mean squared errors denoising_error and jump_error.

    denoising_error: between the data and their estimate from x_t in one evaluation.
    jump_error: between samples of one step and of many steps; for average velocities only.
    """
    model, process = jumper.model, jumper.process
    embedded = conditions.embed(model.settings, variables, _condition_of(jumper, batch))
    t, epsilon = model.quantile(process, jax.vmap(jax.random.uniform)(keys)), normal(keys, model.shape, 'noise')
    x = diffuse(process, batch['x'], epsilon, t)
    if not jumper.averages:
        denoised = consistency_function(jumper, variables, embedded)(x, t)
        return {'denoising_error': mean_squared_error(denoised, batch['x'])}
    straight = x - like(t, x) * average_velocity(jumper, variables, embedded)(x, t, t)
    one, many = (generate(jumper, variables, epsilon, embedded, keys, steps) for steps in (1, MANY))
    return {
        'denoising_error': mean_squared_error(straight, batch['x']),
        'jump_error': mean_squared_error(one, many),
    }


def _condition_of(jumper: OneStep, batch: Batch) -> Condition:
    return conditioning.from_batch(conditions.declared(jumper.model.settings), batch)


def check(config: ConfigDict) -> None:
    """Raises ConfigError if parts of the config contradict each other."""
    model = config.model
    choices.bind(BOUNDS, model.bound, 'config.model.bound')
    if model.augmentation:
        raise ConfigError(
            f'config.model.augmentation={model.augmentation}: one-step models do not support it: set it to 0'
        )
    if (model.prediction, model.process.name) not in (('velocity', 'interpolant'), ('edm', 've')):
        raise ConfigError(
            f'config.model.prediction={model.prediction!r} with process {model.process.name!r}: set '
            "'velocity' with 'interpolant' (mean_flow, shortcut) or 'edm' with 've' (consistency)"
        )
    if model.prediction == 'edm' and (model.times.name != 'log_normal' or not model.deviation):
        raise ConfigError(
            'a consistency function needs log-normal times and a data deviation: set '
            'config.model.times.name=log_normal and config.model.deviation above 0'
        )
    if model.prediction == 'velocity' and (model.level not in TIMES or not model.network.get('span')):
        raise ConfigError(
            'an average velocity depends on times and spans: set config.model.level to time or unit_time, and '
            'config.model.network.span=True'
        )
