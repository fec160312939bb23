"""Corrupts examples for denoising autoencoders (Vincent et al. 2010, section 3.3).

Every function takes (example, key, low, high), with its amount by keyword, and returns an array of the example's shape,
[...]. The values of the example lie between low and high: -1 and 1 for images, 0 and 1 for sigmoid units. The key is a
typed JAX key. The amount is a probability, or for Gaussian noise a standard deviation in the unit of the values: 1.0 in
[-1, 1] is 0.5 in [0, 1].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def none(example: jax.Array, key: jax.Array, low: float, high: float) -> jax.Array:
    """Returns the example unchanged."""
    return example


def gaussian(example: jax.Array, key: jax.Array, low: float, high: float, *, amount: float) -> jax.Array:
    """Adds Gaussian noise with standard deviation `amount`; values may leave the range."""
    return example + amount * jax.random.normal(key, example.shape)


def masking(example: jax.Array, key: jax.Array, low: float, high: float, *, amount: float) -> jax.Array:
    """Sets each value to the lowest with probability `amount`, independently: pixels to black, units to off."""
    return jnp.where(jax.random.bernoulli(key, amount, example.shape), low, example)


def salt_and_pepper(example: jax.Array, key: jax.Array, low: float, high: float, *, amount: float) -> jax.Array:
    """Sets each value with probability `amount`, independently, to the lowest or the highest with equal probability."""
    draw = jax.random.uniform(key, example.shape)
    return jnp.where(draw < amount / 2, low, jnp.where(draw < amount, high, example))


KINDS: dict[str, Callable[..., jax.Array]] = {
    'none': none,
    'gaussian': gaussian,
    'masking': masking,
    'salt_and_pepper': salt_and_pepper,
}
