"""Embeds times, noise levels and positions as sinusoids of fixed or random frequencies."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


def sinusoidal(values: jax.Array, width: int, *, longest: float = 10_000.0, endpoint: bool = True) -> jax.Array:
    """Embeds values as sines and cosines of geometrically spaced frequencies (Vaswani et al. 2017, section 3.5).

    Multiply a time in [0, 1] by about 1000 first.

    Args:
        values: numbers [B].
        width: size of an embedding; there are n = `width / 2` frequencies.
        longest: scale of the lowest frequency, in units of values per radian. The highest frequency is 1.
        endpoint: whether the lowest frequency is `1 / longest` itself: `longest^(-i / (n - 1))` for i = 0 ... n - 1,
            sines before cosines, as in the code of DDPM, DDPM++ and VDM. Otherwise `longest^(-i / n)`, cosines before
            sines, as in the code of improved DDPM, ADM, latent diffusion and DiT.

    Returns:
        Embeddings, float32 [B, width].
    """
    frequencies = longest ** -np.linspace(0, 1, width // 2, endpoint)
    angles = values.astype(jnp.float32)[:, None] * jnp.asarray(frequencies, jnp.float32)[None]
    waves = (jnp.sin, jnp.cos) if endpoint else (jnp.cos, jnp.sin)
    return jnp.concatenate([wave(angles) for wave in waves], 1)


class FourierFeatures(nn.Module):
    """Embeds values [B] as sines and cosines of 2 pi f values, f ~ N(0, deviation^2): float32 [B, width].

    Tancik et al. 2020, section 3; Song et al. 2021, appendix H. The `width / 2` frequencies are drawn from the seed of
    the run, with the first weights. They lie in the collection 'buffers': saved, but neither trained nor counted.
    """

    width: int
    deviation: float = 16.0  # cycles per unit of values

    @nn.compact
    def __call__(self, values: jax.Array) -> jax.Array:
        draw = lambda: self.deviation * jax.random.normal(self.make_rng('params'), (self.width // 2,))
        frequencies = self.variable('buffers', 'frequencies', draw)
        angles = values.astype(jnp.float32)[:, None] * (2 * math.pi * frequencies.value)[None]
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], 1)


def grid_positions(side: int, width: int) -> np.ndarray:
    """Returns sinusoids of each cell's column and row in a square grid: float32 [side * side, width], half for each."""
    frequencies = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
    rows, columns = np.divmod(np.arange(side * side), side)
    angles = [place[:, None] * frequencies for place in (columns, rows)]
    return np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], 1).astype(np.float32)
