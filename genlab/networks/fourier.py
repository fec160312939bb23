"""Numbers as vectors: random Fourier features."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def fourier_features(values: jax.Array, width: int, *, deviation: float = 16.0) -> jax.Array:
    """Sines and cosines of 2 pi f values, values [B], at `width / 2` fixed frequencies f ~ N(0, deviation^2): [B, width].

    (Tancik et al. 2020, section 3; Song et al. 2021, appendix H.) The frequencies never learn, and are the same in every run:
    those of numpy's frozen RandomState, so that a checkpoint need not hold them."""
    frequencies = deviation * np.random.RandomState(0).normal(size=width // 2)
    angles = values.astype(jnp.float32)[:, None] * np.float32(2 * math.pi * frequencies)[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], 1)
