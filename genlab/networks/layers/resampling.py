"""Images [B, H, W, C] at half and at twice their sides: by means and repeats, by a smooth filter, or by squares of pixels."""

import jax
import jax.numpy as jnp
from jax import lax

TAPS = 1, 3, 3, 1  # of the smooth filter, over their sum (Karras et al. 2022, table 7; as in StyleGAN2)


def halve(x: jax.Array, smooth: bool = False) -> jax.Array:
    """The mean of each 2x2 pixels, or of 4x4 by `filtered`: [B, H, W, C] -> [B, H / 2, W / 2, C]."""
    if smooth:
        return filtered(x, 1, 2)
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def double(x: jax.Array, smooth: bool = False) -> jax.Array:
    """Each pixel four times, or four times the transpose of the smooth `halve`: [B, H, W, C] -> [B, 2 H, 2 W, C]."""
    if smooth:
        return _double_smoothly(_double_smoothly(x, 1), 2)
    batch, height, width, channels = x.shape
    repeated = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return repeated.reshape(batch, 2 * height, 2 * width, channels)


def filtered(x: jax.Array, padding: int, stride: int) -> jax.Array:
    """Every `stride`-th mean of four neighbours by [1, 3, 3, 1] / 8 along height and width, with `padding` zeros around.

    Sums of shifted slices: a convolution of each channel by itself is slow on a CPU."""
    for axis in (1, 2):
        x = _surrounded(x, axis, padding)
        places = x.shape[axis] - len(TAPS) + 1
        shifted = (lax.slice_in_dim(x, i, i + places, stride, axis) for i in range(len(TAPS)))
        x = sum(tap / sum(TAPS) * part for tap, part in zip(TAPS, shifted))
    return x


def _double_smoothly(x: jax.Array, axis: int) -> jax.Array:
    """Between two pixels, 3/4 of the nearer one and 1/4 of the other."""
    size, around = x.shape[axis], _surrounded(x, axis, 1)
    before, after = (lax.slice_in_dim(around, start, start + size, axis=axis) for start in (0, 2))
    both = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
    return both.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])


def _surrounded(x: jax.Array, axis: int, padding: int) -> jax.Array:
    return jnp.pad(x, [(padding, padding) if i == axis else (0, 0) for i in range(x.ndim)])


def squares(x: jax.Array, patch: int) -> jax.Array:
    """[B, H, W, C] -> [B, H / p, W / p, p p C]: cheaper at once where neighbours say much the same (Luhman & Luhman 2022)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // patch, width // patch, -1)


def pixels(x: jax.Array, patch: int) -> jax.Array:
    """The inverse of `squares`."""
    batch, height, width, _ = x.shape
    x = x.reshape(batch, height, width, patch, patch, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * patch, width * patch, -1)
