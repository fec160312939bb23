"""The probability-flow ODE by the solvers of diffrax, and the likelihood of data along it.

Every process is followed by the same clock: with s^2 = alpha^2 + sigma^2 and the angle phi = atan(sigma / alpha), which grows
from 0 at pure data to pi / 2 at pure noise, y = x / s moves by dy / dphi = cos(phi) epsilon - sin(phi) x_0, the v of Salimans
& Ho 2022, section 4 and appendix D. It is finite where d sigma / dt is not, and smooth where alpha and sigma are tables.

Each example has steps of its own, so none depends on the others of its batch."""

import jax
import jax.numpy as jnp

from genlab.diffusion.predictions import Denoiser
from genlab.diffusion.processes import Process
from genlab.errors import UserError

# Names here and in diffrax. Euler has no estimate of its error: it wants a number of steps.
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
    """x at the time `stop` from x [B, ...] at `start`, either way (Song et al. 2021, equation 13).

    steps: as many, even in the angle, or 0 for as many as keep the error of each below `tolerance`, relative and absolute for
    y of about 1. A time of 0 needs a network that predicts epsilon, v or velocity: the others say nothing of epsilon there."""
    first, last = angle(process, start), angle(process, stop)

    def one(y):
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
    """log p(x) of data x [B, ...] by the change of variables along the flow: nats, [B].

    log p(y_0) = log p(y_1) + int tr(dv / dy) dphi, the trace being the mean over `probes` of r' (dv / dy) r with random signs r
    that an example keeps along its path (Grathwohl et al. 2019, section 3.1; Song et al. 2021, appendix D.2). keys: one an
    example [B]; the same keys give the same signs. Two things are assumed: that x is x_t at `lowest` of the end (2.5e-5 of
    `ve` is the usual deviation of 0.002), and that it ends as N(0, sigma(end)^2), where alpha(end) x_0 is far smaller."""
    start = lowest * process.end
    first, last = angle(process, start), angle(process, process.end)
    deviation = process.sigma(_time(process.end)) / scale(process, process.end)

    def one(x, key):
        signs = jax.random.rademacher(key, (probes, *x.shape), jnp.float32)

        def field(phi, state, _):
            moving, pull = jax.vjp(lambda y: velocity(denoise, process, y, phi), state[0])
            return moving, jnp.mean(jax.vmap(lambda sign: jnp.vdot(sign, pull(sign)[0]))(signs))

        noise, trace = _solve(field, (x / scale(process, start), jnp.zeros(())), first, last, solver, steps, tolerance)
        prior = jnp.sum(jax.scipy.stats.norm.logpdf(noise, scale=deviation))
        return prior + trace - x.size * jnp.log(scale(process, start))

    return jax.vmap(one)(x, keys)


def velocity(denoise: Denoiser, process: Process, y: jax.Array, phi: jax.Array) -> jax.Array:
    """dy / dphi of one example y [...]: cos(phi) epsilon - sin(phi) x_0."""
    cosine, sine = jnp.maximum(jnp.cos(phi), 0), jnp.sin(phi)  # in float32 cos(pi / 2) is below 0
    t = process.time(2 * (jnp.log(cosine) - jnp.log(sine)))
    found = denoise((scale(process, t) * y)[None], t)
    return (cosine * found.epsilon - sine * found.x0)[0]


def scale(process: Process, t: float | jax.Array) -> jax.Array:
    """sqrt(alpha^2 + sigma^2): 1 where variance is preserved."""
    return jnp.hypot(process.alpha(_time(t)), process.sigma(_time(t)))


def angle(process: Process, t: float | jax.Array) -> jax.Array:
    """atan(sigma / alpha), from 0 to pi / 2."""
    return jnp.arctan2(process.sigma(_time(t)), process.alpha(_time(t)))


def _time(t):
    return jnp.asarray(t, jnp.float32)


def _solve(field, state, first, last, solver, steps, tolerance):
    """The state at the angle `last`, in `steps` steps or in as many as it takes, at most 4,096."""
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


def _diffrax():
    """Imported here: it is optional, and slow to import."""
    try:
        import diffrax
    except ImportError:
        raise UserError("the ODE needs diffrax, which is not installed: pip install -e '.[ode]'") from None
    return diffrax
