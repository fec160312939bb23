"""What a model can do with codes, on host arrays, compiled once and done in blocks over all devices."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import data
from genlab.abilities import Codec, Variables
from genlab.sampling import drawing
from genlab.training import parallel


class Codes(NamedTuple):
    """Some codes of a model, what they are codes of, and the ways to more of them. `flat` codes are [N, D]."""

    known: np.ndarray  # [N, ...], of training examples, or of samples where the model cannot encode
    decoded: np.ndarray  # [N, ...] float32, the examples or samples
    labels: np.ndarray | None  # [N], of the examples
    decode: Callable  # codes [N, ...] -> images or points [N, ...]
    encode: Callable | None  # prepared batch -> codes [B, ...]
    prior: Callable | None  # count -> codes [N, ...]
    mix: Callable | None  # coarse codes [N, ...], fine codes [N, ...] -> images [N, ...]

    @property
    def flat(self) -> np.ndarray:
        """The known codes as vectors, [N, D]."""
        return self.known.reshape(len(self.known), -1)

    def decode_all(self, codes: np.ndarray) -> np.ndarray:
        """Codes [rows, columns, ...], flat or not -> [rows, columns, ...]."""
        made = self.decode(codes.reshape(-1, *self.known.shape[1:]))
        return made.reshape(*codes.shape[:2], *made.shape[1:])


def learn(config: ConfigDict, codec: Codec, placement: parallel.Placement, variables: Variables) -> Codes:
    """`config.explore.examples` codes of a model, encoded from training examples or else drawn from its prior."""
    chunk = config.sample.chunk

    def blocks(function: Callable, examples: Callable[[np.ndarray], object], count: int) -> np.ndarray:
        compiled = drawing.jitted(function)
        parts = [
            parallel.run(placement, compiled, variables, examples(np.arange(first, first + chunk)))
            for first in range(0, count, chunk)
        ]
        return np.concatenate(parts)[:count].astype(np.float32)

    def encode(batch):
        return blocks(
            codec.encode,
            lambda indices: {name: np.asarray(array)[indices % len(batch['x'])] for name, array in batch.items()},
            len(batch['x']),
        )

    def prior(count):
        return blocks(codec.prior, lambda indices: drawing.keys(config.seed, indices[0], chunk, 'explore'), count)

    def decode(codes):
        return blocks(codec.decode, lambda indices: codes[indices % len(codes)], len(codes))

    def mixed(variables, both):
        return codec.mix(variables, *both)

    def mix(coarse, fine):
        return blocks(mixed, lambda indices: (coarse[indices % len(coarse)], fine[indices % len(coarse)]), len(coarse))

    count = config.explore.examples
    ways = (
        decode,
        encode if codec.encode else None,
        prior if codec.prior else None,
        mix if codec.mix else None,
    )
    if codec.encode:
        batch = jax.device_get(drawing.examples(config, 'train')(np.arange(min(count, len(data.load(config.data))))))
        return Codes(encode(batch), batch['x'], batch.get('label'), *ways)
    codes = prior(count)
    return Codes(codes, decode(codes), None, *ways)
