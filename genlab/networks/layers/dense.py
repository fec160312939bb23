"""A dense layer over tokens, whose gradient needs no copy of the tokens on a CPU."""

import jax
from flax import linen as nn


class Dense(nn.Dense):
    """Applies flax's dense layer to [..., n]: [..., features], with the same variables and results.

    The matrix product has one axis of all tokens. For several axes the CPU compiler writes the gradient of the output a
    second time in another order, to multiply it with the inputs.
    """

    def __call__(self, inputs: jax.Array) -> jax.Array:
        outputs = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        return outputs.reshape(*inputs.shape[:-1], self.features)
