"""What stands between a network and a solver: each takes a Denoiser and gives another."""

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
) -> Denoiser:
    """Classifier-free guidance: D = D_u + scale (D_c - D_u) (Ho & Salimans 2022, equation 6, whose w is scale - 1).

    Outside `interval` of sigma / alpha the conditional model speaks alone (Kynkaanniemi et al. 2024, equation 5), as it does
    everywhere at a scale of 1."""

    def denoise(x, t):
        with_condition, without = conditional(x, t), unconditional(x, t)
        ratio = process.sigma(t) / process.alpha(t)
        strength = jnp.where((ratio >= interval[0]) & (ratio <= interval[1]), scale, 1.0)
        x0, epsilon = (b + like(strength, x) * (a - b) for a, b in zip(with_condition[:2], without[:2]))
        return Estimate(x0, epsilon, with_condition.fraction)

    return conditional if scale == 1 else denoise


def clipped(denoise: Denoiser, process: Process, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """x_0 held to the range of the data, and epsilon to what x_t then says (Ho et al. 2020, in their code)."""

    def clip(x, t):
        found = denoise(x, t)
        x0 = jnp.clip(found.x0, low, high)
        return found._replace(x0=x0, epsilon=(x - like(process.alpha(t), x) * x0) / like(process.sigma(t), x))

    return clip


def converted(denoise: Denoiser, trained: Process, process: Process) -> Denoiser:
    """A Denoiser of another process from one that was trained under `trained`.

    At equal log-SNR the two x_t differ in scale alone, and x_0 and epsilon are the same. Noisier than `trained` ever is, its
    end stands in: an interpolant ends without any data."""

    def other(x, t):
        own = trained.time(jnp.maximum(log_snr(process, t), log_snr(trained, jnp.asarray(trained.end))))
        scale = jnp.hypot(trained.alpha(own), trained.sigma(own)) / jnp.hypot(process.alpha(t), process.sigma(t))
        return denoise(like(scale, x) * x, own)

    return other


def keep_known(process: Process, known: jax.Array, mask: jax.Array):
    """For `solve(between=...)`: after each step puts back the known part, as noisy as it should be by then.

    (Song et al. 2021, appendix I.2.) known: [B, ...]; mask: the same shape or with one channel, 1 where it is known."""

    def between(x, t, keys):
        return jnp.where(mask > 0, diffuse(process, known, normal(keys, x.shape[1:], 'known'), t), x)

    return between
