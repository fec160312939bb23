"""Tokenizers: autoencoders whose codes the prior of a second stage models.

Codes are a pytree with one grid per level: an array [B, h, w], or a mapping such as {'top': [B, h, w], 'bottom':
[B, 2h, 2w]}. Entries of a codebook are int32 0 ... K - 1; continuous codes are float32 [B, h, w, D]. As a data source
(`genlab.data.sources.codes`) each grid is a field: one grid is `codes`, several have their own names.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genlab.abilities import Batch, Codes, Decode, Encode
from genlab.data.source import Field
from genlab.training.state import Network

FIELD = 'codes'  # the field of a single grid, or of the values of all grids


class Tokenizer(NamedTuple):
    """Holds what a second stage needs of an autoencoder."""

    shapes: Any  # of an example's codes: a tuple, (h, w) or (h, w, D) if continuous, or a mapping of names to tuples
    entries: Any  # number of entries of the codebook K, in the structure of `shapes`; 0 where codes are continuous
    encode: Encode  # (variables, batch) -> codes, without noise
    decode: Decode  # (variables, codes) -> images [B, H, W, C] in [-1, 1]
    networks: Callable[[Batch], dict[str, Network]]  # from a prepared batch of its own data
    names: tuple[str, ...]  # names of these networks


def levels(tree: Any) -> dict[str, Any]:
    """Returns a tree of one value per grid, e.g. `shapes`, as a mapping; a single grid is named `codes`."""
    return dict(tree) if isinstance(tree, Mapping) else {FIELD: tree}


def fields(tokenizer: Tokenizer) -> dict[str, Field]:
    """Returns the declarations of the fields with the codes: one per grid.

    Several grids of entries come with a field `codes`, int32 [D]: the values of all grids in the order of `shapes`.
    """
    entries = levels(tokenizer.entries)
    grids = {name: _field(shape, entries[name]) for name, shape in levels(tokenizer.shapes).items()}
    if FIELD not in grids:
        length = sum(int(np.prod(grid.shape)) for grid in grids.values())
        grids[FIELD] = _field((length,), max(entries.values()) if min(entries.values()) else 0)
    return grids


def _field(shape: tuple[int, ...], entries: int) -> Field:
    if entries:
        return Field(tuple(shape), np.dtype(np.int32), 0, entries - 1)
    return Field(tuple(shape), np.dtype(np.float32), -np.inf, np.inf)


def flat(tokenizer: Tokenizer, grids: Mapping[str, Any]) -> Any:
    """Joins the values of all grids {name: [B, ...]} to [B, D], in the order of `shapes`."""
    parts = [grids[name].reshape(len(grids[name]), -1) for name in levels(tokenizer.shapes)]
    return np.concatenate(parts, 1) if isinstance(parts[0], np.ndarray) else jnp.concatenate(parts, 1)


def unflat(tokenizer: Tokenizer, values: jax.Array) -> Codes:
    """Returns the codes with values [B, D]; the inverse of `flat`."""
    grids, start = {}, 0
    for name, shape in levels(tokenizer.shapes).items():
        stop = start + int(np.prod(shape))
        grids[name] = values[:, start:stop].reshape(len(values), *shape)
        start = stop
    return grids if isinstance(tokenizer.shapes, Mapping) else grids[FIELD]


def take(tokenizer: Tokenizer, batch: Mapping[str, jax.Array]) -> Codes:
    """Takes the codes out of a batch whose fields they are, in the structure of `shapes`."""
    grids = {name: batch[name] for name in levels(tokenizer.shapes)}
    return grids if isinstance(tokenizer.shapes, Mapping) else grids[FIELD]
