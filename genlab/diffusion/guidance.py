"""Wrappers between a network and a solver. Each takes a Denoiser and returns another; `keep_known` serves `solve`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from genlab.diffusion.predictions import Denoiser, Estimate
from genlab.diffusion.processes import Process, diffuse, like, log_snr
from genlab.noise import normal


def guided(
    conditional: Denoiser,
    unconditional: Denoiser,
    process: Process,
    scale: float,
    interval: tuple[float, float] = (0.0, float('inf')),
    channels: int = 0,
) -> Denoiser:
    """Applies classifier-free guidance: D = D_u + scale (D_c - D_u).

    (Ho & Salimans 2022, equation 6, whose w is scale - 1; Kynkaanniemi et al. 2024, equation 5, for the interval.)

    Args:
        conditional: denoiser D_c with the condition.
        unconditional: denoiser D_u with the null condition.
        process: the process of both.
        scale: guidance scale. At 1 the result is `conditional`.
        interval: lowest and highest noise level sigma / alpha with guidance. Outside of it, the result is D_c.
        channels: number of channels with guidance, the first ones. The others are those of D_c. 0: all.

    Returns:
        The guided denoiser. It takes the fraction of the log-variance from D_c.
    """

    def denoise(x: jax.Array, t: jax.Array) -> Estimate:
        with_condition, without = conditional(x, t), unconditional(x, t)
        ratio = process.sigma(t) / process.alpha(t)
        strength = jnp.where((ratio >= interval[0]) & (ratio <= interval[1]), scale, 1.0)
        strength = like(strength, x)
        if channels:
            strength = jnp.where(jnp.arange(x.shape[-1]) < channels, strength, 1.0)
        x0, epsilon = (b + strength * (a - b) for a, b in zip(with_condition[:2], without[:2]))
        return Estimate(x0, epsilon, with_condition.fraction)

    return conditional if scale == 1 else denoise


def clipped(denoise: Denoiser, process: Process, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """Clips the estimate of x_0 to the range of the data, and recomputes epsilon from x_t (Ho et al. 2020, their code).

    The epsilon before is kept as `unclipped`.

    Args:
        denoise: denoiser to clip.
        process: its process.
        low: lowest value of the data.
        high: highest value of the data.

    Returns:
        The clipped denoiser.
    """

    def clip(x: jax.Array, t: jax.Array) -> Estimate:
        found = denoise(x, t)
        x0 = jnp.clip(found.x0, low, high)
        epsilon = (x - like(process.alpha(t), x) * x0) / like(process.sigma(t), x)
        return found._replace(x0=x0, epsilon=epsilon, unclipped=found.epsilon)

    return clip


def converted(denoise: Denoiser, trained: Process, process: Process) -> Denoiser:
    """Converts a denoiser that was trained under one process to a denoiser of another process.

    At equal log-SNR the two x_t differ only in scale, and x_0 and epsilon are the same. Where `process` has a lower
    log-SNR than `trained` reaches, the end of `trained` is used. An interpolant, for example, ends at a log-SNR of
    -infinity.

    Args:
        denoise: denoiser of `trained`.
        trained: process of the training.
        process: process of the result.

    Returns:
        A denoiser of `process`.
    """

    def other(x: jax.Array, t: jax.Array) -> Estimate:
        own = trained.time(jnp.maximum(log_snr(process, t), log_snr(trained, jnp.asarray(trained.end))))
        scale = jnp.hypot(trained.alpha(own), trained.sigma(own)) / jnp.hypot(process.alpha(t), process.sigma(t))
        return denoise(like(scale, x) * x, own)

    return other


def keep_known(
    process: Process, known: jax.Array, mask: jax.Array
) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """Replaces the known part after each step by the known data at the noise level of that time, for inpainting.

    (Song et al. 2021, appendix I.2.)

    Args:
        process: the process.
        known: data without noise [B, ...].
        mask: 1 where the data are known, else 0; [B, ...] or with one channel.

    Returns:
        A function (x [B, ...], t, keys [B]) -> x [B, ...], for `solve(between=...)`.
    """

    def between(x: jax.Array, t: jax.Array, keys: jax.Array) -> jax.Array:
        return jnp.where(mask > 0, diffuse(process, known, normal(keys, x.shape[1:], 'known'), t), x)

    return between
