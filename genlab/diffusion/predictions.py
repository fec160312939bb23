"""What a network may predict, and what follows from it: every prediction is some a(t) x_0 + b(t) epsilon.

With x_t = alpha x_0 + sigma epsilon these are two equations for x_0 and epsilon. An error d of the prediction is an error
d sigma / (a sigma - b alpha) of x_0, so the squared errors of two predictions differ by a factor of t alone: to weigh the loss
by the signal-to-noise ratio, or as EDM does, is to measure it in another prediction (Salimans & Ho 2022, section 4)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genlab.diffusion.processes import Process, like, rates


class Estimate(NamedTuple):
    """What is expected of x_0 and epsilon, given x_t; [B, ...] each."""

    x0: jax.Array
    epsilon: jax.Array
    fraction: jax.Array | None = (
        None  # of the step's log-variance, from the smallest (0) to the largest (1), if learned
    )


Denoiser = Callable[[jax.Array, jax.Array], Estimate]  # (x_t [B, ...], t [] or [B]) -> Estimate
Pair = tuple[jax.Array, jax.Array]  # (a, b), of the shape of t


def _epsilon(process: Process, t: jax.Array, deviation: float) -> Pair:
    return jnp.zeros_like(t), jnp.ones_like(t)


def _x0(process: Process, t: jax.Array, deviation: float) -> Pair:
    return jnp.ones_like(t), jnp.zeros_like(t)


def _v(process: Process, t: jax.Array, deviation: float) -> Pair:
    return -process.sigma(t), process.alpha(t)


def _velocity(process: Process, t: jax.Array, deviation: float) -> Pair:
    return rates(process, t)


def _edm(process: Process, t: jax.Array, deviation: float) -> Pair:
    """(x_0 - c_skip x_t) / c_out with c_skip = alpha d^2 / s^2, c_out = sigma d / s, s^2 = alpha^2 d^2 + sigma^2."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    scale = jnp.sqrt(jnp.square(alpha * deviation) + jnp.square(sigma))
    return sigma / (scale * deviation), -alpha * deviation / scale


# name -> function (process, t, the data's deviation) -> (a, b).
# epsilon: Ho et al. 2020, equation 14. v = alpha epsilon - sigma x_0: Salimans & Ho 2022, section 4. velocity = dx_t / dt:
# Lipman et al. 2023, equation 14; of the interpolant epsilon - x_0. edm: Karras et al. 2022, table 1, of target variance 1.
PREDICTIONS: dict[str, Callable[[Process, jax.Array, float], Pair]] = {
    'epsilon': _epsilon,
    'x0': _x0,
    'v': _v,
    'velocity': _velocity,
    'edm': _edm,
}


def target(
    name: str, process: Process, x0: jax.Array, epsilon: jax.Array, t: jax.Array, deviation: float = 1.0
) -> jax.Array:
    """What a network that predicts `name` should say: a x_0 + b epsilon, [B, ...]."""
    a, b = PREDICTIONS[name](process, t, deviation)
    return like(a, x0) * x0 + like(b, x0) * epsilon


def estimate(
    name: str, process: Process, prediction: jax.Array, x: jax.Array, t: jax.Array, deviation: float = 1.0
) -> Estimate:
    """x_0 and epsilon of a prediction [B, ...] of `name` at x_t = x [B, ...].

    Epsilon alone says nothing of x_0 where alpha is 0, nor x_0 of epsilon where sigma is 0; the others always say both."""
    a, b = (like(value, x) for value in PREDICTIONS[name](process, t, deviation))
    alpha, sigma = like(process.alpha(t), x), like(process.sigma(t), x)
    determinant = b * alpha - a * sigma
    return Estimate((b * x - sigma * prediction) / determinant, (alpha * prediction - a * x) / determinant)


def error_ratio(name: str, other: str, process: Process, t: jax.Array, deviation: float = 1.0) -> jax.Array:
    """How much larger the squared error is in `other` than in `name` where x_t is known exactly; of the shape of t."""
    (a, b), (c, d) = (PREDICTIONS[which](process, t, deviation) for which in (name, other))
    alpha, sigma = process.alpha(t), process.sigma(t)
    return jnp.ones_like(t) if name == other else jnp.square((c * sigma - d * alpha) / (a * sigma - b * alpha))


def velocity(process: Process, estimate: Estimate, t: jax.Array) -> jax.Array:
    """dx_t / dt along the probability flow: alpha' x_0 + sigma' epsilon (Song et al. 2021, eq. 13; Ma et al. 2024, eq. 4)."""
    slopes = rates(process, t)
    return like(slopes[0], estimate.x0) * estimate.x0 + like(slopes[1], estimate.x0) * estimate.epsilon
