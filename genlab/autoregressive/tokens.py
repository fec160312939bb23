"""How data become tokens of a grid, and back."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Tokens(NamedTuple):
    """Holds a grid of tokens, and the maps between data x [B, ...] and tokens int32 [B, h, w] in 0 ... entries - 1."""

    shape: tuple[int, int]  # h, w
    entries: int
    enter: Callable[[jax.Array], jax.Array]  # x [B, ...] -> tokens
    leave: Callable[[jax.Array], jax.Array]  # tokens -> x


def codes(shape: tuple[int, int], entries: int) -> Tokens:
    """Returns the tokens of data that are codes already, int32 [B, h, w]."""
    return Tokens(shape, entries, lambda x: x, lambda tokens: tokens)


def levels(shape: tuple[int, int], entries: int = 2) -> Tokens:
    """Returns the tokens of grey images [B, h, w, 1] with evenly spaced levels in [-1, 1]; 2 if they are binarised."""
    return Tokens(
        shape,
        entries,
        lambda x: jnp.round((x[..., 0] + 1) / 2 * (entries - 1)).astype(jnp.int32),
        lambda tokens: (tokens[..., None] / (entries - 1) * 2 - 1).astype(jnp.float32),
    )


def patches(shape: tuple[int, int], patch: tuple[int, int]) -> Tokens:
    """Returns the tokens of binary images [B, H, W, 1] in {-1, 1}: a patch of p x q pixels is one of 2^(p q) entries.

    The map is one to one, so a likelihood of the tokens is the likelihood of the pixels. A grid of fewer places costs
    a network less.

    Args:
        shape: h and w of the grid: H = h p, W = w q.
        patch: p and q.
    """
    (height, width), (rows, columns) = shape, patch
    place = np.arange(rows * columns).reshape(rows, 1, columns)  # the first pixel is the lowest bit

    def enter(x: jax.Array) -> jax.Array:
        bits = (x > 0).reshape(len(x), height, rows, width, columns).astype(jnp.int32)
        return (bits << place[None, None]).sum((2, 4))

    def leave(tokens: jax.Array) -> jax.Array:
        bits = (tokens[:, :, None, :, None] >> place[None, None]) & 1
        return (bits * 2.0 - 1).astype(jnp.float32).reshape(len(tokens), height * rows, width * columns, 1)

    return Tokens(shape, 2 ** (rows * columns), enter, leave)


def known_places(mask: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Reduces a mask of data to the places of a grid: bool [B, h * w].

    Args:
        mask: 1 where data are known, [B, H, W, 1] or [B, H, W]; H and W are multiples of h and w.
        shape: h and w.

    Returns:
        True at a place whose part of the data is known as a whole.
    """
    height, width = shape
    cells = mask.reshape(len(mask), height, mask.shape[1] // height, width, mask.shape[2] // width)
    return (cells.min((2, 4)) > 0).reshape(len(mask), -1)
