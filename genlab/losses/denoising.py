"""Distances between a prediction of noise, data or velocity and its target, one number per example."""

import chex
import jax
import jax.numpy as jnp


def mean_squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Computes the mean squared difference over the values of each example.

    L = mean_d (f_d - y_d)^2. If y is the noise, L is the simple loss of DDPM (Ho et al. 2020, equation 14).
    prediction, target: [B, ...], of equal shape, usually of unit variance. Returns [B].
    """
    chex.assert_equal_shape([prediction, target])
    return jnp.mean(jnp.square(prediction - target), tuple(range(1, prediction.ndim)))


def pseudo_huber(prediction: jax.Array, target: jax.Array, *, width: float) -> jax.Array:
    """Computes the pseudo-Huber loss: quadratic below a distance of about `width`, linear above it.

    L = sqrt(|f - y|^2 + c^2) - c (Song and Dhariwal 2024, equation 9; their c is 0.00054 sqrt(D)). The gradient of an
    outlier is bounded.

    Args:
        prediction: predictions f, [B, ...].
        target: targets y, [B, ...].
        width: transition c > 0, in the unit of |f - y|.

    Returns:
        Losses [B], in the unit of |f - y|.
    """
    chex.assert_equal_shape([prediction, target])
    squared = jnp.sum(jnp.square(prediction - target), tuple(range(1, prediction.ndim)))
    return jnp.sqrt(squared + width**2) - width


def adaptive(squared_error: jax.Array, *, power: float, epsilon: float = 1e-3) -> jax.Array:
    """Divides a squared error by a power of its detached value. The power 1/2 is close to the pseudo-Huber loss.

    L = sg[(|d|^2 + epsilon)^-p] |d|^2 (Geng et al. 2025, section 4.3).

    Args:
        squared_error: squared errors |d|^2, [B].
        power: the power p.
        epsilon: positive constant that bounds the weight.

    Returns:
        Losses [B].
    """
    chex.assert_rank(squared_error, 1)
    return jax.lax.stop_gradient((squared_error + epsilon) ** -power) * squared_error
