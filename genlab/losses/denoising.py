"""How far a prediction of noise, of data or of a velocity is from its target: one number per example."""

import chex
import jax
import jax.numpy as jnp


def mean_squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """The mean over the values of an example of the squared difference.

    L = mean_d (f_d - y_d)^2; with y the noise it is the simple loss of DDPM (Ho et al. 2020, equation 14).
    prediction, target: [B, ...], of one shape, usually of unit variance. Returns [B].
    """
    chex.assert_equal_shape([prediction, target])
    return jnp.mean(jnp.square(prediction - target), tuple(range(1, prediction.ndim)))


def pseudo_huber(prediction: jax.Array, target: jax.Array, *, width: float) -> jax.Array:
    """Quadratic below a distance of about `width`, linear above it: an outlier pulls no harder than the rest.

    L = sqrt(|f - y|^2 + c^2) - c (Song and Dhariwal 2024, equation 9; their c is 0.00054 sqrt(D)).
    prediction, target: [B, ...], of one shape; width: c > 0, in the unit of |f - y|. Returns [B].
    """
    chex.assert_equal_shape([prediction, target])
    squared = jnp.sum(jnp.square(prediction - target), tuple(range(1, prediction.ndim)))
    return jnp.sqrt(squared + width**2) - width


def adaptive(squared_error: jax.Array, *, power: float, epsilon: float = 1e-3) -> jax.Array:
    """A squared error divided by its own size, as a constant, to the power p: p = 1/2 is near the pseudo-Huber loss.

    L = sg[(|d|^2 + epsilon)^-p] |d|^2 (Geng et al. 2025, section 4.3). squared_error: |d|^2 [B]. Returns [B].
    """
    chex.assert_rank(squared_error, 1)
    return jax.lax.stop_gradient((squared_error + epsilon) ** -power) * squared_error
