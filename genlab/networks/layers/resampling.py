"""Resamples images by a factor of two, with or without a smooth filter, and moves patches into channels."""

from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

TAPS = 1, 3, 3, 1  # weights of the smooth filter before normalisation (Karras et al. 2022, table 7; as in StyleGAN2)


def halve(x: jax.Array, smooth: bool = False) -> jax.Array:
    """Averages 2x2 pixels, or 4x4 by `filtered` if `smooth`: [B, H, W, C] -> [B, H / 2, W / 2, C]."""
    if smooth:
        return filtered(x, 1, 2)
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def double(x: jax.Array, smooth: bool = False) -> jax.Array:
    """Repeats each pixel 2x2 times: [B, H, W, C] -> [B, 2 H, 2 W, C].

    With `smooth`, applies four times the transpose of smooth `halve` instead.
    """
    if smooth:
        return _double_smoothly(_double_smoothly(x, 1), 2)
    batch, height, width, channels = x.shape
    repeated = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return repeated.reshape(batch, 2 * height, 2 * width, channels)


def filtered(x: jax.Array, padding: int, stride: int, taps: tuple[int, ...] = TAPS) -> jax.Array:
    """Pads with zeros, applies a filter along height and width, and keeps every `stride`-th value.

    Sums shifted slices, because a depthwise convolution is slow on a CPU.

    Args:
        x: images [B, H, W, C].
        padding: zeros added on each side.
        stride: distance between kept values, in pixels.
        taps: weights of the filter. They are divided by their sum.

    Returns:
        Images [B, (H + 2 * padding - n) // stride + 1, (W + 2 * padding - n) // stride + 1, C] for n taps.
    """
    for axis in (1, 2):
        x = _pad(x, axis, padding)
        places = x.shape[axis] - len(taps) + 1
        shifted = (lax.slice_in_dim(x, i, i + places, stride, axis) for i in range(len(taps)))
        x = cast(jax.Array, sum(tap / sum(taps) * part for tap, part in zip(taps, shifted)))
    return x


def _double_smoothly(x: jax.Array, axis: int) -> jax.Array:
    """Interpolates linearly: 3/4 of the nearer pixel plus 1/4 of the other."""
    size, around = x.shape[axis], _pad(x, axis, 1)
    before, after = (lax.slice_in_dim(around, start, start + size, axis=axis) for start in (0, 2))
    both = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
    return both.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])


def _pad(x: jax.Array, axis: int, padding: int) -> jax.Array:
    """Adds `padding` zeros at both ends of one axis."""
    return jnp.pad(x, [(padding, padding) if i == axis else (0, 0) for i in range(x.ndim)])


def patchify(x: jax.Array, patch: int) -> jax.Array:
    """Moves each square patch of pixels into the channels (space to depth).

    Saves compute where neighbouring pixels are redundant (Luhman and Luhman 2022).

    Args:
        x: images [B, H, W, C].
        patch: side p of a patch, in pixels; it divides H and W.

    Returns:
        Patches [B, H / p, W / p, p * p * C], row by row within a patch.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // patch, width // patch, -1)


def unpatchify(x: jax.Array, patch: int) -> jax.Array:
    """Inverts `patchify` (depth to space): [B, h, w, p * p * C] -> [B, h * p, w * p, C]."""
    batch, height, width, _ = x.shape
    x = x.reshape(batch, height, width, patch, patch, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * patch, width * patch, -1)


def doublings(resolution: int, least: int = 8) -> int:
    """Returns the number of doublings from 4x4 to the resolution, a power of two of at least `least`."""
    if resolution < least or resolution & (resolution - 1):
        raise ValueError(
            f'this network needs a resolution that is a power of two of at least {least}, not {resolution}'
        )
    return resolution.bit_length() - 3


def sides(resolution: int) -> list[int]:
    """Returns the sides of all feature maps: halved while even and above 4, for example 28, 14, 7."""
    found = [resolution]
    while found[-1] % 2 == 0 and found[-1] > 4:
        found.append(found[-1] // 2)
    return found
