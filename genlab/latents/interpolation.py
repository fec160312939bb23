"""From one code to another: straight, or along a great circle."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

NARROW = 1e-5  # the sine below which two float32 vectors count as parallel


def linear(a, b, t):
    """(1 - t) a + t b. a, b: one code each, of one shape; t: scalar, 0 gives a and 1 gives b exactly."""
    return (1 - t) * a + t * b


def spherical(a, b, t):
    """At constant angular speed from the direction of a to that of b; the length goes linearly from |a| to |b|.

    z(t) = ((1 - t) |a| + t |b|) (cos(t theta) u + sin(t theta) v), theta the angle between a and b, u = a / |a|, and v the unit
    vector orthogonal to u in their plane (slerp, Shoemake 1985; for latents White 2016, section 2.1). Where codes are Gaussian,
    the straight line leads through shorter vectors than the model has ever seen.

    a, b: one code each, of one shape, taken as a vector; t: scalar, 0 gives a and 1 gives b exactly. Between antiparallel codes
    any half circle is as good: v is then orthogonal to the axis that is nearest to orthogonal to a. To or from zero, and for
    codes of one number, the path is straight."""
    if a.size == 1:
        return linear(a, b, t)
    from_a, to_b = jnp.ravel(a), jnp.ravel(b)
    lengths = jnp.stack([jnp.linalg.norm(from_a), jnp.linalg.norm(to_b)])
    u, towards = (vector / jnp.where(length > 0, length, 1) for vector, length in zip((from_a, to_b), lengths))
    cosine = jnp.vdot(u, towards)
    aside = towards - cosine * u
    sine = jnp.linalg.norm(aside)
    v = jnp.where(sine > NARROW, aside / jnp.maximum(sine, NARROW), _orthogonal(u))
    angle = t * jnp.arctan2(sine, cosine)
    around = linear(*lengths, t) * (jnp.cos(angle) * u + jnp.sin(angle) * v)
    between = jnp.where(lengths.min() > 0, around, linear(from_a, to_b, t)).reshape(a.shape)
    return jnp.where(t == 0, a, jnp.where(t == 1, b, between))


@functools.partial(jax.jit, static_argnames=('steps', 'between'))
def path(a: jax.Array, b: jax.Array, steps: int, between: Callable = linear) -> jax.Array:
    """Codes [N, ...] and [N, ...] -> [N, steps, ...], both ends among them. between: linear or spherical."""
    along = jax.vmap(between, (None, None, 0))
    return jax.vmap(along, (0, 0, None))(a, b, jnp.linspace(0, 1, steps))


def _orthogonal(unit):
    """A unit vector orthogonal to a unit vector of two or more numbers: [D] -> [D]."""
    axis = jax.nn.one_hot(jnp.argmin(jnp.abs(unit)), unit.size, dtype=unit.dtype)
    aside = axis - jnp.vdot(axis, unit) * unit
    return aside / jnp.linalg.norm(aside)
