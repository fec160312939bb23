"""Penalties that keep most units of a code quiet."""

import chex
import jax.numpy as jnp


def divergence(activation, *, rho):
    """How far the mean activations of sigmoid units are from a small target: a property of the batch, not of an example.

    L = sum_j rho log(rho / r_j) + (1 - rho) log((1 - rho) / (1 - r_j)), the KL divergence of Bernoulli variables (Ng 2011,
    CS294A lecture notes, section 3; weigh it by 3 against half the squared error).
    activation: [K], r_j in (0, 1), the mean of unit j over the whole batch; rho: (0, 1). Returns a scalar, nats.
    """
    chex.assert_rank(activation, 1)
    safe = jnp.clip(activation, 1e-6, 1 - 1e-6)  # in float32 a sigmoid reaches 0 and 1
    return jnp.sum(rho * jnp.log(rho / safe) + (1 - rho) * jnp.log((1 - rho) / (1 - safe)))


def l1(codes):
    """Sum of the absolute values of an example's code, which a decoder of large weights evades unless the code is bounded.

    L = || z ||_1. codes: [B, K]. Returns [B], in the unit of the code.
    """
    chex.assert_rank(codes, 2)
    return jnp.sum(jnp.abs(codes), 1)
