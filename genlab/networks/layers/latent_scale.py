"""Estimates the scale of latent codes during training."""

import jax
import jax.numpy as jnp
from flax import linen as nn


class LatentScale(nn.Module):
    """Returns the standard deviation [] of codes [B, ...] over all values. It has statistics and no parameters.

    Diffusion divides codes by it, so that they have unit variance (Rombach et al. 2022, appendix G). The paper measures
    the first batch. This layer averages statistics over the first `steps` calls with `train`, then freezes them. They
    cover the global batch over the mapped axis `axis`. The value is 1 before the first call.
    """

    steps: int = 100
    axis: str | None = None

    @nn.compact
    def __call__(self, codes: jax.Array, train: bool) -> jax.Array:
        count = self.variable('latents', 'count', jnp.zeros, (), jnp.int32)
        mean = self.variable('latents', 'mean', jnp.zeros, (), jnp.float32)
        square = self.variable('latents', 'mean_square', jnp.ones, (), jnp.float32)
        if train and not self.is_initializing():
            now = codes.mean(), jnp.square(codes).mean()
            now = now if self.axis is None else jax.lax.pmean(now, self.axis)
            share = jnp.where(count.value < self.steps, 1 / (count.value + 1), 0)
            for running, value in zip((mean, square), now):
                running.value += share * (value - running.value)
            count.value = jnp.minimum(count.value + 1, self.steps)
        return jnp.sqrt(square.value - jnp.square(mean.value))
