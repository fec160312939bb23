"""The first stage of a two-stage model: an autoencoder with codes on a grid, which the second stage models."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax

from genlab.abilities import Batch, Measure, Reconstruct, Variables
from genlab.training.players import Objective
from genlab.training.state import Network


class EncodeGrid(Protocol):
    def __call__(self, variables: Variables, batch: Batch, keys: jax.Array | None) -> jax.Array:
        """Draws the codes [B, h, w, D] with one key per example [B], or returns their means if keys is None."""


class DecodeGrid(Protocol):
    def __call__(self, variables: Variables, codes: jax.Array) -> jax.Array:
        """Decodes codes [B, h, w, D] to images [B, H, W, C]."""


class FirstStage(NamedTuple):
    """Holds the functions of an autoencoder that a second stage needs, and those that train it."""

    grid: tuple[int, int, int]  # the shape [h, w, D] of its codes
    encode: EncodeGrid
    decode: DecodeGrid
    networks: Callable[[Batch], dict[str, Network]]
    objective: Objective
    measure: Measure
    reconstruct: Reconstruct
    trains: tuple[str, ...]  # names of its networks
    updates: tuple[str, ...] = ()  # networks whose collections training writes
