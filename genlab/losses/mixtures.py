"""The mixture of discretised logistics of PixelCNN++, over the channels of a pixel. Salimans et al. 2017, section 2.

With n components and C channels, the outputs [..., parts * n] of a network hold `parts` groups of n numbers:

    1             logits of the components
    C             means m, in the units of images in [-1, 1]
    C             natural logarithms of the scales
    C (C-1) / 2   coefficients before tanh: channel 1 on 0, 2 on 0, 2 on 1, ...

In a component, the mean of channel c is m_c + sum_(d < c) tanh(k_cd) x_d with the channels d before it (equation 3).
For 1 channel there are 3 parts, for 3 channels 10.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

FLOOR = -7.0  # smallest log-scale, as in the released code


class Mixture(NamedTuple):
    """Holds the parameters of a mixture of n components."""

    log_weights: jax.Array  # [..., n], normalised
    means: jax.Array  # [..., C, n], without the other channels
    log_scales: jax.Array  # [..., C, n]
    coefficients: jax.Array  # [..., C (C-1) / 2, n], in -1 ... 1


def parts(channels: int) -> int:
    """Returns the number of outputs per component."""
    return 1 + 2 * channels + channels * (channels - 1) // 2


def mixture(outputs: jax.Array, channels: int) -> Mixture:
    """Reads the outputs of a network as parameters.

    Args:
        outputs: float [..., parts(channels) * n].
        channels: C.

    Returns:
        The parameters, float32.

    Raises:
        ValueError: the outputs cannot be divided among the parts.
    """
    count, rest = divmod(outputs.shape[-1], parts(channels))
    if rest:
        raise ValueError(f'{outputs.shape[-1]} outputs are not a multiple of {parts(channels)} for {channels} channels')
    split = outputs.astype(jnp.float32).reshape(*outputs.shape[:-1], parts(channels), count)
    logits, means, log_scales, coefficients = jnp.split(split, (1, 1 + channels, 1 + 2 * channels), -2)
    return Mixture(jax.nn.log_softmax(logits[..., 0, :]), means, jnp.maximum(log_scales, FLOOR), jnp.tanh(coefficients))


def shifted_mean(found: Mixture, values: list[jax.Array]) -> jax.Array:
    """Returns the means of the next channel given the channels before it.

    Args:
        found: parameters.
        values: channels 0 ... c - 1, [..., 1] or [..., n] each.

    Returns:
        Means of channel c, [..., n].
    """
    channel = len(values)
    first = channel * (channel - 1) // 2
    mean = found.means[..., channel, :]
    for i, value in enumerate(values):
        mean += found.coefficients[..., first + i, :] * value
    return mean


def log_probability(x: jax.Array, outputs: jax.Array, *, levels: int = 256) -> jax.Array:
    """Computes the log-probability of each pixel.

    P(x) = sum_n w_n prod_c (s((x_c + h - m_nc) / s_nc) - s((x_c - h - m_nc) / s_nc)), with h half the distance of two
    levels (equations 2 and 3). The lowest bin extends to -infinity and the highest to infinity. The form
    log s(a) + log s(-b) + log(1 - exp(b - a)) is exact for arbitrarily small masses, so no bin needs a density.

    Args:
        x: pixels [..., C] with `levels` evenly spaced values from -1 to 1.
        outputs: outputs of the network, [..., parts(C) * n].
        levels: number of levels per channel.

    Returns:
        Log-probabilities [...], nats.
    """
    chex.assert_equal_shape_prefix([x, outputs], x.ndim - 1)
    found = mixture(outputs, x.shape[-1])
    values = [x[..., channel, None] for channel in range(x.shape[-1])]
    means = jnp.stack([shifted_mean(found, values[:channel]) for channel in range(len(values))], -2)
    x, half, sharpness = x[..., None], 1 / (levels - 1), jnp.exp(-found.log_scales)
    above, below = (x + half - means) * sharpness, (x - half - means) * sharpness
    log_below, log_above = -jax.nn.softplus(-above), -jax.nn.softplus(below)
    log_between = log_below + log_above + jnp.log(-jnp.expm1(-2 * half * sharpness))
    chosen = jnp.where(x < half - 1, log_below, jnp.where(x > 1 - half, log_above, log_between))
    return jax.nn.logsumexp(found.log_weights + chosen.sum(-2), -1)


def mixture_of_logistics(x: jax.Array, outputs: jax.Array, *, levels: int = 256) -> jax.Array:
    """Computes minus the log-probability of images under an autoregressive network.

    L = - sum_i log P(x_i | x_(j < i)), with `log_probability` of the pixels i. To get bits per dimension, divide by
    H W C log 2.

    Args:
        x: images [B, H, W, C] with `levels` evenly spaced values from -1 to 1.
        outputs: outputs of the network, [B, H, W, parts(C) * n].
        levels: number of levels per channel.

    Returns:
        Negative log-likelihoods [B], nats.
    """
    pixels = log_probability(x, outputs, levels=levels)
    return -jnp.sum(pixels, tuple(range(1, pixels.ndim)))
