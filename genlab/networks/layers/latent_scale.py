"""How large codes are, measured while a model of them learns."""

import jax
import jax.numpy as jnp
from flax import linen as nn


class LatentScale(nn.Module):
    """The standard deviation [] of codes [B, ...], over all their numbers; it has statistics and no parameters.

    Rombach et al. 2022, appendix G: codes are divided by it before diffusion, so that the noise meets unit variance. There it
    is that of the first batch; here the statistics are means over the first `steps` calls with `train`, of the whole batch over
    the mapped axis `axis`, and stay as they are from then on. 1 before the first of them."""

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
