"""Which times training sees, as quantile functions, and which times a solver visits, as falling grids."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from genlab.diffusion.processes import Process, log_snr

Quantile = Callable[[Process, jax.Array], jax.Array]  # (process, u [B] in [0, 1)) -> times [B]


def stratified(key: jax.Array, position: jax.Array, batch_size: int) -> jax.Array:
    """u [B], one in each of `batch_size` equal parts of [0, 1), by the place in the global batch (Kingma et al. 2021, I.1).

    key: one for the whole batch. Each u is uniform, and their mean over the batch has far less variance than of independent
    ones; they do not depend on the number of devices."""
    return (jax.random.uniform(key) + position / batch_size) % 1


def uniform(lowest: float = 0.0) -> Quantile:
    """Between `lowest` and the end."""
    return lambda process, u: lowest + u * (process.end - lowest)


def discrete(steps: int) -> Quantile:
    """k / steps of the end, k from 1 to steps."""
    return lambda process, u: (jnp.floor(u * steps) + 1) / steps * process.end


def log_normal(mean: float = -1.2, deviation: float = 1.2) -> Quantile:
    """log(sigma / alpha) is Gaussian (Karras et al. 2022, table 1)."""
    return lambda process, u: process.time(-2 * (mean + deviation * ndtri(jnp.clip(u, 1e-6, 1 - 1e-6))))


def logit_normal(mean: float = 0.0, deviation: float = 1.0) -> Quantile:
    """The logit of t / end is Gaussian (Esser et al. 2024, section 3.1)."""
    return lambda process, u: process.end * jax.nn.sigmoid(mean + deviation * ndtri(jnp.clip(u, 1e-6, 1 - 1e-6)))


QUANTILES = {'uniform': uniform, 'discrete': discrete, 'log_normal': log_normal, 'logit_normal': logit_normal}


def even(process: Process, steps: int, *, power: float = 1.0) -> jax.Array:
    """end (i / steps)^power, i from steps to 0; 2 is the quadratic sub-sequence of DDIM (Song et al. 2021, appendix D.2)."""
    return process.end * jnp.linspace(1, 0, steps + 1) ** power


def karras(process: Process, steps: int, *, lowest: float = 0.002, rho: float = 7.0) -> jax.Array:
    """sigma / alpha even in its 1 / rho-th power down to `lowest`, then 0 (Karras et al. 2022, equation 5)."""
    highest = jnp.exp(-_log_snr_at_end(process) / 2)
    ratios = jnp.linspace(highest ** (1 / rho), _reached(process, lowest) ** (1 / rho), steps) ** rho
    return _to_zero(process, -2 * jnp.log(ratios))


def even_log_snr(process: Process, steps: int, *, lowest: float = 0.002) -> jax.Array:
    """Even in the log-SNR down to sigma / alpha = lowest, then 0: what DPM-Solver likes (Lu et al. 2022, section 3.4)."""
    return _to_zero(process, jnp.linspace(_log_snr_at_end(process), -2 * jnp.log(_reached(process, lowest)), steps))


def shifted(process: Process, steps: int, *, shift: float = 3.0) -> jax.Array:
    """Even, then moved towards the noise: t -> shift t / (1 + (shift - 1) t) (Esser et al. 2024, equation 23)."""
    t = jnp.linspace(1, 0, steps + 1)
    return process.end * shift * t / (1 + (shift - 1) * t)


def _log_snr_at_end(process: Process) -> jax.Array:
    return jnp.maximum(
        log_snr(process, jnp.asarray(process.end, jnp.float32)), -12.0
    )  # minus infinity where alpha is 0


def _reached(process: Process, lowest: float) -> jax.Array:
    return jnp.maximum(lowest, jnp.exp(-log_snr(process, jnp.asarray(0.0)) / 2))  # a learned process starts with noise


def _to_zero(process: Process, levels: jax.Array) -> jax.Array:
    times = jnp.concatenate([process.time(levels), jnp.zeros(1)])
    return times.at[0].set(process.end)


GRIDS = {
    'even': even,
    'quadratic': lambda process, steps: even(process, steps, power=2.0),
    'karras': karras,
    'even_log_snr': even_log_snr,
    'shifted': shifted,
}
