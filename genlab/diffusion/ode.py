"""The probability-flow ODE by the solvers of diffrax, and the likelihood of data along it.

All processes use the same independent variable, the angle phi = atan(sigma / alpha). It is 0 at pure data and pi / 2 at
pure noise. Let s^2 = alpha^2 + sigma^2 and y = x / s. Then dy / dphi = cos(phi) epsilon - sin(phi) x_0, which is the v
of Salimans & Ho 2022, section 4 and appendix D. It is finite where d sigma / dt is not. It is smooth where alpha and
sigma are interpolated from tables.

Each example is integrated with its own step sizes, so it does not depend on the rest of its batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from genlab.diffusion.predictions import Denoiser
from genlab.diffusion.processes import Process
from genlab.errors import UserError

# Names in configs and in diffrax. Euler has no error estimate, so it needs a fixed number of steps.
SOLVERS = {
    'euler': 'Euler',
    'heun': 'Heun',
    'midpoint': 'Midpoint',
    'bosh3': 'Bosh3',
    'tsit5': 'Tsit5',
    'dopri5': 'Dopri5',
    'dopri8': 'Dopri8',
}


def integrate(
    denoise: Denoiser,
    process: Process,
    x: jax.Array,
    start: float,
    stop: float,
    *,
    solver: str = 'dopri5',
    steps: int = 0,
    tolerance: float = 1e-4,
) -> jax.Array:
    """Integrates the probability-flow ODE from one time to another, in either direction.

    (Song et al. 2021, equation 13.) A time of 0 needs a network that predicts epsilon, v or velocity. The other
    predictions do not determine epsilon there.

    Args:
        denoise: denoiser of the process.
        process: the process.
        x: x at the time `start`, [B, ...].
        start: first time, in [0, process.end].
        stop: last time, in [0, process.end].
        solver: a name of SOLVERS.
        steps: number of steps, evenly spaced in the angle. 0: the step size is adapted to `tolerance`.
        tolerance: relative and absolute error per adaptive step, for y of about unit size.

    Returns:
        x at the time `stop`, [B, ...].
    """
    first, last = angle(process, start), angle(process, stop)

    def one(y: jax.Array) -> jax.Array:
        return _solve(lambda phi, y, _: velocity(denoise, process, y, phi), y, first, last, solver, steps, tolerance)

    return scale(process, stop) * jax.vmap(one)(x / scale(process, start))


def log_likelihood(
    denoise: Denoiser,
    process: Process,
    x: jax.Array,
    keys: jax.Array,
    *,
    probes: int = 1,
    steps: int = 0,
    tolerance: float = 1e-4,
    lowest: float = 1e-5,
    solver: str = 'dopri5',
) -> jax.Array:
    """Computes the log-likelihood of data by the change of variables along the probability-flow ODE.

    log p(y_0) = log p(y_1) + int tr(dv / dy) dphi. The trace is estimated by the mean of r' (dv / dy) r over random
    signs r (Grathwohl et al. 2019, section 3.1; Song et al. 2021, appendix D.2). The signs of an example stay the same
    along its path.

    Two assumptions are made. The data are x_t at the time `lowest` times the end. At the end, x is N(0, sigma(end)^2),
    which holds if alpha(end) x_0 is far smaller.

    Args:
        denoise: denoiser of the process.
        process: the process.
        x: data [B, ...].
        keys: one key per example [B]. Equal keys give equal signs.
        probes: number of random sign vectors r per example.
        steps: number of steps, evenly spaced in the angle. 0: the step size is adapted to `tolerance`.
        tolerance: relative and absolute error per adaptive step, for y of about unit size.
        lowest: time of the data as a fraction of the end. For `ve`, 2.5e-5 is the usual noise level of 0.002.
        solver: a name of SOLVERS.

    Returns:
        log p(x) [B], nats.
    """
    start = lowest * process.end
    first, last = angle(process, start), angle(process, process.end)
    deviation = process.sigma(_time(process.end)) / scale(process, process.end)

    def one(x: jax.Array, key: jax.Array) -> jax.Array:
        signs = jax.random.rademacher(key, (probes, *x.shape), jnp.float32)

        def field(phi: jax.Array, state: tuple[jax.Array, jax.Array], _: Any) -> tuple[jax.Array, jax.Array]:
            moving, pull = jax.vjp(lambda y: velocity(denoise, process, y, phi), state[0])
            return moving, jnp.mean(jax.vmap(lambda sign: jnp.vdot(sign, pull(sign)[0]))(signs))

        noise, trace = _solve(field, (x / scale(process, start), jnp.zeros(())), first, last, solver, steps, tolerance)
        prior = jnp.sum(jax.scipy.stats.norm.logpdf(noise, scale=deviation))
        return prior + trace - x.size * jnp.log(scale(process, start))

    return jax.vmap(one)(x, keys)


def velocity(denoise: Denoiser, process: Process, y: jax.Array, phi: jax.Array) -> jax.Array:
    """Computes dy / dphi = cos(phi) epsilon - sin(phi) x_0 of one example.

    Args:
        denoise: denoiser of the process.
        process: the process.
        y: x / s of one example, without a batch axis.
        phi: angle [], in [0, pi / 2].

    Returns:
        dy / dphi, of the shape of y.
    """
    cosine, sine = jnp.maximum(jnp.cos(phi), 0), jnp.sin(phi)  # in float32 cos(pi / 2) is below 0
    t = process.time(2 * (jnp.log(cosine) - jnp.log(sine)))
    found = denoise((scale(process, t) * y)[None], t)
    return (cosine * found.epsilon - sine * found.x0)[0]


def scale(process: Process, t: float | jax.Array) -> jax.Array:
    """Computes the scale s = sqrt(alpha^2 + sigma^2). It is 1 if the process is variance-preserving."""
    return jnp.hypot(process.alpha(_time(t)), process.sigma(_time(t)))


def angle(process: Process, t: float | jax.Array) -> jax.Array:
    """Computes the angle phi = atan(sigma / alpha), in [0, pi / 2]."""
    return jnp.arctan2(process.sigma(_time(t)), process.alpha(_time(t)))


def _time(t: float | jax.Array) -> jax.Array:
    return jnp.asarray(t, jnp.float32)


def _solve(
    field: Callable[..., Any], state: Any, first: jax.Array, last: jax.Array, solver: str, steps: int, tolerance: float
) -> Any:
    """Integrates a state from the angle `first` to `last`, in `steps` steps, or in at most 4,096 adaptive steps."""
    diffrax = _diffrax()
    if steps:
        control, step = diffrax.ConstantStepSize(), (last - first) / steps
    else:
        control, step = diffrax.PIDController(rtol=tolerance, atol=tolerance), None
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        getattr(diffrax, SOLVERS[solver])(),
        first,
        last,
        step,
        state,
        stepsize_controller=control,
        max_steps=max(4096, steps + 1),
    )
    return jax.tree.map(lambda path: path[-1], found.ys)


def _diffrax() -> Any:
    """Imports diffrax. The import is local, because diffrax is optional and slow to import."""
    try:
        import diffrax
    except ImportError:
        raise UserError("the ODE needs diffrax, which is not installed: pip install -e '.[ode]'") from None
    return diffrax
