"""Penalties that keep most units of a code near zero."""

import chex
import jax
import jax.numpy as jnp


def divergence(activation: jax.Array, *, rho: float) -> jax.Array:
    """Computes the divergence of the mean activations of sigmoid units from a small target. It is one number per batch.

    L = sum_j rho log(rho / r_j) + (1 - rho) log((1 - rho) / (1 - r_j)), the KL divergence of Bernoulli variables (Ng
    2011, CS294A lecture notes, section 3). Its usual weight is 3 against half the squared error.
    activation: [K], mean r_j in (0, 1) of unit j over the global batch; rho: target in (0, 1). Returns a scalar, nats.
    """
    chex.assert_rank(activation, 1)
    safe = jnp.clip(activation, 1e-6, 1 - 1e-6)  # in float32 a sigmoid reaches 0 and 1
    return jnp.sum(rho * jnp.log(rho / safe) + (1 - rho) * jnp.log((1 - rho) / (1 - safe)))


def l1(codes: jax.Array) -> jax.Array:
    """Computes the sum of the absolute values of an example's code.

    Unless the code is bounded, small codes and large decoder weights evade the penalty.
    L = || z ||_1. codes: [B, K]. Returns [B], in the unit of the code.
    """
    chex.assert_rank(codes, 2)
    return jnp.sum(jnp.abs(codes), 1)
