"""The variational bound of a diffusion model on the negative log-likelihood of discrete data, in nats per example.

    - log p(x) <= prior + reconstruction + diffusion

The equations are those of Ho et al. 2020, equation 5, in discrete time, and of Kingma et al. 2021, equations 11 and 18,
in continuous time. Data x_0 [B, ...] take `levels` evenly spaced values in [-1, 1]: 256 for images, 2 for binarised
images.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from genlab.diffusion.predictions import Estimate
from genlab.diffusion.processes import Process, like, log_snr
from genlab.diffusion.samplers import interpolate_variance, posterior_mean, variances


def total(values: jax.Array) -> jax.Array:
    """Sums over all axes but the first: [B, ...] -> [B]."""
    return jnp.sum(values, tuple(range(1, values.ndim)))


def prior(process: Process, x0: jax.Array) -> jax.Array:
    """Computes the prior term, KL(q(x_end | x_0) || N(0, sigma_end^2)): [B].

    For a variance-preserving process the prior is nearly N(0, 1).
    """
    end = jnp.asarray(process.end, jnp.float32)
    return total(jnp.square(process.alpha(end) / process.sigma(end) * x0)) / 2


def continuous(process: Process, epsilon: jax.Array, found: Estimate, t: jax.Array) -> jax.Array:
    """Computes the diffusion term in continuous time, at one time per example (Kingma et al. 2021, equation 17).

    L(t) = -1/2 d log-SNR / dt |epsilon - its estimate|^2. The diffusion term is the mean of L over t in [0, end], times
    the end.

    Args:
        process: the process.
        epsilon: noise of x_t, [B, ...].
        found: estimate of the denoiser at x_t.
        t: times [B], above 0.

    Returns:
        L(t) [B], nats per unit of time.
    """
    rate = -jax.jvp(lambda t: log_snr(process, t), (t,), (jnp.ones_like(t),))[1]
    return rate / 2 * total(jnp.square(epsilon - found.epsilon))


def reconstruction(process: Process, x0: jax.Array, z0: jax.Array, levels: int) -> jax.Array:
    """Computes the reconstruction term -log p(x_0 | z_0) (Kingma et al. 2021, section 3.3; appendix C).

    The probability of a level is proportional to q(z_0 | level).

    Args:
        process: the process.
        x0: data [B, ...].
        z0: alpha x_0 + sigma epsilon at t = 0, [B, ...].
        levels: number of levels per value.

    Returns:
        Terms [B], nats.
    """
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
    """Computes the term of one step from t to s of a chain of equal steps (Ho et al. 2020, L_{t-1} and L_0).

    The term is KL(q(x_s | x_t, x_0) || p(x_s | x_t)). Where s is 0, it is -log p(x_0 | x_t) of the levels.

    Args:
        process: the process.
        x0: data [B, ...].
        x: x_t [B, ...].
        found: estimate of the denoiser at x_t.
        t: times [B] or [].
        s: earlier times, of the shape of t.
        variance: variance of p(x_s | x_t): 'small', 'large' or 'learned', as in `ancestral`.
        levels: number of levels per value.

    Returns:
        Terms [B], nats.
    """
    t, s = like(t, x), like(s, x)
    smallest, largest = variances(process, t, s)
    # Where s is 0 the smallest variance would be 0. As in DDPM, it is taken from the step from 2t to t.
    before = variances(process, 2 * t, t)[0]
    smallest = jnp.where(s > 0, smallest, before)
    chosen = {'small': smallest, 'large': largest}.get(variance)
    if variance == 'learned':
        assert found.fraction is not None, 'the denoiser must estimate the fraction of the log-variance'
        chosen = interpolate_variance(found.fraction, smallest, largest)
    assert chosen is not None, f'variance={variance!r}: choose one of small, large, learned'
    chosen = jnp.broadcast_to(chosen, x.shape)
    mean, right = posterior_mean(process, x, found.x0, t, s), posterior_mean(process, x, x0, t, s)
    divergence = (smallest / chosen - 1 + jnp.log(chosen / smallest) + jnp.square(mean - right) / chosen) / 2
    return total(jnp.where(s > 0, divergence, -log_of_level(x0, mean, jnp.sqrt(chosen), levels)))


def log_of_level(x: jax.Array, mean: jax.Array, deviation: jax.Array, levels: int) -> jax.Array:
    """Computes the log of a Gaussian's mass over the bin of each level (Ho et al. 2020, equation 13).

    Args:
        x: levels in [-1, 1], [B, ...].
        mean: means of the Gaussians, of the shape of x.
        deviation: standard deviations, of the shape of x.
        levels: number of levels per value.

    Returns:
        Log-probabilities [B, ...], nats, at least log(1e-12) = -27.6.
    """
    half = 1 / (levels - 1)
    above, below = log_ndtr((x + half - mean) / deviation), log_ndtr((x - half - mean) / deviation)
    below_top = log_ndtr(-(x - half - mean) / deviation)
    inside = jnp.where(
        x > mean, _difference(below_top, log_ndtr(-(x + half - mean) / deviation)), _difference(above, below)
    )
    return jnp.where(x < half - 1, above, jnp.where(x > 1 - half, below_top, inside)).clip(min=jnp.log(1e-12))


def _difference(larger: jax.Array, smaller: jax.Array) -> jax.Array:
    """Computes log(exp(larger) - exp(smaller)), with a finite gradient where they are equal."""
    return larger + jnp.log(-jnp.expm1(jnp.minimum(smaller - larger, -1e-6)))
