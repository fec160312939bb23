"""Dropout with one key per example, so that the noise is independent of batch size and number of devices."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.noise import bernoulli, stream


class Dropout(nn.Module):
    """Zeroes values of x [B, ...] with probability `rate` and scales up the rest (Srivastava et al. 2014, section 4).

    keys: one typed key per example [B], or None to disable dropout. The layer's path names its noise.
    """

    rate: float

    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        if keys is None or self.rate == 0:
            return x
        layer = stream(keys, f'dropout of {"/".join(self.path)}')
        # Without the barrier, more of the operations that use the mask would draw it again. Some still do on a CPU.
        kept = jax.lax.optimization_barrier(bernoulli(layer, 1 - self.rate, x.shape[1:]))
        return jnp.where(kept, x / (1 - self.rate), 0).astype(x.dtype)
