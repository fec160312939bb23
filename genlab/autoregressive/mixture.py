"""Draws pixels from the mixture of discretised logistics, with one key per example."""

import jax
import jax.numpy as jnp

from genlab import noise
from genlab.losses import mixtures


def sample(
    outputs: jax.Array, keys: jax.Array, *, channels: int, levels: int = 256, temperature: float = 1.0
) -> jax.Array:
    """Draws one pixel per example from the law of `mixtures.log_probability`.

    A component is drawn first, then one channel after the other. Each is rounded to the nearest level before it shifts
    the means of the next, so the law is exactly the discretised one.

    Args:
        outputs: outputs of the network at one place, [N, parts(channels) * n].
        keys: one typed key per example [N].
        channels: C.
        levels: number of evenly spaced levels from -1 to 1.
        temperature: temperature of components and scales. 1 is the law of the network, and less is closer to its
            modes. 0 gives its largest component and its means.

    Returns:
        Pixels, float32 [N, C], of those levels.
    """
    found = mixtures.mixture(outputs, channels)
    count = found.log_weights.shape[-1]
    gumbel = -jnp.log(-jnp.log(_inside(noise.uniform(keys, (count,), 'component'))))
    component = jax.nn.one_hot(jnp.argmax(found.log_weights + temperature * gumbel, -1), count)
    uniform = _inside(noise.uniform(keys, (channels,), 'logistic'))
    logistic = temperature * (jnp.log(uniform) - jnp.log1p(-uniform))
    values: list[jax.Array] = []
    for channel in range(channels):
        mean = (mixtures.shifted_mean(found, values) * component).sum(-1, keepdims=True)
        log_scale = (found.log_scales[..., channel, :] * component).sum(-1, keepdims=True)
        x = mean + jnp.exp(log_scale) * logistic[:, channel, None]
        level = jnp.round((jnp.clip(x, -1, 1) + 1) / 2 * (levels - 1))
        values.append(level / (levels - 1) * 2 - 1)
    return jnp.concatenate(values, -1)


def _inside(uniform: jax.Array) -> jax.Array:
    """Moves numbers in [0, 1) into (0, 1), half a step of the generator up."""
    return uniform + 2.0**-25
