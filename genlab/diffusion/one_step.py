"""One-step models, trained without a pretrained teacher: average velocities, shortcuts, consistency functions.

There are two kinds of network. An average velocity u(x, t, span) belongs to a flow dx/dt = v. It is the mean of v along
the path from time t to t - span:

    x_{t - span} = x_t - span u(x_t, t, span),      u(x, t, 0) = v(x, t)

(Geng et al. 2025, section 4.1; Frans et al. 2024, section 3.1). Here, noise is at t = 1 and data are at t = 0.

A consistency function f(x, sigma) maps each point of a path of EDM's probability-flow ODE to the data at its start
(Song et al. 2023, section 3).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from ml_collections import ConfigDict

from genlab import choices
from genlab.config import untyped
from genlab.diffusion.processes import like
from genlab.diffusion.samplers import Inputs, Moved
from genlab.noise import normal

Average = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (x [B, ...], t [B], span [B]) -> u [B, ...]
Consistency = Callable[[jax.Array, jax.Array], jax.Array]  # (x [B, ...], sigma [B]) -> x_0 [B, ...]


def settings(**changes: Any) -> ConfigDict:
    """Returns `config.model.one_step`, with changes of the defaults. Each term reads only its own settings."""
    defaults: dict[str, Any] = dict(
        share=0.25,  # mean_flow: share of examples with a span > 0; shortcut: share trained on two half jumps
        power=1.0,  # mean_flow: power of the adaptive weight
        halvings=7,  # shortcut: the shortest span is 2^-halvings
        intervals=1280.0,  # consistency: number of intervals: a number, or a ramp(), along which it doubles
        lowest=0.002,  # consistency: lowest sigma
        rho=7.0,  # consistency: the grid is even in sigma^(1 / rho)
        width=0.00054,  # consistency: width of the pseudo-Huber loss, divided by the square root of the dimension
    )
    return untyped(**choices.filled('config.model.one_step', defaults, changes))


def chosen(position: jax.Array, share: float) -> jax.Array:
    """Selects a share of the global batch: bool [B].

    The selected examples are evenly spread over the global batch. The selection does not depend on the number of
    devices.

    position: positions in the global batch, int [B]. share: share of selected examples, in [0, 1].
    """
    return jnp.floor((position + 1) * share) > jnp.floor(position * share)


def mean_flow(
    average: Average, x: jax.Array, v: jax.Array, t: jax.Array, span: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Computes the average velocity and its target v - span (v d_x u + d_t u) (Geng et al. 2025, equations 10 and 11).

    The derivatives keep the end s = t - span of the path fixed.

    Args:
        average: average velocity u.
        x: x_t [B, ...].
        v: conditional velocity epsilon - x_0, [B, ...].
        t: times [B].
        span: spans [B], in [0, t].

    Returns:
        u [B, ...], and its target [B, ...] with gradients stopped.
    """
    s = t - span
    u, slope = jax.jvp(lambda x, t: average(x, t, t - s), (x, t), (v, jnp.ones_like(t)))
    return u, jax.lax.stop_gradient(v - like(span, x) * slope)


def shortcut_target(average: Average, x: jax.Array, t: jax.Array, span: jax.Array, shortest: float) -> jax.Array:
    """Computes the mean of the average velocities of two jumps of half the span (Frans et al. 2024, equation 5).

    The halves of the shortest span follow the velocity u(x, t, 0) instead.

    Args:
        average: average velocity u.
        x: x_t [B, ...].
        t: times [B].
        span: spans [B], in [0, t].
        shortest: shortest span.

    Returns:
        Targets [B, ...] with gradients stopped.
    """
    half = span / 2
    seen = jnp.where(span > shortest, half, 0)
    first = average(x, t, seen)
    second = average(x - like(half, x) * first, t - half, seen)
    return jax.lax.stop_gradient((first + second) / 2)


def draw_jump(key: jax.Array, u: jax.Array, halvings: int) -> tuple[jax.Array, jax.Array]:
    """Draws the time and the span of one jump.

    The span is uniform over the powers of two from 2^-halvings to 1. The time is uniform over the multiples of the span
    in (0, 1].

    Args:
        key: key of the span.
        u: uniform number [] in [0, 1), which selects the time.
        halvings: the shortest span is 2^-halvings.

    Returns:
        The time [] and the span [].
    """
    span = 0.5 ** jax.random.randint(key, (), 0, halvings + 1)
    return span * (jnp.floor(u / span) + 1), span


def jump(inputs: Inputs) -> Moved:
    """Computes a step from t to s in one evaluation, for `samplers.solve`.

    The inputs hold the average velocity in place of the denoiser. Their process and keys are ignored.
    """
    average, _, x, memory, t, s, _ = inputs
    t, span = (jnp.broadcast_to(value, x.shape[:1]) for value in (t, t - s))
    return x - like(span, x) * average(x, t, span), memory


def with_boundary(prediction: jax.Array, x: jax.Array, sigma: jax.Array, deviation: float, lowest: float) -> jax.Array:
    """Computes the consistency function f(x, sigma) = c_skip x + c_out prediction (Song et al. 2023, appendix C).

    c_skip = d^2 / ((sigma - lowest)^2 + d^2), c_out = d (sigma - lowest) / sqrt(sigma^2 + d^2). At the lowest sigma, f
    is x for any prediction.

    Args:
        prediction: estimate of x_0 by the network, [B, ...].
        x: x_0 + sigma epsilon, [B, ...].
        sigma: noise levels [B].
        deviation: standard deviation d of the data.
        lowest: lowest sigma.

    Returns:
        f(x, sigma) [B, ...].
    """
    above = sigma - lowest
    skip = deviation**2 / (jnp.square(above) + deviation**2)
    out = deviation * above * jax.lax.rsqrt(jnp.square(sigma) + deviation**2)
    return like(skip, x) * x + like(out, x) * prediction


def intervals(step: jax.Array, steps: int, first: int, last: int) -> jax.Array:
    """Computes the number of intervals of sigma at a training step (Song & Dhariwal 2024, section 3.4).

    The number doubles at equal distances, from `first` to at most `last`.

    Args:
        step: number of the training step, [].
        steps: number of training steps over which the number doubles.
        first: number of intervals at the start.
        last: largest number of intervals.

    Returns:
        The number of intervals [].
    """
    each = max(steps // (math.floor(math.log2(last / first)) + 1), 1)
    return jnp.minimum(first * 2.0 ** (step // each), last)


def sigma_at(index: jax.Array, count: jax.Array, lowest: float, highest: float, rho: float) -> jax.Array:
    """Computes the sigma of an index of the grid, which is even in sigma^(1 / rho) (Karras et al. 2022, equation 5).

    Args:
        index: indices from 0 (lowest sigma) to `count` (highest sigma), of any shape.
        count: number of intervals [].
        lowest: lowest sigma.
        highest: highest sigma.
        rho: exponent of the spacing.

    Returns:
        Noise levels, of the shape of index.
    """
    low, high = lowest ** (1 / rho), highest ** (1 / rho)
    return (low + index / count * (high - low)) ** rho


def draw_pair(
    u: jax.Array, count: jax.Array, mean: float, deviation: float, *, lowest: float, highest: float, rho: float
) -> tuple[jax.Array, jax.Array]:
    """Draws two neighbouring noise levels of the grid of `count` intervals.

    The probability of an interval is the mass of a Gaussian log(sigma) in it (Song & Dhariwal 2024, section 3.5). The
    Gaussian, truncated to the lowest and the highest sigma, is sampled and rounded down to the grid. This works for any
    number of intervals.

    Args:
        u: uniform numbers [B] in [0, 1), which select the intervals.
        count: number of intervals [].
        mean: mean of log(sigma).
        deviation: standard deviation of log(sigma).
        lowest: lowest sigma.
        highest: highest sigma.
        rho: exponent of the spacing.

    Returns:
        The larger and the smaller noise levels, [B] each.
    """
    below, above = (ndtr((jnp.log(sigma) - mean) / deviation) for sigma in (lowest, highest))
    sigma = jnp.exp(mean + deviation * ndtri(below + u * (above - below)))
    low, high = lowest ** (1 / rho), highest ** (1 / rho)
    index = jnp.clip(jnp.floor((sigma ** (1 / rho) - low) / (high - low) * count), 0, count - 1)
    larger, smaller = (sigma_at(place, count, lowest, highest, rho) for place in (index + 1, index))
    return larger, smaller


def consistency(
    function: Consistency, x0: jax.Array, epsilon: jax.Array, larger: jax.Array, smaller: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Evaluates the consistency function at two noise levels of the same noise (Song & Dhariwal 2024, equation 5).

    The teacher has the current weights of the student, not a moving average of them.

    Args:
        function: consistency function f.
        x0: data [B, ...].
        epsilon: noise [B, ...].
        larger: noise levels of the student [B].
        smaller: noise levels of the teacher [B].

    Returns:
        f at the larger noise level [B, ...], and f at the smaller one [B, ...] with gradients stopped.
    """
    student, teacher = (function(x0 + like(sigma, x0) * epsilon, sigma) for sigma in (larger, smaller))
    return student, jax.lax.stop_gradient(teacher)


def denoise_again(inputs: Inputs, *, lowest: float) -> Moved:
    """Maps to data and adds noise up to s, for `samplers.solve` (Song et al. 2023, algorithm 1).

    inputs: hold a consistency function in place of the denoiser. lowest: lowest sigma, the last of the times. There no
    noise is added.
    """
    function, _, x, memory, t, s, keys = inputs
    x0 = function(x, jnp.broadcast_to(t, x.shape[:1]))
    return x0 + jnp.sqrt(jnp.maximum(s**2 - lowest**2, 0)) * normal(keys, x.shape[1:], 'noise'), memory
