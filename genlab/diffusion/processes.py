"""Processes that mix data and noise: x_t = alpha(t) x_0 + sigma(t) epsilon, epsilon ~ N(0, 1), t in [0, end].

t = 0 is data, t = end is noise. The log-SNR 2 log(alpha / sigma) falls with t. At equal log-SNR, two processes differ
only in scale. So a network that was trained under one process can be sampled under another (Kingma et al. 2021, section
5; Karras et al. 2022, section 2).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Process(NamedTuple):
    """Holds the functions of a process. They are elementwise and accept any shape."""

    alpha: Callable[[jax.Array], jax.Array]  # t -> scale of the data, 1 at t = 0
    sigma: Callable[[jax.Array], jax.Array]  # t -> scale of the noise, increasing
    time: Callable[[jax.Array], jax.Array]  # log-SNR -> t
    end: float = 1.0  # time of (nearly) pure noise
    chain: int = 0  # the network knows the times k / chain of the end only, k = 1 ... chain; 0: all times


def log_snr(process: Process, t: jax.Array) -> jax.Array:
    """Computes log(alpha^2 / sigma^2). It is infinite where there is no noise."""
    return 2 * (jnp.log(process.alpha(t)) - jnp.log(process.sigma(t)))


def rates(process: Process, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes the derivatives (d alpha / dt, d sigma / dt), of the shape of t."""
    t = jnp.asarray(t, jnp.float32)
    return tuple(jax.jvp(function, (t,), (jnp.ones_like(t),))[1] for function in (process.alpha, process.sigma))


def like(values: jax.Array, x: jax.Array) -> jax.Array:
    """Appends axes to values [B], one per example, so that they broadcast to x [B, ...]. A scalar stays as it is."""
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim)) if values.ndim else values


def diffuse(process: Process, x0: jax.Array, epsilon: jax.Array, t: jax.Array) -> jax.Array:
    """Computes x_t = alpha(t) x_0 + sigma(t) epsilon.

    Args:
        process: the process.
        x0: data [B, ...].
        epsilon: noise [B, ...].
        t: times [B] or [].

    Returns:
        x_t [B, ...].
    """
    return like(process.alpha(t), x0) * x0 + like(process.sigma(t), x0) * epsilon


def from_betas(betas: np.ndarray) -> Process:
    """Makes the chain q(x_k | x_{k-1}) = N(sqrt(1 - beta_k) x_{k-1}, beta_k) at t = k / T (Ho et al. 2020, section 2).

    Between these times log alpha^2 is linear, so that networks and solvers can use continuous times too.
    """
    table = np.concatenate([[0.0], np.cumsum(np.log1p(-np.asarray(betas, np.float64)))])
    times = np.linspace(0, 1, len(table))

    def log_alpha_squared(t: jax.Array) -> jax.Array:
        return jnp.interp(t, times, table)

    return Process(
        lambda t: jnp.exp(log_alpha_squared(t) / 2),
        lambda t: jnp.sqrt(-jnp.expm1(log_alpha_squared(t))),
        lambda log_snr: jnp.interp(-jax.nn.log_sigmoid(log_snr), -table, times),
    )


def linear(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Process:
    """Makes the chain of linear betas (Ho et al. 2020, section 4).

    Args:
        steps: number of steps.
        first: first beta of a chain of 1,000 steps.
        last: last beta of a chain of 1,000 steps. Other chains scale both by 1000 / steps, up to 0.999.

    Returns:
        The process.
    """
    return from_betas(np.minimum(np.linspace(first, last, steps) * 1000 / steps, 0.999))


def cosine(steps: int = 1000, offset: float = 0.008) -> Process:
    """Makes the cosine chain: alpha^2 = cos^2((t + s) / (1 + s) pi / 2), divided by its value at 0; s is `offset`.

    (Nichol & Dhariwal 2021, equation 17.) Betas are at most 0.999.
    """
    curve = np.cos((np.linspace(0, 1, steps + 1) + offset) / (1 + offset) * np.pi / 2) ** 2
    return from_betas(np.minimum(1 - curve[1:] / curve[:-1], 0.999))


def vp(lowest: float = 0.1, highest: float = 20.0) -> Process:
    """Makes the variance-preserving SDE with beta(t) = lowest + t (highest - lowest) (Song et al. 2021, appendix C)."""
    slope = highest - lowest

    def log_alpha(t: jax.Array) -> jax.Array:
        return -t * (lowest + slope * t / 2) / 2

    def time(log_snr: jax.Array) -> jax.Array:
        integral = jax.nn.softplus(-log_snr)  # integral of beta; equals -log alpha^2
        return 2 * integral / (lowest + jnp.sqrt(lowest**2 + 2 * slope * integral))

    return Process(lambda t: jnp.exp(log_alpha(t)), lambda t: jnp.sqrt(-jnp.expm1(2 * log_alpha(t))), time)


def ve(highest: float = 80.0) -> Process:
    """Makes the variance-exploding process alpha = 1, sigma = t, up to `highest` (Karras et al. 2022, section 3)."""
    return Process(jnp.ones_like, lambda t: t, lambda log_snr: jnp.exp(-log_snr / 2), highest)


def interpolant() -> Process:
    """Makes the straight path from data to noise: alpha = 1 - t, sigma = t.

    (Lipman et al. 2023, section 4.1, with time reversed.)
    """
    return Process(lambda t: 1 - t, lambda t: t, lambda log_snr: jax.nn.sigmoid(-log_snr / 2))


def from_gamma(gamma: Callable[[jax.Array], jax.Array], knots: int = 1000) -> Process:
    """Makes the variance-preserving process of log-SNR -gamma(t) (Kingma et al. 2021, section 3.2).

    gamma: increasing function of times [N] in [0, 1]. knots: number of times that tabulate its inverse.
    """

    def at(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
        return lambda t: jnp.sqrt(jax.nn.sigmoid(function(jnp.ravel(t)).reshape(jnp.shape(t))))

    def time(log_snr: jax.Array) -> jax.Array:
        times = jnp.linspace(0, 1, knots)
        return jnp.interp(-log_snr, gamma(times), times)

    return Process(at(lambda t: -gamma(t)), at(gamma), time)


PROCESSES: dict[str, Callable[..., Process]] = {
    'linear': linear,
    'cosine': cosine,
    'vp': vp,
    've': ve,
    'interpolant': interpolant,
}
