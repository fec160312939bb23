"""The variational bound of a diffusion model: nats an example, of 8-bit levels (or bits) as they are.

    - log p(x) <= prior + reconstruction + diffusion

(Ho et al. 2020, equation 5, with discrete times; Kingma et al. 2021, equations 11 and 18, with continuous ones.) Data are in
[-1, 1], x_0: [B, ...], on `levels` even values, 256 of images or 2 of binarised ones."""

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from genlab.diffusion.predictions import Estimate
from genlab.diffusion.processes import Process, like, log_snr
from genlab.diffusion.samplers import interpolate_variance, posterior_mean, variances


def total(values: jax.Array) -> jax.Array:
    """The sum over all axes but the first: [B, ...] -> [B]."""
    return jnp.sum(values, tuple(range(1, values.ndim)))


def prior(process: Process, x0: jax.Array) -> jax.Array:
    """KL(q(x_end | x_0) || N(0, sigma_end^2)): [B]; of a variance-preserving process nearly N(0, 1)."""
    end = jnp.asarray(process.end, jnp.float32)
    return total(jnp.square(process.alpha(end) / process.sigma(end) * x0)) / 2


def continuous(process: Process, epsilon: jax.Array, found: Estimate, t: jax.Array) -> jax.Array:
    """Half the rate at which the log-SNR falls, times |epsilon - its estimate|^2: [B] (Kingma et al. 2021, equation 17).

    Its mean over t in [0, end], times the end, is the diffusion part. t: [B], above 0."""
    rate = -jax.jvp(lambda t: log_snr(process, t), (t,), (jnp.ones_like(t),))[1]
    return rate / 2 * total(jnp.square(epsilon - found.epsilon))


def reconstruction(process: Process, x0: jax.Array, z0: jax.Array, levels: int) -> jax.Array:
    """-log p(x_0 | z_0), z_0 = alpha x_0 + sigma epsilon at t = 0: [B] (Kingma et al. 2021, section 3.3; appendix C).

    Each value is one of the levels with a probability proportional to q(z_0 | level)."""
    start = jnp.zeros(())
    alpha, sigma = process.alpha(start), process.sigma(start)
    values = jnp.linspace(-1, 1, levels).reshape((1,) * x0.ndim + (-1,))
    logits = -jnp.square((z0[..., None] - alpha * values) / sigma) / 2
    chosen = -jnp.square((z0 - alpha * x0) / sigma) / 2
    return total(jax.nn.logsumexp(logits, -1) - chosen)


def step(
    process: Process,
    x0: jax.Array,
    x: jax.Array,
    found: Estimate,
    t: jax.Array,
    s: jax.Array,
    variance: str,
    levels: int,
) -> jax.Array:
    """The term of one step from t to s, x = x_t, of a chain of such steps: [B] (Ho et al. 2020, L_{t-1} and L_0).

    KL(q(x_s | x_t, x_0) || p(x_s | x_t)), or where s is 0 -log p(x_0 | x_t) of the levels. variance: as in `ancestral`."""
    t, s = like(t, x), like(s, x)
    smallest, largest = variances(process, t, s)
    # Where s is 0 the smallest would be 0; it is taken from the step before, as DDPM does.
    before = variances(process, 2 * t, t)[0]
    smallest = jnp.where(s > 0, smallest, before)
    chosen = {'small': smallest, 'large': largest}.get(variance)
    if variance == 'learned':
        chosen = interpolate_variance(found.fraction, smallest, largest)
    chosen = jnp.broadcast_to(chosen, x.shape)
    mean, right = posterior_mean(process, x, found.x0, t, s), posterior_mean(process, x, x0, t, s)
    divergence = (smallest / chosen - 1 + jnp.log(chosen / smallest) + jnp.square(mean - right) / chosen) / 2
    return total(jnp.where(s > 0, divergence, -log_of_level(x0, mean, jnp.sqrt(chosen), levels)))


def log_of_level(x: jax.Array, mean: jax.Array, deviation: jax.Array, levels: int) -> jax.Array:
    """The log of a Gaussian's mass over the bin of each level (Ho et al. 2020, equation 13): [B, ...], at least -27.6."""
    half = 1 / (levels - 1)
    above, below = log_ndtr((x + half - mean) / deviation), log_ndtr((x - half - mean) / deviation)
    below_top = log_ndtr(-(x - half - mean) / deviation)
    inside = jnp.where(
        x > mean, _difference(below_top, log_ndtr(-(x + half - mean) / deviation)), _difference(above, below)
    )
    return jnp.where(x < half - 1, above, jnp.where(x > 1 - half, below_top, inside)).clip(min=jnp.log(1e-12))


def _difference(larger: jax.Array, smaller: jax.Array) -> jax.Array:
    """log(exp(larger) - exp(smaller)), with a gradient where they are equal."""
    return larger + jnp.log(-jnp.expm1(jnp.minimum(smaller - larger, -1e-6)))
