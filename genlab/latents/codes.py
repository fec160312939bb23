"""The codes of a model as vectors on the host, with functions to encode, draw, decode and mix them.

All functions run in blocks over all devices, and are compiled once. A code of any structure is one vector [D]; see
`genlab.latents.vectors`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import data
from genlab.abilities import Codec, Variables
from genlab.latents import vectors
from genlab.latents.vectors import Layout
from genlab.sampling import drawing
from genlab.training import parallel


class Codes(NamedTuple):
    """Some codes of a model with their examples, and functions that give more of them."""

    known: np.ndarray  # [N, D] float32, of training examples, or of samples if the model cannot encode
    decoded: np.ndarray  # [N, ...] float32, the examples or samples
    labels: np.ndarray | None  # [N], of the examples
    layout: Layout  # layout of a code before it is flattened
    decode: Callable[[np.ndarray], np.ndarray]  # [N, D] -> images or points [N, ...]
    encode: Callable[[Mapping[str, Any]], np.ndarray] | None  # prepared batch -> [B, D]
    prior: Callable[[int], np.ndarray] | None  # count -> [N, D]
    mix: Callable[[np.ndarray, np.ndarray], np.ndarray] | None  # coarse [N, D], fine [N, D] -> images [N, ...]
    truncated: Callable[[np.ndarray, np.ndarray], np.ndarray] | None  # codes [N, D], shares [N] -> images [N, ...]
    directions: np.ndarray | None  # [K, D], from the weights

    def decode_all(self, codes: np.ndarray) -> np.ndarray:
        """Decodes a grid of codes: [rows, columns, D] -> [rows, columns, ...]."""
        decoded = self.decode(codes.reshape(-1, codes.shape[-1]))
        return decoded.reshape(*codes.shape[:2], *decoded.shape[1:])


def learn(config: ConfigDict, codec: Codec, placement: parallel.Placement, variables: Variables) -> Codes:
    """Returns `config.explore.examples` codes, of training examples if the model encodes, else from its prior.

    Args:
      config: config of the run.
      codec: codec of the model; with `encode` or `prior`.
      placement: placement of the variables.
      variables: variables of the model.
    """
    run = functools.partial(_in_blocks, placement, variables, config.sample.chunk)
    encode = None if codec.encode is None else functools.partial(_encode, run, codec.encode)
    prior = None if codec.prior is None else functools.partial(_prior, run, codec.prior, config.seed)
    count, labels, examples = config.explore.examples, None, None
    if encode is not None:
        count = min(count, len(data.load(config.data)))
        batch = jax.device_get(drawing.examples(config, 'train')(np.arange(count)))
        codes, examples, labels = encode(batch), batch['x'], batch.get('label')
    elif prior is not None:
        codes = prior(count)
    else:
        raise ValueError('a codec without `encode` and `prior` has no codes')
    layout = vectors.layout_of(codes)
    decode = functools.partial(_decode, run, codec.decode, layout)
    known = _vectors(codes)
    return Codes(
        known,
        decode(known) if examples is None else examples,
        labels,
        layout,
        decode,
        None if encode is None else lambda batch: _vectors(encode(batch)),
        None if prior is None else lambda count: _vectors(prior(count)),
        None if codec.mix is None else functools.partial(_mix, run, codec.mix, layout),
        None if codec.truncate is None else functools.partial(_truncated, run, codec.truncate, codec.decode, layout),
        None if codec.directions is None else np.asarray(codec.directions(parallel.to_host(variables)), np.float32),
    )


@functools.lru_cache(maxsize=16)
def vector_decoder(decode: Callable, layout: Layout) -> Callable[[Variables, jax.Array], jax.Array]:
    """Returns (variables, vectors [B, D]) -> images or points [B, ...], the same object per pair of arguments."""
    return lambda variables, codes: decode(variables, layout.restore(codes))


def _in_blocks(
    placement: parallel.Placement,
    variables: Variables,
    chunk: int,
    function: Callable,
    examples: Callable[[np.ndarray], Any],
    count: int,
) -> Any:
    """Returns function(variables, examples(indices)) for indices 0 ... count - 1, as a tree with leaves [count, ...].

    Every block has `chunk` indices, so one shape is compiled: `examples` must accept indices beyond `count`.
    """
    compiled = drawing.jitted(function)
    blocks = [
        parallel.run(placement, compiled, variables, examples(np.arange(first, first + chunk)))
        for first in range(0, count, chunk)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *blocks)


def _vectors(codes: Any) -> np.ndarray:
    return vectors.flatten(codes).astype(np.float32)


def _encode(run: Callable, encode: Callable, batch: Mapping[str, Any]) -> Any:
    """Encodes a prepared batch, with leaves [B, ...]."""
    count = len(batch['x'])
    return run(encode, lambda rows: {name: np.asarray(array)[rows % count] for name, array in batch.items()}, count)


def _prior(run: Callable, prior: Callable, seed: int, count: int) -> Any:
    """Draws codes with leaves [count, ...] from the prior; code i depends on the seed and i only."""
    return run(prior, lambda rows: drawing.keys(seed, rows[0], len(rows), 'explore'), count)


def _decode(run: Callable, decode: Callable, layout: Layout, codes: np.ndarray) -> np.ndarray:
    """Decodes vectors [N, D] to images or points [N, ...]."""
    return run(decode, lambda rows: layout.restore(codes[rows % len(codes)]), len(codes)).astype(np.float32)


def _mix(run: Callable, mix: Callable, layout: Layout, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Mixes vectors [N, D] and [N, D] to images [N, ...]."""

    def both(rows: np.ndarray) -> tuple[Any, Any]:
        rows = rows % len(coarse)
        return layout.restore(coarse[rows]), layout.restore(fine[rows])

    return run(_pairwise(mix), both, len(coarse)).astype(np.float32)


def _truncated(
    run: Callable, truncate: Callable, decode: Callable, layout: Layout, codes: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """Decodes vectors [N, D], each truncated to its share [N]."""

    def both(rows: np.ndarray) -> tuple[Any, Any]:
        rows = rows % len(codes)
        return layout.restore(codes[rows]), shares[rows].astype(np.float32)

    return run(_decoded_at(truncate, decode), both, len(codes)).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _decoded_at(truncate: Callable, decode: Callable) -> Callable:
    """Returns (variables, (codes, shares)) -> images, the same object per pair, so that it compiles once."""
    return lambda variables, both: decode(variables, truncate(variables, *both))


@functools.lru_cache(maxsize=16)
def _pairwise(mix: Callable) -> Callable:
    """Returns (variables, (coarse, fine)) -> images, the same object per `mix`, so that it compiles once."""
    return lambda variables, both: mix(variables, *both)
