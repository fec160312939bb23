"""Solvers of the reverse process. Each is one step from time t to s < t; `solve` runs any of them in one compiled loop.

A step takes `Inputs`. Its keyword arguments are the options of the sampler. It returns x_s [B, ...] and the new memory.
No step divides by a sigma of 0, so the last step may go to s = 0. `solve` skips steps of length 0. A variance that
is negative by rounding is set to 0. The alpha-bar of DDPM is alpha^2 here.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genlab.diffusion.predictions import Estimate, velocity
from genlab.diffusion.processes import Process, log_snr, rates
from genlab.noise import normal, stream

Moved = tuple[jax.Array, Any]  # x_s [B, ...], and the new memory
Step = Callable[..., Moved]  # (inputs, keyword options) -> (x_s, memory)


class Inputs(NamedTuple):
    """Holds what a step takes."""

    denoise: Callable[..., Any]  # the denoiser (x_t [B, ...], t []) -> Estimate; see `solve`
    process: Process
    x: jax.Array  # x_t [B, ...]
    memory: Any  # state of a multistep solver, () for the others
    t: jax.Array  # current time []
    s: jax.Array  # next time []
    keys: jax.Array  # one key per example [B], fresh in each step


class Sampler(NamedTuple):
    """Holds the step of a solver and its initial memory."""

    step: Step
    start: Callable[[jax.Array], Any] = lambda x: ()  # x [B, ...] -> memory before the first step


def solve(
    sampler: Sampler,
    denoise: Callable[..., Any],
    process: Process,
    x: jax.Array,
    times: jax.Array,
    keys: jax.Array,
    *,
    between: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] | None = None,
    progress: Callable[[Any], None] | None = None,
) -> jax.Array:
    """Runs n steps of a solver in one loop, from the first to the last of n + 1 times.

    A step between two equal times changes nothing. Grids that are rounded to the times of a chain have such steps.

    Args:
        sampler: the step and its initial memory.
        denoise: function that the step evaluates. It is a `Denoiser` for the steps of this module. The steps of
            `genlab.diffusion.one_step` take a function that returns an array.
        process: the process.
        x: x at the first time, [B, ...].
        times: times [n + 1], usually falling.
        keys: one key per example [B].
        between: (x [B, ...], t [], keys [B]) -> x, applied after each step that changes x, e.g. to replace the known
            part.
        progress: called on the host with the number of each completed step. The loop does not wait for it.

    Returns:
        x at the last time, [B, ...].

    >>> from genlab.diffusion.processes import interpolant
    >>> process = interpolant()
    >>> def denoise(x, t):  # all data are at 2
    ...     return Estimate(jnp.full_like(x, 2), (x - process.alpha(t) * 2) / process.sigma(t))
    >>> x, times, keys = jnp.array([-1.0, 1.0]), jnp.linspace(1, 0, 5), jax.random.split(jax.random.key(0), 2)
    >>> print(solve(make('ddim'), denoise, process, x, times, keys))
    [2. 2.]
    """

    def step(carry: Moved, along: tuple[jax.Array, ...]) -> tuple[Moved, None]:
        number, t, s = along

        def moved() -> Moved:
            own = stream(keys, 'solver', number)
            x, memory = sampler.step(Inputs(denoise, process, *carry, t, s, own))
            return (x if between is None else between(x, s, own)), memory

        carry = jax.lax.cond(t == s, lambda: carry, moved)
        if progress is not None:
            jax.debug.callback(progress, number)
        return carry, None

    numbers = jnp.arange(1, len(times))
    return jax.lax.scan(step, (x, sampler.start(x)), (numbers, times[:-1], times[1:]))[0][0]


def recombine(process: Process, estimate: Estimate, s: jax.Array) -> jax.Array:
    """Computes alpha(s) x_0 + sigma(s) epsilon from an estimate.

    Args:
        process: the process.
        estimate: estimate of x_0 and epsilon, [B, ...] each.
        s: time [].

    Returns:
        x_s [B, ...].
    """
    return process.alpha(s) * estimate.x0 + process.sigma(s) * estimate.epsilon


def ddim(inputs: Inputs, *, eta: float = 0.0, keep_epsilon: bool = False) -> Moved:
    """Computes a step of DDIM: x_s = alpha_s x_0 + sqrt(sigma_s^2 - c^2) epsilon + c z, z ~ N(0, 1).

    (Song et al. 2021, equations 12 and 16.)

    eta: c^2 is eta^2 times the variance of q(x_s | x_t, x_0). With eta = 0 the step is deterministic and of order 1,
    and it also runs forwards in time.
    keep_epsilon: where the estimate of x_0 is clipped, whether to keep the epsilon of the network. Otherwise epsilon
    agrees with x_t and the clipped x_0.
    """
    denoise, process, x, memory, t, s, keys = inputs
    found, smallest = denoise(x, t), variances(process, t, s)[0]
    if keep_epsilon and found.unclipped is not None:
        found = found._replace(epsilon=found.unclipped)
    if eta == 0:
        return recombine(process, found, s), memory
    variance = eta**2 * smallest
    direction = jnp.sqrt(jnp.maximum(process.sigma(s) ** 2 - variance, 0))
    noise = normal(keys, x.shape[1:], 'noise')
    return process.alpha(s) * found.x0 + direction * found.epsilon + jnp.sqrt(variance) * noise, memory


def variances(process: Process, t: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes the smallest and the largest variance of a step (Ho et al. 2020, section 3.2).

    The smallest is the variance of q(x_s | x_t, x_0), optimal for a known x_0. The largest is the variance of
    q(x_t | x_s), optimal for x_0 ~ N(0, 1). A learned variance lies in between.

    Args:
        process: the process.
        t: current times of any shape.
        s: next times, of the shape of t.

    Returns:
        The smallest and the largest variance, of the shape of t.
    """
    kept = process.alpha(t) / process.alpha(s) * process.sigma(s)
    largest = jnp.maximum(process.sigma(t) ** 2 - kept**2, 0)
    return (process.sigma(s) / process.sigma(t)) ** 2 * largest, largest


def posterior_mean(process: Process, x: jax.Array, x0: jax.Array, t: jax.Array, s: jax.Array) -> jax.Array:
    """Computes the mean of q(x_s | x_t, x_0) (Ho et al. 2020, equation 7).

    Args:
        process: the process.
        x: x_t [B, ...].
        x0: data, or their estimate, [B, ...].
        t: current times, of a shape that broadcasts to x.
        s: next times, of a shape that broadcasts to x.

    Returns:
        Means [B, ...].
    """
    ratio, kept = process.alpha(t) / process.alpha(s), (process.sigma(s) / process.sigma(t)) ** 2
    return ratio * kept * x + process.alpha(s) * (1 - ratio**2 * kept) * x0


def ancestral(inputs: Inputs, *, variance: str = 'large') -> Moved:
    """Samples x_s ~ N(mean of q(x_s | x_t, x_0), variance), as in DDPM (Ho et al. 2020, algorithm 2).

    variance: 'small', 'large' or 'learned' (Nichol & Dhariwal 2021, equation 15). The last step adds no noise.
    """
    denoise, process, x, memory, t, s, keys = inputs
    found = denoise(x, t)
    smallest, largest = variances(process, t, s)
    chosen = VARIANCES[variance](found.fraction, smallest, largest)
    noise = jnp.where(s > 0, normal(keys, x.shape[1:], 'noise'), 0)
    return posterior_mean(process, x, found.x0, t, s) + jnp.sqrt(chosen) * noise, memory


def interpolate_variance(fraction: jax.Array, smallest: jax.Array, largest: jax.Array) -> jax.Array:
    """Interpolates between the variances of a step: exp(f log largest + (1 - f) log smallest).

    Args:
        fraction: fraction f of the log-variance [B, ...].
        smallest: smallest variance; it may be 0, as in the last step, and is at least 1e-20 in the logarithm.
        largest: largest variance, at least 1e-20 in the logarithm too.

    Returns:
        Variances [B, ...].
    """
    low, high = (jnp.log(jnp.maximum(variance, 1e-20)) for variance in (smallest, largest))
    return jnp.exp(fraction * high + (1 - fraction) * low)


# name -> function (fraction, smallest, largest) -> variance.
VARIANCES: dict[str, Callable[..., jax.Array]] = {
    'small': lambda fraction, smallest, largest: smallest,
    'large': lambda fraction, smallest, largest: largest,
    'learned': interpolate_variance,
}


def euler(inputs: Inputs) -> Moved:
    """Computes an Euler step of the probability-flow ODE, x + (s - t) dx/dt. It is of order 1."""
    denoise, process, x, memory, t, s, keys = inputs
    return x + (s - t) * velocity(process, denoise(x, t), t), memory


def heun(
    inputs: Inputs, *, churn: float = 0.0, lowest: float = 0.0, highest: float = float('inf'), inflate: float = 1.0
) -> Moved:
    """Computes a Heun step of the probability-flow ODE, with EDM's churn (Karras et al. 2022, algorithm 2).

    The trapezoidal rule is of order 2. It takes two evaluations per step, and one in the last step.

    churn: S_churn / steps. Before the step, added noise raises the noise level sigma / alpha by a factor of 1 + churn.
        The factor is at most sqrt(2).
    lowest, highest: noise levels sigma / alpha between which noise is added.
    inflate: S_noise, the standard deviation of the added noise relative to the exact one.
    """
    denoise, process, x, memory, t, s, keys = inputs
    if churn:
        x, t = churned(process, x, t, keys, churn, lowest, highest, inflate)
    slope = velocity(process, denoise(x, t), t)
    there = x + (s - t) * slope

    def corrected():
        return x + (s - t) / 2 * (slope + velocity(process, denoise(there, s), s))

    return jax.lax.cond(s > 0, corrected, lambda: there), memory


def churned(
    process: Process,
    x: jax.Array,
    t: jax.Array,
    keys: jax.Array,
    churn: float,
    lowest: float,
    highest: float,
    inflate: float,
) -> tuple[jax.Array, jax.Array]:
    """Adds noise to x, for any process (Karras et al. 2022, algorithm 2, lines 4 to 6).

    Args:
        process: the process.
        x: x_t [B, ...].
        t: time [].
        keys: one key per example [B].
        churn: relative growth of sigma / alpha, at most sqrt(2) - 1. The noise level never
            exceeds the end of the process.
        lowest: lowest sigma / alpha at which noise is added.
        highest: highest sigma / alpha at which noise is added.
        inflate: standard deviation of the added noise relative to the exact one.

    Returns:
        x with more noise [B, ...], and its time [].
    """
    ratio = process.sigma(t) / process.alpha(t)
    more = (ratio >= lowest) & (ratio <= highest) & (ratio < jnp.inf)
    later = jnp.where(more, process.time(-2 * jnp.log(ratio * (1 + min(churn, 2**0.5 - 1)))), t)
    scale = jnp.where(more, process.alpha(later) / process.alpha(t), 1)
    added = jnp.sqrt(jnp.maximum(process.sigma(later) ** 2 - (scale * process.sigma(t)) ** 2, 0))
    return scale * x + inflate * added * normal(keys, x.shape[1:], 'noise'), later


def dpm_solver(inputs: Inputs, *, stochastic: bool = False) -> Moved:
    """Computes a step of DPM-Solver++(2M), of order 2 with one evaluation per step (Lu et al. 2022b, algorithm 2).

    x_s = sigma_s / sigma_t x + alpha_s (1 - e^-h) D, with D = x_0 + h / (2 h_before) (x_0 - x_0 before). h and
    h_before are the increases of log(alpha / sigma) in this step and in the step before. Without a finite, nonzero
    h_before and a finite h, the step equals a DDIM step. This applies to the first step, and to steps from or to an
    infinite log-SNR.

    stochastic: whether to solve the reverse SDE instead of the probability-flow ODE (Lu et al. 2022b, section 5).
    """
    denoise, process, x, memory, t, s, keys = inputs
    found = denoise(x, t)
    before, half_before = memory
    half, ahead = log_snr(process, t) / 2, log_snr(process, s) / 2
    slope = (ahead - half) / (2 * (half - half_before))
    known = jnp.isfinite(half_before) & jnp.isfinite(ahead) & jnp.isfinite(half) & (half != half_before)
    x0 = found.x0 + jnp.where(known, slope, 0) * (found.x0 - before)
    shrink = process.alpha(t) * process.sigma(s) / (process.alpha(s) * process.sigma(t))  # e^-h
    if not stochastic:
        return process.sigma(s) / process.sigma(t) * x + process.alpha(s) * (1 - shrink) * x0, (found.x0, half)
    noise = process.sigma(s) * jnp.sqrt(jnp.maximum(1 - shrink**2, 0)) * normal(keys, x.shape[1:], 'noise')
    moved = process.sigma(s) / process.sigma(t) * shrink * x + process.alpha(s) * (1 - shrink**2) * x0
    return moved + noise, (found.x0, half)


def euler_maruyama(inputs: Inputs, *, diffusion: str = 'process') -> Moved:
    """Computes an Euler-Maruyama step of the reverse SDE: x + (s - t) (dx/dt - g^2 / 2 score) + g sqrt(t - s) z.

    (Ma et al. 2024, equation 6, where g is free.) The last step adds no noise.

    diffusion: 'process' for g^2 = 2 sigma (sigma' - sigma alpha' / alpha), the diffusion of the process itself (Song et
        al. 2021, equation 6). 'sigma' for g^2 = sigma, which is finite for the interpolant too.
    """
    denoise, process, x, memory, t, s, keys = inputs
    found, square = denoise(x, t), DIFFUSIONS[diffusion](process, t)
    drift = velocity(process, found, t) + square / 2 * found.epsilon / process.sigma(t)  # the score is -epsilon / sigma
    noise = jnp.where(s > 0, normal(keys, x.shape[1:], 'noise'), 0)
    return x + (s - t) * drift + jnp.sqrt(jnp.maximum(square * (t - s), 0)) * noise, memory


def own_diffusion(process: Process, t: jax.Array) -> jax.Array:
    """Computes g^2 of the SDE of a process. It is infinite where alpha is 0."""
    alpha, sigma, slopes = process.alpha(t), process.sigma(t), rates(process, t)
    return 2 * sigma * (slopes[1] - sigma * slopes[0] / alpha)


# name -> function (process, t) -> g^2.
DIFFUSIONS: dict[str, Callable[[Process, jax.Array], jax.Array]] = {
    'process': own_diffusion,
    'sigma': lambda process, t: process.sigma(t),
}


def predictor_corrector(inputs: Inputs, *, ratio: float = 0.16) -> Moved:
    """Computes an ancestral step, then a step of Langevin dynamics at the new time.

    (Song et al. 2021, algorithms 2 to 5.) The Langevin step is x + step score + sqrt(2 step) z. Its size is
    step = 2 (ratio sigma)^2.

    ratio: signal-to-noise ratio of the Langevin step, the ratio r of the paper. The paper computes `step` from the mean
        norms of noise and score in the batch. Here their expectations are used, so that examples are independent.
    """
    denoise, process, _, _, _, s, keys = inputs
    x, memory = ancestral(inputs, variance='large')

    def corrected():
        step = 2 * (ratio * process.sigma(s)) ** 2
        noise = normal(keys, x.shape[1:], 'corrector')
        return x - step / process.sigma(s) * denoise(x, s).epsilon + jnp.sqrt(2 * step) * noise

    return jax.lax.cond(s > 0, corrected, lambda: x), memory


def remember(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the memory of DPM-Solver before its first step: zeros for the last x_0, NaN for half the last log-SNR."""
    return jnp.zeros_like(x), jnp.asarray(jnp.nan)


def make(name: str, **options: Any) -> Sampler:
    """Makes the sampler of a name, with options bound to its step."""
    return Sampler(functools.partial(STEPS[name], **options), remember if STEPS[name] is dpm_solver else lambda x: ())


STEPS: dict[str, Step] = {
    'ancestral': ancestral,
    'ddim': ddim,
    'euler': euler,
    'heun': heun,
    'dpm_solver': dpm_solver,
    'euler_maruyama': euler_maruyama,
    'predictor_corrector': predictor_corrector,
}
