"""Estimates the scale of latent codes during training."""

import jax
import jax.numpy as jnp
from flax import linen as nn


class LatentScale(nn.Module):
    """Returns the standard deviation [] of codes [B, ...] over all values. It has statistics and no parameters.

    Diffusion divides codes by it, so that they have unit variance (Rombach et al. 2022, appendix G). The paper measures
    the first batch. This layer averages statistics over the first `steps` calls with `train`, then freezes them. They
    cover the global batch over the mapped axis `axis`. The value is 1 before the first call. Means and variances of
    batches are pooled (Chan et al. 1979), because E[x^2] - E[x]^2 loses its digits where the mean is large.
    """

    steps: int = 100
    axis: str | None = None

    @nn.compact
    def __call__(self, codes: jax.Array, train: bool) -> jax.Array:
        count = self.variable('latents', 'count', jnp.zeros, (), jnp.int32)
        mean = self.variable('latents', 'mean', jnp.zeros, (), jnp.float32)
        variance = self.variable('latents', 'variance', jnp.ones, (), jnp.float32)
        if train and not self.is_initializing():
            average = lambda values: values if self.axis is None else jax.lax.pmean(values, self.axis)
            centre = average(codes.mean())
            spread, away = average(jnp.square(codes - centre).mean()), centre - mean.value
            share = jnp.where(count.value < self.steps, 1 / (count.value + 1), 0)
            variance.value += share * (spread - variance.value + (1 - share) * jnp.square(away))
            mean.value += share * away
            count.value = jnp.minimum(count.value + 1, self.steps)
        return jnp.sqrt(variance.value)
