"""Drawing samples: one key per sample, so that sample i is the same in any batch, on any devices."""

import functools
import math
from typing import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import data, parallel
from genlab.experiment import Experiment


def keys(seed: int, first: int, count: int) -> jax.Array:
    """The keys of samples `first` ... `first + count - 1` of a seed."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), np.arange(first, first + count))


def draw(experiment: Experiment, placement: parallel.Placement, variables, config: ConfigDict, count: int | None = None,
         seed: int | None = None) -> np.ndarray:
    """Samples [count, ...], images in [-1, 1] or points, drawn `config.sample.chunk` at a time.

    count and seed are the config's unless given."""
    count, seed, chunk = count or config.sample.count, config.seed if seed is None else seed, config.sample.chunk
    conditions = held_out(config) if config.sample.condition else lambda indices: None
    sample = jitted(experiment.sample)
    parts = []
    for first in range(0, math.ceil(count / chunk) * chunk, chunk):
        examples = keys(seed, first, chunk), conditions(np.arange(first, first + chunk))
        parts.append(parallel.run(placement, lambda variables, both: sample(variables, *both), variables, examples))
    return np.concatenate(parts)[:count]


def held_out(config: ConfigDict) -> Callable[[np.ndarray], dict]:
    """A function that gives prepared held-out examples by index, around and around the test set."""
    source = data.load(config.data, 'test')
    prepare = jitted(data.prepare(config.data, source, train=False))

    def conditions(indices):
        batch = {**source.rows(indices % len(source)), 'position': indices.astype(np.int32)}
        return prepare(batch, keys(config.seed, int(indices[0]), len(indices)))

    return conditions


def reference(source: data.Source, config: ConfigDict) -> np.ndarray | None:
    """Real points to draw behind samples of points; None for images."""
    if len(source.fields[config.data.observe].shape) != 1:
        return None
    return source.rows(np.arange(min(2000, len(source))))[config.data.observe]


@functools.lru_cache(maxsize=64)
def jitted(function: Callable) -> Callable:
    """`jax.jit(function)`, the same object at each call, so that it compiles once."""
    return jax.jit(function)
