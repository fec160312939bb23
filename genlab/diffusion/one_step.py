"""Data in one evaluation, learned without a teacher: average velocities, shortcuts, consistency functions.

Two kinds of network. An average velocity u(x, t, span) of the flow dx/dt = v is its mean over the way from time t to t - span:

    x_{t - span} = x_t - span u(x_t, t, span),      u(x, t, 0) = v(x, t)

(Geng et al. 2025, section 4.1; Frans et al. 2024, section 3.1, both here from noise at t = 1 to data at 0). A consistency
function f(x, sigma) leads from any point of a path of EDM's flow to the data at its start (Song et al. 2023, section 3)."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from ml_collections import ConfigDict

from genlab.config import untyped
from genlab.diffusion.processes import like
from genlab.errors import ConfigError
from genlab.noise import normal

Average = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (x [B, ...], t [B], span [B]) -> u [B, ...]
Consistency = Callable[[jax.Array, jax.Array], jax.Array]  # (x [B, ...], sigma [B]) -> x_0 [B, ...]


def settings(**changes) -> ConfigDict:
    """`config.model.one_step`: each term takes what is its own."""
    defaults = dict(
        share=0.25,  # mean_flow: of examples with a span; shortcut: of those held to their own two halves
        power=1.0,  # mean_flow: of the adaptive weight
        halvings=7,  # shortcut: the shortest jump is 2^-halvings
        first=10,
        last=1280,  # consistency: intervals at the start of training and at its end
        lowest=0.002,
        rho=7.0,  # consistency: the lowest sigma, and how the grid is spaced
        width=0.00054,  # consistency: of the pseudo-Huber loss, for each square root of a dimension
    )
    if unknown := sorted({*changes} - {*defaults}):
        raise ConfigError(f'config.model.one_step.{unknown[0]} is no setting; these are {", ".join(defaults)}')
    return untyped(**defaults | changes)


def chosen(position: jax.Array, share: float) -> jax.Array:
    """Which examples [B] are among a share of the global batch: evenly spread over it, and never by the device they are on."""
    return jnp.floor((position + 1) * share) > jnp.floor(position * share)


def mean_flow(
    average: Average, x: jax.Array, v: jax.Array, t: jax.Array, span: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(u, its target v - span (v d_x u + d_t u)) at x_t = x and a time s = t - span that stays (Geng et al. 2025, eq. 10, 11).

    v: the velocity of the example, epsilon - x_0. The target is a constant."""
    s = t - span
    u, slope = jax.jvp(lambda x, t: average(x, t, t - s), (x, t), (v, jnp.ones_like(t)))
    return u, jax.lax.stop_gradient(v - like(span, x) * slope)


def shortcut_target(average: Average, x: jax.Array, t: jax.Array, span: jax.Array, shortest: float) -> jax.Array:
    """The mean of the velocities of two jumps of half the span (Frans et al. 2024, equation 5); a constant.

    The halves of the shortest span are taken along the velocity itself, u(x, t, 0)."""
    half = span / 2
    seen = jnp.where(span > shortest, half, 0)
    first = average(x, t, seen)
    second = average(x - like(half, x) * first, t - half, seen)
    return jax.lax.stop_gradient((first + second) / 2)


def draw_jump(key: jax.Array, u: jax.Array, halvings: int) -> tuple[jax.Array, jax.Array]:
    """(t, span) of one jump: the span an even power of two from 2^-halvings to 1, t a multiple of it, u in [0, 1) of them."""
    span = 0.5 ** jax.random.randint(key, (), 0, halvings + 1)
    return span * (jnp.floor(u / span) + 1), span


def jump(average: Average, process: Any, x: jax.Array, memory: Any, t: jax.Array, s: jax.Array, keys: jax.Array):
    """From t to s in one evaluation: a step for `samplers.solve`, whose denoiser is the average velocity."""
    t, span = (jnp.broadcast_to(value, x.shape[:1]) for value in (t, t - s))
    return x - like(span, x) * average(x, t, span), memory


def with_boundary(prediction: jax.Array, x: jax.Array, sigma: jax.Array, deviation: float, lowest: float) -> jax.Array:
    """f(x, sigma) = c_skip x + c_out prediction, which is x at the lowest sigma whatever the network says.

    c_skip = d^2 / ((sigma - lowest)^2 + d^2), c_out = d (sigma - lowest) / sqrt(sigma^2 + d^2) (Song et al. 2023, app. C)."""
    above = sigma - lowest
    skip = deviation**2 / (jnp.square(above) + deviation**2)
    out = deviation * above * jax.lax.rsqrt(jnp.square(sigma) + deviation**2)
    return like(skip, x) * x + like(out, x) * prediction


def intervals(step: jax.Array, steps: int, first: int, last: int) -> jax.Array:
    """Of sigma at a training step: doubled at even times from `first` to `last` (Song & Dhariwal 2024, section 3.4)."""
    each = max(steps // (math.floor(math.log2(last / first)) + 1), 1)
    return jnp.minimum(first * 2.0 ** (step // each), last)


def sigma_at(index: jax.Array, count: jax.Array, lowest: float, highest: float, rho: float) -> jax.Array:
    """The sigma of an index from 0 (lowest) to `count` (highest), even in its 1 / rho-th power (Karras et al. 2022, eq. 5)."""
    low, high = lowest ** (1 / rho), highest ** (1 / rho)
    return (low + index / count * (high - low)) ** rho


def draw_pair(
    u: jax.Array, count: jax.Array, mean: float, deviation: float, *, lowest: float, highest: float, rho: float
) -> tuple[jax.Array, jax.Array]:
    """Two neighbours (larger, smaller) of the grid of `count` intervals, for u [B] in [0, 1).

    An interval is as likely as that log(sigma), Gaussian, falls into it (Song & Dhariwal 2024, section 3.5): a draw between the
    lowest and the highest sigma is rounded down, for any number of intervals."""
    below, above = (ndtr((jnp.log(sigma) - mean) / deviation) for sigma in (lowest, highest))
    sigma = jnp.exp(mean + deviation * ndtri(below + u * (above - below)))
    low, high = lowest ** (1 / rho), highest ** (1 / rho)
    index = jnp.clip(jnp.floor((sigma ** (1 / rho) - low) / (high - low) * count), 0, count - 1)
    return tuple(sigma_at(place, count, lowest, highest, rho) for place in (index + 1, index))


def consistency(
    function: Consistency, x0: jax.Array, epsilon: jax.Array, larger: jax.Array, smaller: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(f at the larger sigma, what it says at the smaller one, as a constant), with the same noise.

    (Song & Dhariwal 2024, equation 5: the teacher has the very weights of the student, and no average of them.)"""
    student, teacher = (function(x0 + like(sigma, x0) * epsilon, sigma) for sigma in (larger, smaller))
    return student, jax.lax.stop_gradient(teacher)


def denoise_again(lowest: float):
    """Data at once, and noise again up to s: a step for `samplers.solve` (Song et al. 2023, algorithm 1).

    The denoiser is a consistency function; times end at the lowest sigma, to which no noise is added."""

    def step(function, process, x, memory, t, s, keys):
        x0 = function(x, jnp.broadcast_to(t, x.shape[:1]))
        return x0 + jnp.sqrt(jnp.maximum(s**2 - lowest**2, 0)) * normal(keys, x.shape[1:], 'noise'), memory

    return step
