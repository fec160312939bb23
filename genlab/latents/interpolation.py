"""Interpolation between codes: linear, or spherical."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

NARROW = 1e-5  # vectors in float32 count as parallel below this sine


def linear(a: jax.Array, b: jax.Array, t: jax.Array | float) -> jax.Array:
    """Returns (1 - t) a + t b.

    Args:
      a, b: one code each, of equal shape.
      t: scalar; 0 returns a and 1 returns b exactly.
    """
    return (1 - t) * a + t * b


def spherical(a: jax.Array, b: jax.Array, t: jax.Array | float) -> jax.Array:
    """Interpolates at constant angular speed from the direction of a to the direction of b; the norm is linear in t.

    z(t) = ((1 - t) |a| + t |b|) (cos(t theta) u + sin(t theta) v) (slerp, Shoemake 1985; for latents White 2016,
    section 2.1). theta is the angle between a and b, u = a / |a|, and v the unit vector orthogonal to u in their plane.
    For Gaussian codes a straight line passes through shorter vectors than the model has seen in training.

    Antiparallel codes have no unique half circle: v is then orthogonal to u, in the plane of u and the axis most
    orthogonal to it. If a code is zero, or has a single number, the path is straight.

    Args:
      a, b: one code each, of equal shape, treated as vectors.
      t: scalar; 0 returns a and 1 returns b exactly.
    """
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
    around = linear(lengths[0], lengths[1], t) * (jnp.cos(angle) * u + jnp.sin(angle) * v)
    between = jnp.where(lengths.min() > 0, around, linear(from_a, to_b, t)).reshape(a.shape)
    return jnp.where(t == 0, a, jnp.where(t == 1, b, between))


@functools.partial(jax.jit, static_argnames=('steps', 'between'))
def path(a: jax.Array, b: jax.Array, steps: int, between: Callable = linear) -> jax.Array:
    """Interpolates between codes, with both ends: [N, ...] and [N, ...] -> [N, steps, ...].

    Args:
      a, b: [N, ...].
      steps: points per path, at least 2.
      between: `linear` or `spherical`.
    """
    along = jax.vmap(between, (None, None, 0))
    return jax.vmap(along, (0, 0, None))(a, b, jnp.linspace(0, 1, steps))


def _orthogonal(unit: jax.Array) -> jax.Array:
    """Returns a unit vector orthogonal to a unit vector with at least two numbers: [D] -> [D]."""
    axis = jax.nn.one_hot(jnp.argmin(jnp.abs(unit)), unit.size, dtype=unit.dtype)
    aside = axis - jnp.vdot(axis, unit) * unit
    return aside / jnp.linalg.norm(aside)
