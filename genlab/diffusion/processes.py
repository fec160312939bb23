"""How data and noise mix: x_t = alpha(t) x_0 + sigma(t) epsilon, t from 0 (data) to `end` (noise), epsilon ~ N(0, 1).

The log-SNR 2 log(alpha / sigma) falls with t. Two processes at the same log-SNR differ in scale alone, which is why a network
that was trained under one can be sampled under another (Kingma et al. 2021, section 5; Karras et al. 2022, section 2)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Process(NamedTuple):
    """Functions of times of any shape, elementwise."""

    alpha: Callable[[jax.Array], jax.Array]  # t -> the scale of the data, 1 at t = 0
    sigma: Callable[[jax.Array], jax.Array]  # t -> the scale of the noise, growing
    time: Callable[[jax.Array], jax.Array]  # log-SNR -> t
    end: float = 1.0  # the time of (nearly) pure noise


def log_snr(process: Process, t: jax.Array) -> jax.Array:
    """log(alpha^2 / sigma^2): infinity where there is no noise."""
    return 2 * (jnp.log(process.alpha(t)) - jnp.log(process.sigma(t)))


def rates(process: Process, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(d alpha / dt, d sigma / dt)."""
    t = jnp.asarray(t, jnp.float32)
    return tuple(jax.jvp(function, (t,), (jnp.ones_like(t),))[1] for function in (process.alpha, process.sigma))


def like(values: jax.Array, x: jax.Array) -> jax.Array:
    """One number an example [B], or one for all [], with as many axes as x [B, ...]."""
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim)) if values.ndim else values


def diffuse(process: Process, x0: jax.Array, epsilon: jax.Array, t: jax.Array) -> jax.Array:
    """x_t of data x0 and noise epsilon [B, ...] at times t [B] or []."""
    return like(process.alpha(t), x0) * x0 + like(process.sigma(t), x0) * epsilon


def from_betas(betas: np.ndarray) -> Process:
    """The chain q(x_k | x_{k-1}) = N(sqrt(1 - beta_k) x_{k-1}, beta_k) at t = k / T (Ho et al. 2020, section 2).

    Between its times log alpha^2 is linear, so that networks and solvers may use continuous times too."""
    table = np.concatenate([[0.0], np.cumsum(np.log1p(-np.asarray(betas, np.float64)))]).astype(np.float32)
    times = np.linspace(0, 1, len(table), dtype=np.float32)

    def log_alpha_squared(t):
        return jnp.interp(t, times, table)

    return Process(
        lambda t: jnp.exp(log_alpha_squared(t) / 2),
        lambda t: jnp.sqrt(-jnp.expm1(log_alpha_squared(t))),
        lambda log_snr: jnp.interp(-jax.nn.log_sigmoid(log_snr), -table, times),
    )


def linear(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Process:
    """Linear betas (Ho et al. 2020, section 4); first and last are those of 1,000 steps, and larger if there are fewer."""
    return from_betas(np.minimum(np.linspace(first, last, steps) * 1000 / steps, 0.999))


def cosine(steps: int = 1000, offset: float = 0.008) -> Process:
    """alpha^2 = cos^2((t + s) / (1 + s) pi / 2) over its value at 0, betas at most 0.999 (Nichol & Dhariwal 2021, eq. 17)."""
    curve = np.cos((np.linspace(0, 1, steps + 1) + offset) / (1 + offset) * np.pi / 2) ** 2
    return from_betas(np.minimum(1 - curve[1:] / curve[:-1], 0.999))


def vp(lowest: float = 0.1, highest: float = 20.0) -> Process:
    """The variance-preserving SDE with beta(t) = lowest + t (highest - lowest) (Song et al. 2021, appendix C)."""
    slope = highest - lowest

    def log_alpha(t):
        return -t * (lowest + slope * t / 2) / 2

    def time(log_snr):
        integral = jax.nn.softplus(-log_snr)  # of beta: - log alpha^2
        return 2 * integral / (lowest + jnp.sqrt(lowest**2 + 2 * slope * integral))

    return Process(lambda t: jnp.exp(log_alpha(t)), lambda t: jnp.sqrt(-jnp.expm1(2 * log_alpha(t))), time)


def ve(highest: float = 80.0) -> Process:
    """Noise is only added, and its deviation is the time: alpha = 1, sigma = t (Karras et al. 2022, section 3)."""
    return Process(jnp.ones_like, lambda t: t, lambda log_snr: jnp.exp(-log_snr / 2), highest)


def interpolant() -> Process:
    """The straight path between data and noise, alpha = 1 - t, sigma = t (Lipman et al. 2023, section 4.1, times reversed)."""
    return Process(lambda t: 1 - t, lambda t: t, lambda log_snr: jax.nn.sigmoid(-log_snr / 2))


def from_gamma(gamma: Callable[[jax.Array], jax.Array], knots: int = 1000) -> Process:
    """Variance-preserving, with log-SNR -gamma(t), a growing function of times [N] (Kingma et al. 2021, section 3.2)."""

    def at(function):
        return lambda t: jnp.sqrt(jax.nn.sigmoid(function(jnp.ravel(t)).reshape(jnp.shape(t))))

    def time(log_snr):
        times = jnp.linspace(0, 1, knots)
        return jnp.interp(-log_snr, gamma(times), times)

    return Process(at(lambda t: -gamma(t)), at(gamma), time)


PROCESSES = {'linear': linear, 'cosine': cosine, 'vp': vp, 've': ve, 'interpolant': interpolant}
