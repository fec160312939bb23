"""Metrics of a diffusion model on held-out data: the error of its estimates, and the variational bound.

epsilon_error: mean squared error of the noise. Its times are distributed as in the bound, or as in training if there is
no bound.
nll_bound: variational bound on the negative log-likelihood, nats per example. config.model.bound selects 'discrete' (a
chain, Ho et al. 2020, equation 5) or 'continuous' (Kingma et al. 2021, equation 11).

Both are estimated at config.model.bound_times times per example: u in [0, 1) has equal strata, and each stratum gives
one time.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genlab import choices
from genlab.abilities import Variables
from genlab.conditioning import Condition
from genlab.diffusion import bounds, denoising
from genlab.diffusion.denoising import EARLIEST
from genlab.diffusion.model import Model
from genlab.diffusion.predictions import Estimate
from genlab.diffusion.processes import Process, diffuse
from genlab.losses.denoising import mean_squared_error
from genlab.noise import normal, uniform


class Look(NamedTuple):
    """Holds data with noise, and the estimate of the model."""

    t: jax.Array  # times [B]
    x: jax.Array  # x_t [B, ...]
    epsilon: jax.Array  # noise of x_t [B, ...]
    found: Estimate  # estimate of x_0 and epsilon, given x_t


class Bound(NamedTuple):
    """Holds the functions that estimate a variational bound, in nats per example."""

    times: Callable[[Process, jax.Array], jax.Array]  # (process, u [B] in [0, 1)) -> times [B]
    diffusion: Callable[[Process, jax.Array, Look], jax.Array]  # -> [B]; its mean over u is the diffusion term
    # (process, x0, look_at, keys) -> the term of the first step [B]; look_at: (times [B], name of a stream) -> Look
    start: Callable[[Process, jax.Array, Callable[..., Look], jax.Array], jax.Array]


def measures(model: Model, levels: int) -> Callable[..., dict[str, jax.Array]]:
    """Returns the function that computes the metrics, for data of `levels` levels per value.

    The function maps (variables, x0 [B, ...], embedded condition, keys [B]) to {name: [B]}.
    """
    settings = model.settings
    chosen = choices.bind(BOUNDS, settings.bound, 'config.model.bound')(model, levels)

    def measure(variables: Variables, x0: jax.Array, condition: Condition, keys: jax.Array) -> dict[str, jax.Array]:
        process = model.process(variables)

        def look_at(t: jax.Array, name: str, number: int = 0) -> Look:
            epsilon = normal(keys, model.shape, name, number)
            x = diffuse(process, x0, epsilon, t)
            outputs = denoising.predict(model, variables, process, x, t, condition)
            return Look(t, x, epsilon, denoising.estimate(model, process, *outputs, x, t))

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

    def part(keys: jax.Array, number: int) -> jax.Array:
        """Draws u [B] in the `number`-th stratum of [0, 1)."""
        u = uniform(keys, (), 'bound_time', number)
        return (number + u) / settings.bound_times

    def mean(values: Iterable[jax.Array]) -> jax.Array:
        return sum(values) / settings.bound_times

    return measure


def discrete(model: Model, levels: int, *, variance: str = 'large') -> Bound:
    """Returns the bound in discrete time.

    `times` and `diffusion` estimate the steps from k / steps to (k - 1) / steps, k = 2 ... steps. `start` computes the
    step to data, k = 1.

    Args:
        model: the model, trained on discrete times.
        levels: number of levels per value of the data.
        variance: variance of the steps, 'small' or 'large'. It is ignored if the network learns the variance.

    Returns:
        The bound.
    """
    steps = model.settings.times.steps
    kind = 'learned' if model.settings.learned_variance else variance

    def step(process: Process, x0: jax.Array, look: Look, s: jax.Array) -> jax.Array:
        return bounds.step(process, x0, look.x, look.found, look.t, s, kind, levels)

    def first(process: Process, x0: jax.Array, look_at: Callable[..., Look], keys: jax.Array) -> jax.Array:
        t = jnp.full(keys.shape, 1 / steps)
        return step(process, x0, look_at(t, 'first_step'), jnp.zeros_like(t))

    return Bound(
        lambda process, u: (2 + jnp.floor(u * (steps - 1))) / steps,
        lambda process, x0, look: (steps - 1) * step(process, x0, look, look.t - 1 / steps),
        first,
    )


def continuous(model: Model, levels: int) -> Bound:
    """Returns the bound in continuous time. `start` computes the reconstruction term, at t = 0."""

    def start(process: Process, x0: jax.Array, look_at: Callable[..., Look], keys: jax.Array) -> jax.Array:
        z = diffuse(process, x0, normal(keys, model.shape, 'first_step'), jnp.zeros(()))
        return bounds.reconstruction(process, x0, z, levels)

    return Bound(
        lambda process, u: jnp.maximum(u, EARLIEST) * process.end,
        lambda process, x0, look: process.end * bounds.continuous(process, look.epsilon, look.found, look.t),
        start,
    )


def none(model: Model, levels: int) -> Bound:
    """Returns the distribution of training times, without a bound: all terms are 0."""
    nothing = lambda *given: jnp.zeros(())
    return Bound(model.quantile, nothing, nothing)


BOUNDS: dict[str, Callable[..., Bound]] = {'none': none, 'discrete': discrete, 'continuous': continuous}
