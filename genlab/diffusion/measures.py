"""What is measured of a diffusion model on held-out data: the error of its estimates, and the variational bound.

epsilon_error: the mean squared error of the noise, at times as in training or as the bound weighs them. nll_bound: nats an
example, for config.model.bound 'discrete' (a chain's, Ho et al. 2020, equation 5) or 'continuous' (Kingma et al. 2021,
equation 11). Both are estimated at config.model.bound_times times an example, one in each equal part of all times."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genlab import choices
from genlab.diffusion import bounds
from genlab.diffusion.model import EARLIEST, Model
from genlab.diffusion.predictions import Estimate
from genlab.diffusion.processes import Process, diffuse
from genlab.losses.denoising import mean_squared_error
from genlab.noise import normal, uniform


class Look(NamedTuple):
    """Data with noise, and what the model makes of them."""

    t: jax.Array  # [B]
    x: jax.Array  # x_t [B, ...]
    epsilon: jax.Array  # its noise
    found: Estimate


class Bound(NamedTuple):
    times: Callable  # (process, u [B] in [0, 1)) -> times [B]
    diffusion: Callable  # (process, x0, Look at such a time) -> [B], whose mean over u is the diffusion part
    start: Callable  # (process, x0, look_at, keys) -> [B], that of the first step; look_at: (times [B], stream) -> Look


def measures(model: Model, levels: int) -> Callable:
    """(variables, x0 [B, ...], embedded condition, keys [B]) -> {name: [B]}, for data of `levels` levels per value."""
    settings = model.settings
    chosen = choices.bind(BOUNDS, settings.bound, 'config.model.bound')(model, levels)

    def measure(variables, x0, condition, keys):
        process = model.process(variables)

        def look_at(t, name, number=0):
            epsilon = normal(keys, model.shape, name, number)
            x = diffuse(process, x0, epsilon, t)
            prediction = model.predict(variables, process, x, t, condition)
            return Look(t, x, epsilon, model.estimate(process, *prediction, x, t))

        looks = [
            look_at(chosen.times(process, part(keys, number)), 'bound_noise', number)
            for number in range(settings.bound_times)
        ]
        error = mean(mean_squared_error(look.found.epsilon, look.epsilon) for look in looks)
        if settings.bound.name == 'none':
            return {'epsilon_error': error}
        diffusion = mean(chosen.diffusion(process, x0, look) for look in looks)
        rest = bounds.prior(process, x0) + chosen.start(process, x0, look_at, keys)
        return {'epsilon_error': error, 'nll_bound': diffusion + rest}

    def part(keys, number):
        """u [B] in the `number`-th part of [0, 1)."""
        u = uniform(keys, (), 'bound_time', number)
        return (number + u) / settings.bound_times

    def mean(values):
        return sum(values) / settings.bound_times

    return measure


def discrete(model: Model, levels: int, *, variance: str = 'large') -> Bound:
    """Returns the bound of a chain: all steps but the first at times k / steps, k from 2 on, and the first.

    variance: of the steps, 'small' or 'large', unless the network learns it.
    """
    steps = model.settings.times.steps
    kind = 'learned' if model.settings.learned_variance else variance

    def step(process: Process, x0, look: Look, s):
        return bounds.step(process, x0, look.x, look.found, look.t, s, kind, levels)

    def first(process, x0, look_at, keys):
        t = jnp.full(keys.shape, 1 / steps)
        return step(process, x0, look_at(t, 'first_step'), jnp.zeros_like(t))

    return Bound(
        lambda process, u: (2 + jnp.floor(u * (steps - 1))) / steps,
        lambda process, x0, look: (steps - 1) * step(process, x0, look, look.t - 1 / steps),
        first,
    )


def continuous(model: Model, levels: int) -> Bound:
    """Of continuous times, and of the data given x_0 with the noise that it starts with."""

    def start(process, x0, look_at, keys):
        z = diffuse(process, x0, normal(keys, model.shape, 'first_step'), jnp.zeros(()))
        return bounds.reconstruction(process, x0, z, levels)

    return Bound(
        lambda process, u: jnp.maximum(u, EARLIEST) * process.end,
        lambda process, x0, look: process.end * bounds.continuous(process, look.epsilon, look.found, look.t),
        start,
    )


def none(model: Model, levels: int) -> Bound:
    """The times of training, and no bound."""
    nothing = lambda *given: jnp.zeros(())
    return Bound(model.quantile, nothing, nothing)


BOUNDS = {'none': none, 'discrete': discrete, 'continuous': continuous}
