"""Distributions of training times, as quantile functions, and the times that a solver visits, as falling grids."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from genlab import noise
from genlab.diffusion.processes import Process, log_snr

Quantile = Callable[[Process, jax.Array], jax.Array]  # (process, u [B] in [0, 1)) -> times [B]
Draw = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (position [B], keys [B], step []) -> u [B] in [0, 1)


def draw_independent(position: jax.Array, keys: jax.Array, step: jax.Array) -> jax.Array:
    """Draws independent uniform numbers [B] in [0, 1), from one key per example [B] alone."""
    return noise.uniform(keys, (), 'time')


def draw_stratified(position: jax.Array, keys: jax.Array, step: jax.Array, *, seed: int, batch_size: int) -> jax.Array:
    """Draws stratified uniform numbers [B] in [0, 1), from one key for the whole global batch; see `stratified`.

    Args:
        position: positions in the global batch, int [B].
        keys: one key per example [B]. They are ignored.
        step: number of the training step, int [].
        seed: seed of the run.
        batch_size: size of the global batch.

    Returns:
        Uniform numbers [B].
    """
    key = jax.random.fold_in(noise.named_key(jax.random.key(seed), 'time'), step)
    return stratified(key, position, batch_size)


def stratified(key: jax.Array, position: jax.Array, batch_size: int) -> jax.Array:
    """Draws stratified uniform numbers, one in each of `batch_size` equal strata of [0, 1) (Kingma et al. 2021, I.1).

    Each number is uniform, and all share one random offset. Their mean over the batch has far less variance than the
    mean of independent numbers. They do not depend on the number of devices.

    Args:
        key: one key for the whole batch.
        position: positions in the global batch, int [B].
        batch_size: size of the global batch.

    Returns:
        Uniform numbers [B] in [0, 1).
    """
    return (jax.random.uniform(key) + position / batch_size) % 1


def uniform(lowest: float = 0.0) -> Quantile:
    """Returns the quantiles of times that are uniform between `lowest` and the end."""
    return lambda process, u: lowest + u * (process.end - lowest)


def discrete(steps: int) -> Quantile:
    """Returns the quantiles of times that are uniform over k / steps of the end, k = 1 ... steps."""
    return lambda process, u: (jnp.floor(u * steps) + 1) / steps * process.end


def log_normal(mean: float = -1.2, deviation: float = 1.2) -> Quantile:
    """Returns the quantiles of times whose log(sigma / alpha) is Gaussian (Karras et al. 2022, table 1)."""
    return lambda process, u: process.time(-2 * (mean + deviation * ndtri(jnp.clip(u, 1e-6, 1 - 1e-6))))


def logit_normal(mean: float = 0.0, deviation: float = 1.0) -> Quantile:
    """Returns the quantiles of times t whose logit of t / end is Gaussian (Esser et al. 2024, section 3.1)."""
    return lambda process, u: process.end * jax.nn.sigmoid(mean + deviation * ndtri(jnp.clip(u, 1e-6, 1 - 1e-6)))


QUANTILES: dict[str, Callable[..., Quantile]] = {
    'uniform': uniform,
    'discrete': discrete,
    'log_normal': log_normal,
    'logit_normal': logit_normal,
}


def even(process: Process, steps: int, *, power: float = 1.0) -> jax.Array:
    """Returns the grid end (i / steps)^power, i = steps ... 0.

    Args:
        process: the process.
        steps: number of steps of the solver.
        power: exponent. 2 gives the quadratic sub-sequence of DDIM (Song et al. 2021, appendix D.2).

    Returns:
        Times [steps + 1], from the end to 0.
    """
    return process.end * jnp.linspace(1, 0, steps + 1) ** power


def karras(process: Process, steps: int, *, lowest: float = 0.002, rho: float = 7.0) -> jax.Array:
    """Returns the grid of EDM, even in (sigma / alpha)^(1 / rho), followed by 0 (Karras et al. 2022, equation 5).

    Args:
        process: the process.
        steps: number of steps of the solver.
        lowest: lowest sigma / alpha before the time 0. A process that starts with more noise uses its own lowest.
        rho: exponent of the spacing.

    Returns:
        Times [steps + 1], from the end to 0.
    """
    highest = jnp.exp(-_log_snr_at_end(process) / 2)
    ratios = jnp.linspace(highest ** (1 / rho), _reached(process, lowest) ** (1 / rho), steps) ** rho
    return _to_zero(process, -2 * jnp.log(ratios))


def even_log_snr(process: Process, steps: int, *, lowest: float = 0.002) -> jax.Array:
    """Returns the grid that is even in the log-SNR, followed by 0, as recommended for DPM-Solver.

    (Lu et al. 2022, section 3.4.)

    Args:
        process: the process.
        steps: number of steps of the solver.
        lowest: lowest sigma / alpha before the time 0. A process that starts with more noise uses its own lowest.

    Returns:
        Times [steps + 1], from the end to 0.
    """
    return _to_zero(process, jnp.linspace(_log_snr_at_end(process), -2 * jnp.log(_reached(process, lowest)), steps))


def shifted(process: Process, steps: int, *, shift: float = 3.0) -> jax.Array:
    """Returns the even grid, shifted towards the noise: t -> shift t / (1 + (shift - 1) t) (Esser et al. 2024, eq. 23).

    Args:
        process: the process.
        steps: number of steps of the solver.
        shift: strength of the shift; 1 gives the even grid.

    Returns:
        Times [steps + 1], from the end to 0.
    """
    t = jnp.linspace(1, 0, steps + 1)
    return process.end * shift * t / (1 + (shift - 1) * t)


def leading(process: Process, steps: int) -> jax.Array:
    """Returns the times k = 1, 1 + r, 1 + 2 r, ... of a chain of T steps, r = floor(T / steps).

    (Lin et al. 2024, table 2.) The first time is before the end, though the sampler starts from pure noise.

    Args:
        process: the process, with a chain.
        steps: number of steps of the solver, at most T.

    Returns:
        Times [steps + 1], falling to 0.
    """
    return _of_chain(process, 1 + process.chain // steps * np.arange(steps)[::-1])


def trailing(process: Process, steps: int) -> jax.Array:
    """Returns the times k = T, T - r, T - 2 r, ... of a chain of T steps, r = T / steps, rounded (the same table).

    Args:
        process: the process, with a chain.
        steps: number of steps of the solver, at most T.

    Returns:
        Times [steps + 1], from the end to 0.
    """
    return _of_chain(process, np.round(process.chain - np.arange(steps) * (process.chain / steps)))


def linspace(process: Process, steps: int) -> jax.Array:
    """Returns the times of a chain of T steps that are even from k = T to k = 1, rounded (the same table).

    Improved DDPM and DiT use them. A single step starts at k = 1.

    Args:
        process: the process, with a chain.
        steps: number of steps of the solver, at most T.

    Returns:
        Times [steps + 1], falling to 0.
    """
    return _of_chain(process, 1 + np.round(np.linspace(0, process.chain - 1, steps))[::-1])


def visited(grid: Callable[..., jax.Array], process: Process, steps: int) -> jax.Array:
    """Returns the times of a grid that a solver visits. For a chain they are rounded up to its times.

    Args:
        grid: function of GRIDS, with its options bound.
        process: the process.
        steps: number of steps of the solver; at most the length of a chain.

    Returns:
        Times [steps + 1], falling to 0. Rounded times can be equal, and can reach 0 early.
    """
    if not process.chain:
        return grid(process, steps)
    times = grid(process, min(steps, process.chain))
    return jnp.ceil(times / process.end * process.chain - 1e-3) / process.chain * process.end


def _of_chain(process: Process, k: np.ndarray) -> jax.Array:
    return process.end * jnp.asarray(np.append(k, 0) / process.chain, jnp.float32)


def _log_snr_at_end(process: Process) -> jax.Array:
    # The log-SNR is -infinity where alpha is 0.
    return jnp.maximum(log_snr(process, jnp.asarray(process.end, jnp.float32)), -12.0)


def _reached(process: Process, lowest: float) -> jax.Array:
    return jnp.maximum(lowest, jnp.exp(-log_snr(process, jnp.asarray(0.0)) / 2))  # a learned process starts with noise


def _to_zero(process: Process, levels: jax.Array) -> jax.Array:
    times = jnp.concatenate([process.time(levels), jnp.zeros(1)])
    return times.at[0].set(process.end)


GRIDS: dict[str, Callable[..., jax.Array]] = {
    'even': even,
    'quadratic': lambda process, steps: even(process, steps, power=2.0),
    'karras': karras,
    'even_log_snr': even_log_snr,
    'shifted': shifted,
    'leading': leading,
    'trailing': trailing,
    'linspace': linspace,
}
CHAIN_GRIDS = ('leading', 'trailing', 'linspace')  # grids that count the steps of a chain
