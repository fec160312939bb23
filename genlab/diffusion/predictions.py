"""The quantities that a network can predict, and their conversion. Every prediction is some a(t) x_0 + b(t) epsilon.

Together with x_t = alpha x_0 + sigma epsilon this gives two equations for x_0 and epsilon. An error d of the prediction
is an error d sigma / (a sigma - b alpha) of x_0. So the squared errors of two predictions differ only by a factor that
depends on t. Weighting the loss by the signal-to-noise ratio, or as EDM does, equals measuring the error of another
prediction (Salimans & Ho 2022, section 4).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genlab.diffusion.processes import Process, like, rates


class Estimate(NamedTuple):
    """Holds the estimates of a denoiser given x_t: the expected x_0 and epsilon, [B, ...] each."""

    x0: jax.Array
    epsilon: jax.Array
    # [B, ...]: the log-variance of a step between the smallest (0) and the largest (1); None: it is not learned.
    fraction: jax.Array | None = None
    unclipped: jax.Array | None = None  # [B, ...]: epsilon before x_0 was clipped; None: it was not


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
    """Returns a and b of (x_0 - c_skip x_t) / c_out, the prediction of EDM.

    c_skip = alpha d^2 / s^2, c_out = sigma d / s, s^2 = alpha^2 d^2 + sigma^2, d the standard deviation of the data.
    """
    alpha, sigma = process.alpha(t), process.sigma(t)
    scale = jnp.sqrt(jnp.square(alpha * deviation) + jnp.square(sigma))
    return sigma / (scale * deviation), -alpha * deviation / scale


# name -> function (process, t, standard deviation of the data) -> (a, b).
# epsilon: Ho et al. 2020, equation 14.
# v = alpha epsilon - sigma x_0: Salimans & Ho 2022, section 4.
# velocity = dx_t / dt: Lipman et al. 2023, equation 14; epsilon - x_0 for the interpolant.
# edm: Karras et al. 2022, table 1; its target has unit variance.
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
    """Computes the target of a network that predicts `name`: a x_0 + b epsilon.

    Args:
        name: a name of PREDICTIONS.
        process: the process.
        x0: data [B, ...].
        epsilon: noise of x_t, [B, ...].
        t: times [B] or [].
        deviation: standard deviation of the data; only 'edm' uses it.

    Returns:
        Targets [B, ...].
    """
    a, b = PREDICTIONS[name](process, t, deviation)
    return like(a, x0) * x0 + like(b, x0) * epsilon


def estimate(
    name: str, process: Process, prediction: jax.Array, x: jax.Array, t: jax.Array, deviation: float = 1.0
) -> Estimate:
    """Converts a prediction of `name` to an estimate of x_0 and epsilon.

    A prediction of epsilon does not determine x_0 where alpha is 0. A prediction of x_0 does not determine epsilon
    where sigma is 0. The other predictions always determine both.

    Args:
        name: a name of PREDICTIONS.
        process: the process.
        prediction: prediction of the network [B, ...].
        x: x_t [B, ...].
        t: times [B] or [].
        deviation: standard deviation of the data; only 'edm' uses it.

    Returns:
        The estimate.
    """
    a, b = (like(value, x) for value in PREDICTIONS[name](process, t, deviation))
    alpha, sigma = like(process.alpha(t), x), like(process.sigma(t), x)
    determinant = b * alpha - a * sigma
    return Estimate((b * x - sigma * prediction) / determinant, (alpha * prediction - a * x) / determinant)


def error_ratio(name: str, other: str, process: Process, t: jax.Array, deviation: float = 1.0) -> jax.Array:
    """Computes the ratio of the squared error of `other` to the squared error of `name`, given the exact x_t.

    Args:
        name: prediction of the network, a name of PREDICTIONS.
        other: prediction to measure the error in, a name of PREDICTIONS.
        process: the process.
        t: times of any shape.
        deviation: standard deviation of the data; only 'edm' uses it.

    Returns:
        Ratios, of the shape of t.
    """
    (a, b), (c, d) = (PREDICTIONS[which](process, t, deviation) for which in (name, other))
    alpha, sigma = process.alpha(t), process.sigma(t)
    return jnp.ones_like(t) if name == other else jnp.square((c * sigma - d * alpha) / (a * sigma - b * alpha))


def velocity(process: Process, estimate: Estimate, t: jax.Array) -> jax.Array:
    """Computes dx_t / dt of the probability-flow ODE: alpha' x_0 + sigma' epsilon.

    (Song et al. 2021, equation 13; Ma et al. 2024, equation 4.)

    Args:
        process: the process.
        estimate: estimate of x_0 and epsilon, [B, ...] each.
        t: times [B] or [].

    Returns:
        Velocities [B, ...].
    """
    slopes = rates(process, t)
    return like(slopes[0], estimate.x0) * estimate.x0 + like(slopes[1], estimate.x0) * estimate.epsilon
