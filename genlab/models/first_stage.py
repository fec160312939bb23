"""The first stage of a two-stage model: an autoencoder whose codes on a grid a second model learns."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax

from genlab.abilities import Batch, Measure, Reconstruct, Variables
from genlab.training.players import Objective
from genlab.training.state import Network


class EncodeGrid(Protocol):
    def __call__(self, variables: Variables, batch: Batch, keys: jax.Array | None) -> jax.Array:
        """Draws the codes of each example, one key each, or returns their mean without keys: [B, h, w, D]."""


class DecodeGrid(Protocol):
    def __call__(self, variables: Variables, codes: jax.Array) -> jax.Array:
        """Decodes codes [B, h, w, D] to images [B, H, W, C]."""


class FirstStage(NamedTuple):
    """What a second stage needs of an autoencoder, and what trains it."""

    grid: tuple[int, int, int]  # the shape [h, w, D] of its codes
    encode: EncodeGrid
    decode: DecodeGrid
    networks: Callable[[Batch], dict[str, Network]]
    objective: Objective
    measure: Measure
    reconstruct: Reconstruct
    trains: tuple[str, ...]  # its networks
    updates: tuple[str, ...] = ()  # of these, the ones whose collections training writes
