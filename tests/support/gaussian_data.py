"""Gaussian data, of which everything is known: the best denoiser, the law at every time, and the flow between times."""

import jax.numpy as jnp

from genlab.diffusion.predictions import Estimate
from genlab.diffusion.processes import PROCESSES, from_gamma, like

MEAN, DEVIATION = 0.4, 0.5


def every_process():
    """Name -> process: those of configs, and one whose log-SNR is given, from 8 to -9 along a curve."""
    curve = from_gamma(lambda t: -8 + 14 * t + 3 * jnp.square(t))
    return {name: make() for name, make in PROCESSES.items()} | {'from_gamma': curve}


def moments(process, t, mean=MEAN, deviation=DEVIATION):
    """(mean, standard deviation) of x_t."""
    return process.alpha(t) * mean, jnp.hypot(process.alpha(t) * deviation, process.sigma(t))


def denoiser(process, mean=MEAN, deviation=DEVIATION):
    """E[x_0 | x_t] and E[epsilon | x_t]: both straight lines in x_t."""

    def denoise(x, t):
        centre, spread = (like(value, x) for value in moments(process, t, mean, deviation))
        standard = (x - centre) / spread
        x0 = mean + like(process.alpha(t), x) * deviation**2 / spread * standard
        return Estimate(x0, like(process.sigma(t), x) / spread * standard)

    return denoise


def flow(process, x, t, s):
    """Where the probability flow takes x from t to s: it keeps the standard score."""
    (centre, spread), (to, deviation) = moments(process, t), moments(process, s)
    return to + deviation * (x - centre) / spread
