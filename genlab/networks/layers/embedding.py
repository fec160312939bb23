"""Embeds times, noise levels and positions as sinusoids of fixed or random frequencies."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def sinusoidal(values: jax.Array, width: int, *, longest: float = 10_000.0) -> jax.Array:
    """Embeds values as sines and cosines of geometrically spaced frequencies (Vaswani et al. 2017, section 3.5).

    Multiply a time in [0, 1] by about 1000 first.

    Args:
        values: numbers [B].
        width: size of an embedding; there are `width / 2` frequencies.
        longest: inverse of the lowest frequency, in units of values per radian. The highest frequency is 1.

    Returns:
        Embeddings, float32 [B, width].
    """
    frequencies = longest ** -np.linspace(0, 1, width // 2, dtype=np.float32)
    angles = values.astype(jnp.float32)[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], 1)


def fourier_features(values: jax.Array, width: int, *, deviation: float = 16.0) -> jax.Array:
    """Embeds values as sines and cosines of 2 pi f values, at fixed random frequencies f ~ N(0, deviation^2).

    Tancik et al. 2020, section 3; Song et al. 2021, appendix H. The frequencies are constants from numpy's frozen
    RandomState, equal in every run, so checkpoints omit them.

    Args:
        values: numbers [B].
        width: size of an embedding; there are `width / 2` frequencies.
        deviation: standard deviation of the frequencies, cycles per unit of values.

    Returns:
        Embeddings, float32 [B, width].
    """
    frequencies = deviation * np.random.RandomState(0).normal(size=width // 2)
    angles = values.astype(jnp.float32)[:, None] * (2 * math.pi * frequencies).astype(np.float32)[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], 1)


def grid_positions(side: int, width: int) -> np.ndarray:
    """Returns sinusoids of each cell's column and row in a square grid: float32 [side * side, width], half for each."""
    frequencies = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
    rows, columns = np.divmod(np.arange(side * side), side)
    angles = [place[:, None] * frequencies for place in (columns, rows)]
    return np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], 1).astype(np.float32)
