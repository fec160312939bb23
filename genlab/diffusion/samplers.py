"""Solvers of the reverse process: each is one step from time t to s < t, and `solve` runs any of them in one compiled loop.

A step is a function (denoise, process, x, memory, t, s, keys) -> (x_s, memory). x: [B, ...]; t, s: scalars; keys: one an
example [B], fresh for each step; memory: what a multistep solver remembers, () for the others. None divides by a sigma of 0:
the last step may go to t = 0. In the equations a bar of DDPM's alphas is our alpha^2."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genlab.diffusion.predictions import Denoiser, Estimate, velocity
from genlab.diffusion.processes import Process, log_snr, rates
from genlab.noise import normal, stream


class Sampler(NamedTuple):
    step: Callable
    start: Callable[[jax.Array], Any] = lambda x: ()  # x [B, ...] -> the memory before the first step


def solve(
    sampler: Sampler,
    denoise: Denoiser,
    process: Process,
    x: jax.Array,
    times: jax.Array,
    keys: jax.Array,
    *,
    between: Callable | None = None,
    progress: Callable[[Any], None] | None = None,
) -> jax.Array:
    """x at the last of `times` [n + 1] from x [B, ...] at the first: n steps in one loop.

    between: (x, t, keys) -> x after each step, e.g. to put back what is known. progress: called on the host with the number of
    each step that is done; the loop does not wait for it."""

    def step(carry, along):
        number, t, s = along
        own = stream(keys, 'solver', number)
        x, memory = sampler.step(denoise, process, *carry, t, s, own)
        if between is not None:
            x = between(x, s, own)
        if progress is not None:
            jax.debug.callback(progress, number)
        return (x, memory), None

    numbers = jnp.arange(1, len(times))
    return jax.lax.scan(step, (x, sampler.start(x)), (numbers, times[:-1], times[1:]))[0][0]


def recombine(process: Process, estimate: Estimate, s: jax.Array) -> jax.Array:
    """alpha(s) x_0 + sigma(s) epsilon."""
    return process.alpha(s) * estimate.x0 + process.sigma(s) * estimate.epsilon


def ddim(denoise, process, x, memory, t, s, keys, *, eta: float = 0.0):
    """x_s = alpha_s x_0 + sqrt(sigma_s^2 - c^2) epsilon + c z, c^2 = eta^2 times the variance of q(x_s | x_t, x_0).

    (Song et al. 2021, equations 12 and 16.) With eta = 0 it is deterministic, of order 1, and runs forwards in time too."""
    found, smallest = denoise(x, t), variances(process, t, s)[0]
    if eta == 0:
        return recombine(process, found, s), memory
    variance = eta**2 * smallest
    direction = jnp.sqrt(jnp.maximum(process.sigma(s) ** 2 - variance, 0))
    noise = normal(keys, x.shape[1:], 'noise')
    return process.alpha(s) * found.x0 + direction * found.epsilon + jnp.sqrt(variance) * noise, memory


def variances(process: Process, t: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(smallest, largest) variance of a step: of q(x_s | x_t, x_0), and of q(x_t | x_s) (Ho et al. 2020, section 3.2).

    The smallest is right where x_0 is known, the largest where it is N(0, 1); in between lies what is learned."""
    largest = process.sigma(t) ** 2 - (process.alpha(t) / process.alpha(s) * process.sigma(s)) ** 2
    return (process.sigma(s) / process.sigma(t)) ** 2 * largest, largest


def posterior_mean(process: Process, x: jax.Array, x0: jax.Array, t: jax.Array, s: jax.Array) -> jax.Array:
    """The mean of q(x_s | x_t = x, x_0) (Ho et al. 2020, equation 7); t and s of shapes that broadcast to x."""
    ratio, kept = process.alpha(t) / process.alpha(s), (process.sigma(s) / process.sigma(t)) ** 2
    return ratio * kept * x + process.alpha(s) * (1 - ratio**2 * kept) * x0


def ancestral(denoise, process, x, memory, t, s, keys, *, variance: str = 'large'):
    """x_s ~ N(the mean of q(x_s | x_t, x_0), variance): DDPM's own sampler (Ho et al. 2020, algorithm 2).

    variance: 'small', 'large' or 'learned' (Nichol & Dhariwal 2021, equation 15). The last step adds no noise."""
    found = denoise(x, t)
    smallest, largest = variances(process, t, s)
    chosen = VARIANCES[variance](found.fraction, smallest, largest)
    noise = jnp.where(s > 0, normal(keys, x.shape[1:], 'noise'), 0)
    return posterior_mean(process, x, found.x0, t, s) + jnp.sqrt(chosen) * noise, memory


def interpolate_variance(fraction: jax.Array, smallest: jax.Array, largest: jax.Array) -> jax.Array:
    """exp(f log largest + (1 - f) log smallest), the smallest being 0 at the last step."""
    return jnp.exp(fraction * jnp.log(largest) + (1 - fraction) * jnp.log(jnp.maximum(smallest, 1e-20)))


VARIANCES = {
    'small': lambda fraction, smallest, largest: smallest,
    'large': lambda fraction, smallest, largest: largest,
    'learned': interpolate_variance,
}


def euler(denoise, process, x, memory, t, s, keys):
    """x + (s - t) dx/dt along the probability flow; order 1."""
    return x + (s - t) * velocity(process, denoise(x, t), t), memory


def heun(
    denoise,
    process,
    x,
    memory,
    t,
    s,
    keys,
    *,
    churn: float = 0.0,
    lowest: float = 0.0,
    highest: float = float('inf'),
    inflate: float = 1.0,
):
    """The trapezoidal rule along the probability flow; order 2, two evaluations but for the last step.

    (Karras et al. 2022, algorithm 2.) churn = S_churn / steps: noise is added first, so that sigma / alpha grows by this factor
    (at most sqrt(2) - 1) where it lies between lowest and highest; inflate = S_noise, its deviation."""
    if churn:
        x, t = churned(process, x, t, keys, churn, lowest, highest, inflate)
    slope = velocity(process, denoise(x, t), t)
    there = x + (s - t) * slope

    def corrected():
        return x + (s - t) / 2 * (slope + velocity(process, denoise(there, s), s))

    return jax.lax.cond(s > 0, corrected, lambda: there), memory


def churned(process, x, t, keys, churn, lowest, highest, inflate):
    """(x, t) with more noise: EDM's alg. 2, lines 4 to 6, for any process; as much as the process has, where it ends."""
    ratio = process.sigma(t) / process.alpha(t)
    more = (ratio >= lowest) & (ratio <= highest) & (ratio < jnp.inf)
    later = jnp.where(more, process.time(-2 * jnp.log(ratio * (1 + min(churn, 2**0.5 - 1)))), t)
    scale = jnp.where(more, process.alpha(later) / process.alpha(t), 1)
    added = jnp.sqrt(jnp.maximum(process.sigma(later) ** 2 - (scale * process.sigma(t)) ** 2, 0))
    return scale * x + inflate * added * normal(keys, x.shape[1:], 'noise'), later


def dpm_solver(denoise, process, x, memory, t, s, keys, *, stochastic: bool = False):
    """DPM-Solver++(2M), and its SDE (Lu et al. 2022b, algorithm 2; section 5 there): order 2, one evaluation a step.

    x_s = sigma_s / sigma_t x + alpha_s (1 - e^-h) D, D = x_0 + h / (2 h_before) (x_0 - x_0 before), h the growth of
    log(alpha / sigma). The first step, and one to or from infinity or after a step of no length, is DDIM's."""
    found = denoise(x, t)
    before, half_before = memory
    half, ahead = log_snr(process, t) / 2, log_snr(process, s) / 2
    slope = (ahead - half) / (2 * (half - half_before))
    known = jnp.isfinite(half_before) & jnp.isfinite(ahead) & jnp.isfinite(half) & (half != half_before)
    x0 = found.x0 + jnp.where(known, slope, 0) * (found.x0 - before)
    shrink = process.alpha(t) * process.sigma(s) / (process.alpha(s) * process.sigma(t))  # e^-h
    if not stochastic:
        return process.sigma(s) / process.sigma(t) * x + process.alpha(s) * (1 - shrink) * x0, (found.x0, half)
    noise = process.sigma(s) * jnp.sqrt(1 - shrink**2) * normal(keys, x.shape[1:], 'noise')
    moved = process.sigma(s) / process.sigma(t) * shrink * x + process.alpha(s) * (1 - shrink**2) * x0
    return moved + noise, (found.x0, half)


def euler_maruyama(denoise, process, x, memory, t, s, keys, *, diffusion: str = 'process'):
    """x + (s - t) (dx/dt - g^2 / 2 score) + g sqrt(t - s) z: the reverse SDE, whose g may be chosen (Ma et al. 2024, eq. 6).

    diffusion: 'process' for g^2 = 2 sigma (sigma' - sigma alpha' / alpha), the SDE that undoes the process (Song et al. 2021,
    equation 6), 'sigma' for g^2 = sigma, which is finite for the interpolant too. The last step adds no noise."""
    found, square = denoise(x, t), DIFFUSIONS[diffusion](process, t)
    drift = velocity(process, found, t) + square / 2 * found.epsilon / process.sigma(t)  # the score is -epsilon / sigma
    noise = jnp.where(s > 0, normal(keys, x.shape[1:], 'noise'), 0)
    return x + (s - t) * drift + jnp.sqrt(square * (t - s)) * noise, memory


def own_diffusion(process: Process, t: jax.Array) -> jax.Array:
    """g^2 of the SDE that a process is; infinite where alpha is 0."""
    alpha, sigma, slopes = process.alpha(t), process.sigma(t), rates(process, t)
    return 2 * sigma * (slopes[1] - sigma * slopes[0] / alpha)


DIFFUSIONS = {'process': own_diffusion, 'sigma': lambda process, t: process.sigma(t)}


def predictor_corrector(denoise, process, x, memory, t, s, keys, *, ratio: float = 0.16):
    """An ancestral step, then one of Langevin dynamics at the new time (Song et al. 2021, algorithms 2 to 5).

    ratio: of the step's noise to its score, by their mean norms; here those that are expected, so that no example
    depends on another: x + step score + sqrt(2 step) z with step = 2 (ratio sigma)^2."""
    x, memory = ancestral(denoise, process, x, memory, t, s, keys, variance='large')

    def corrected():
        step = 2 * (ratio * process.sigma(s)) ** 2
        noise = normal(keys, x.shape[1:], 'corrector')
        return x - step / process.sigma(s) * denoise(x, s).epsilon + jnp.sqrt(2 * step) * noise

    return jax.lax.cond(s > 0, corrected, lambda: x), memory


def remember(x: jax.Array):
    """The memory of DPM-Solver before its first step."""
    return jnp.zeros_like(x), jnp.asarray(jnp.nan)


def make(name: str, **options) -> Sampler:
    """The sampler of a name, with the options of its step."""
    return Sampler(functools.partial(STEPS[name], **options), remember if STEPS[name] is dpm_solver else lambda x: ())


STEPS = {
    'ancestral': ancestral,
    'ddim': ddim,
    'euler': euler,
    'heun': heun,
    'dpm_solver': dpm_solver,
    'euler_maruyama': euler_maruyama,
    'predictor_corrector': predictor_corrector,
}
