"""Encoders and decoders of variational autoencoders: dense, convolutional and ladder.

An encoder takes images or points x [B, ...] and a one-hot condition [B, K], where K is 0 without a condition. It
returns the mean and log-variance [B, latent_size] of a Gaussian over latents. A decoder takes latents and the
condition. It returns the location of x, in the units of its likelihood, and the logarithm of its scale. Outputs are
float32 for every type of the computation.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import STRIDE_TWO, Conv, ConvTranspose
from genlab.networks.layers.mlp import MLP
from genlab.networks.layers.resampling import sides

Gaussian = tuple[jax.Array, jax.Array]  # mean and log-variance, [B, D] each


def join(*arrays: jax.Array) -> jax.Array:
    """Flattens and concatenates arrays [B, ...] to [B, sum of their sizes]."""
    return jnp.concatenate([array.reshape(array.shape[0], -1) for array in arrays], 1)


def halves(outputs: jax.Array) -> Gaussian:
    """Splits outputs [B, 2 D] into mean and log-variance [B, D], float32."""
    mean, log_variance = jnp.split(outputs.astype(jnp.float32), 2, axis=1)
    return mean, log_variance


class Scale(nn.Module):
    """Returns the logarithm of a likelihood's scale, [1, ..., C] for x [B, ..., C].

    The scale is `scale` if that is above 0, and otherwise learned per channel. A scale that all pixels share can be
    learned without a collapse of the variance (Rybkin et al. 2021, sigma-VAE, section 3.1).
    """

    scale: float

    @nn.compact
    def __call__(self, location: jax.Array) -> jax.Array:
        shape = (1,) * (location.ndim - 1) + location.shape[-1:]
        if self.scale > 0:
            return jnp.full(shape, math.log(self.scale), jnp.float32)
        return self.param('log_scale', nn.initializers.constant(-1.0), shape[-1:]).reshape(shape)


class DenseEncoder(nn.Module):
    """Encodes by dense layers of widths `features`, and one more for mean and log-variance."""

    features: tuple[int, ...]
    latent_size: int
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> Gaussian:
        return halves(
            MLP((*self.features, 2 * self.latent_size), self.activation, dtype=self.dtype)(join(x, condition), train)
        )


class DenseDecoder(nn.Module):
    """Decodes by dense layers of widths `features`, and one more for the values of x, of shape `shape`."""

    features: tuple[int, ...]
    shape: tuple[int, ...]
    scale: float = 0.0
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, condition: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        outputs = MLP((*self.features, math.prod(self.shape)), self.activation, dtype=self.dtype)(
            join(z, condition), train
        )
        location = outputs.astype(jnp.float32).reshape(z.shape[0], *self.shape)
        return location, Scale(self.scale)(location)


class ConvolutionalEncoder(nn.Module):
    """Encodes by strided convolutions, which double the channels from `width` on, and a dense layer."""

    width: int
    latent_size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> Gaussian:
        for level in range(len(sides(x.shape[1])) - 1):
            x = nn.relu(Conv(self.width * 2**level, **STRIDE_TWO, dtype=self.dtype)(x))
        return halves(nn.Dense(2 * self.latent_size, dtype=self.dtype)(join(x, condition)))


class ConvolutionalDecoder(nn.Module):
    """Decodes by a dense layer and transposed convolutions, which mirror the encoder."""

    width: int
    shape: tuple[int, ...]  # [H, W, C]
    scale: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, condition: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        doublings, smallest = len(sides(self.shape[0])) - 1, sides(self.shape[0])[-1]
        channels = self.width * 2 ** (doublings - 1)
        x = nn.relu(nn.Dense(smallest**2 * channels, dtype=self.dtype)(join(z, condition)))
        x = x.reshape(-1, smallest, smallest, channels)
        for level in reversed(range(doublings - 1)):
            x = nn.relu(ConvTranspose(self.width * 2**level, **STRIDE_TWO, dtype=self.dtype)(x))
        location = ConvTranspose(self.shape[-1], **STRIDE_TWO, dtype=self.dtype)(x).astype(jnp.float32)
        return location, Scale(self.scale)(location)


class LadderEncoder(nn.Module):
    """Encodes bottom-up: each level has two dense layers, and contributes to its posterior from the data alone.

    `features` and `latent_sizes` are ordered from the data upwards. Returns mean and log-variance, concatenated over
    levels, [B, sum of latent_sizes] each.
    """

    features: tuple[int, ...]
    latent_sizes: tuple[int, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> Gaussian:
        h, levels = join(x, condition), []
        for width, size in zip(self.features, self.latent_sizes, strict=True):
            h = nn.relu(nn.Dense(width, dtype=self.dtype)(h))
            h = nn.relu(nn.Dense(width, dtype=self.dtype)(h))
            levels.append(halves(nn.Dense(2 * size, dtype=self.dtype)(h)))
        means, log_variances = zip(*levels)
        return join(*means), join(*log_variances)


class LadderDecoder(nn.Module):
    """Decodes top-down: each level's prior, and its posterior in inference, depend on the latents above it.

    Uses bidirectional inference (Kingma et al. 2016, section 4 and appendix C). The mean and log-variance of a
    posterior are sums of a bottom-up and a top-down part. A deterministic path with residual connections also leads
    from the top to the data.
    """

    features: tuple[int, ...]
    latent_sizes: tuple[int, ...]
    shape: tuple[int, ...]
    scale: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, noise: jax.Array, condition: jax.Array, train: bool, upward: Gaussian | None = None):
        """Draws z = mean + deviation * noise at every level, and decodes it.

        Args:
            noise: noise [B, sum of latent_sizes], concatenated over levels from the data upwards.
            condition: one-hot condition [B, K].
            train: part of the common signature; no effect here.
            upward: output of LadderEncoder; without it, z is drawn from the prior.

        Returns:
            Location [B, *shape], log_scale, and (z, posterior, prior). z is [B, sum of latent_sizes]; posterior and
            prior are mean and log-variance, [B, sum of latent_sizes] each.
        """
        ends = [sum(self.latent_sizes[:level]) for level in range(len(self.latent_sizes) + 1)]
        h: jax.Array | None = None
        levels: list[tuple[jax.Array, ...]] = []
        for level in reversed(range(len(self.features))):
            own = slice(ends[level], ends[level + 1])
            prior, extra = self.above(h, noise[:, own], level)
            posterior = prior if upward is None else tuple(up[:, own] + part for up, part in zip(upward, extra))
            z = posterior[0] + jnp.exp(posterior[1] / 2) * noise[:, own]
            levels.insert(0, (z, *posterior, *prior))
            h = self.descend(h, z, condition, level)
        z, mean, log_variance, prior_mean, prior_log_variance = (join(*parts) for parts in zip(*levels))
        location = nn.Dense(math.prod(self.shape), dtype=self.dtype, name='location')(h).astype(jnp.float32)
        location = location.reshape(z.shape[0], *self.shape)
        return location, Scale(self.scale)(location), (z, (mean, log_variance), (prior_mean, prior_log_variance))

    def above(self, h: jax.Array | None, noise: jax.Array, level: int) -> tuple[Gaussian, Gaussian]:
        """Returns the prior of a level and the top-down part of its posterior.

        Args:
            h: deterministic path from the level above, [B, width]; None at the top, where the prior is N(0, 1).
            noise: noise of this level, [B, D], which sets the shape.
            level: number of the level, from the data upwards.

        Returns:
            Mean and log-variance of the prior, and of the part to add to the posterior, [B, D] each.
        """
        if h is None:
            return (jnp.zeros_like(noise),) * 2, (jnp.zeros_like(noise),) * 2
        outputs = nn.Dense(4 * noise.shape[1], dtype=self.dtype, name=f'prior_{level}')(h)
        mean, log_variance, extra_mean, extra_log_variance = jnp.split(outputs.astype(jnp.float32), 4, axis=1)
        return (mean, log_variance), (extra_mean, extra_log_variance)

    def descend(self, h: jax.Array | None, z: jax.Array, condition: jax.Array, level: int) -> jax.Array:
        """Merges the deterministic path from the level above with the latents of this level.

        Args:
            h: path from the level above, [B, width]; None at the top, where the condition replaces it.
            z: latents of this level, [B, D].
            condition: one-hot condition [B, K].
            level: number of the level, from the data upwards.

        Returns:
            The path to the level below, [B, features[level]].
        """
        width, above = self.features[level], (condition,) if h is None else (h,)
        new = nn.relu(nn.Dense(width, dtype=self.dtype, name=f'merge_{level}')(join(z, *above)))
        return nn.relu(new + nn.Dense(width, dtype=self.dtype, name=f'mix_{level}')(new))
