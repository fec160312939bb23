"""A multilayer perceptron for points, latents and the heads of larger networks."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn


def identity(x: jax.Array) -> jax.Array:
    """Returns x."""
    return x


class MLP(nn.Module):
    """Applies dense layers of widths `features`: [..., n] -> [..., features[-1]].

    `activation` follows every layer but the last, which `output` follows (the identity by default).
    """

    features: tuple[int, ...]
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    output: Callable[[jax.Array], jax.Array] = identity
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        del train  # part of the common signature; no effect here
        for width in self.features[:-1]:
            x = self.activation(nn.Dense(width, dtype=self.dtype)(x))
        return self.output(nn.Dense(self.features[-1], dtype=self.dtype)(x))
