"""Codes as vectors: flattens a pytree of float arrays to one vector per example, and restores it.

layout = layout_of(codes)  # e.g. {'top': [N, 4, 4, 8], 'bottom': [N, 8, 8, 8]}
vectors = flatten(codes)  # [N, 640]
codes = layout.restore(vectors)
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genlab.abilities import Codes


class Layout(NamedTuple):
    """The structure of a code: hashable, so that a compiled function can depend on it."""

    structure: Any  # the tree without its arrays
    shapes: tuple[tuple[int, ...], ...]  # per array, without the axis of examples

    @property
    def size(self) -> int:
        """The length D of a vector."""
        return sum(map(math.prod, self.shapes))

    def restore(self, vectors: Any) -> Codes:
        """Restores codes with leaves [N, ...] from vectors [N, D], numpy or traced."""
        leaves, start = [], 0
        for shape in self.shapes:
            stop = start + math.prod(shape)
            leaves.append(vectors[:, start:stop].reshape(-1, *shape))
            start = stop
        return jax.tree.unflatten(self.structure, leaves)


def layout_of(codes: Codes) -> Layout:
    """Returns the layout of codes with leaves [N, ...].

    Raises:
      TypeError: a leaf is not an array of floats.
    """
    leaves, structure = jax.tree.flatten(codes)
    if wrong := [leaf.dtype for leaf in leaves if not jnp.issubdtype(leaf.dtype, jnp.floating)]:
        raise TypeError(f'codes of {wrong[0]} cannot be vectors: only floats can')
    return Layout(structure, tuple(leaf.shape[1:] for leaf in leaves))


def flatten(codes: Codes) -> np.ndarray:
    """Flattens codes with leaves [N, ...] to vectors [N, D]; leaves are in the order of `jax.tree.leaves`."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(codes)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
