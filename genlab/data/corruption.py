"""Noise that a denoising autoencoder learns to undo (Vincent et al. 2010, section 3.3): functions of one example and a key.

All are called as (example, key, amount, low, high), values [...] that lie between low and high (-1 and 1 for images, 0 and 1
for sigmoid units), and return the same shape. A deviation is in the unit of the values: 1.0 in [-1, 1] is 0.5 in [0, 1].
"""

import jax
import jax.numpy as jnp


def none(example, key, amount, low, high):
    """The example as it is."""
    return example


def gaussian(example, key, amount, low, high):
    """Adds Gaussian noise of the deviation `amount`; what leaves the range stays outside."""
    return example + amount * jax.random.normal(key, example.shape)


def masking(example, key, amount, low, high):
    """Sets a share `amount` of the values, each drawn by itself, to the lowest: pixels go black, units go quiet."""
    return jnp.where(jax.random.bernoulli(key, amount, example.shape), low, example)


def salt_and_pepper(example, key, amount, low, high):
    """Sets a share `amount` of the values, each drawn by itself, to the lowest or the highest by the toss of a fair coin."""
    draw = jax.random.uniform(key, example.shape)
    return jnp.where(draw < amount / 2, low, jnp.where(draw < amount, high, example))


KINDS = {'none': none, 'gaussian': gaussian, 'masking': masking, 'salt_and_pepper': salt_and_pepper}
