"""Drawing samples: one key per sample, so that sample i is the same in any batch, on any devices."""

import functools
import zlib
from typing import Callable

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from genlab import data, images, parallel
from genlab.errors import UserError
from genlab.experiment import Experiment
from genlab.players import example_keys


def keys(seed: int, first: int, count: int, purpose: str = 'sample') -> jax.Array:
    """The keys of examples `first` ... `first + count - 1` of a seed, one stream of them for each purpose.

    Folding the index into the seed's own key would give sample 1 the very key that training splits off it."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))
    return example_keys(key, np.arange(first, first + count))


def picture(experiment: Experiment, placement: parallel.Placement, variables, config: ConfigDict,
            source: data.Source) -> np.ndarray:
    """What a model makes, as uint8 [H, W, C]: samples, or held-out examples and their reconstructions if it cannot sample."""
    if experiment.sample:
        return images.picture(draw(experiment, placement, variables, config), reference(source, config))
    indices = np.arange(min(config.sample.count, len(test_set(FrozenConfigDict(config.data))[0])))
    batch = held_out(config)(indices)
    both = batch, keys(config.seed, 0, len(indices), 'reconstruct')
    made = parallel.run(placement, _reconstruction(experiment.reconstruct), variables, both)
    return images.pairs({'x': np.asarray(batch['x']), **made})


@functools.lru_cache(maxsize=64)
def _reconstruction(reconstruct: Callable) -> Callable:
    return jax.jit(lambda variables, both: reconstruct(variables, *both))


def draw(experiment: Experiment, placement: parallel.Placement, variables, config: ConfigDict, count: int | None = None,
         seed: int | None = None) -> np.ndarray:
    """Samples [count, ...], images in [-1, 1] or points, drawn `config.sample.chunk` at a time.

    count and seed are the config's unless given."""
    if experiment.sample is None:
        raise UserError(f'a model of config.experiment={config.experiment!r} cannot sample; --mode=evaluate shows what it can')
    count, seed, chunk = count or config.sample.count, config.seed if seed is None else seed, config.sample.chunk
    conditions = held_out(config) if config.sample.condition else lambda indices: None
    sample = jitted(experiment.sample)
    parts = []
    for first in range(0, count, chunk):
        examples = keys(seed, first, chunk), conditions(np.arange(first, first + chunk))
        parts.append(parallel.run(placement, lambda variables, both: sample(variables, *both), variables, examples))
    return np.concatenate(parts)[:count]


def held_out(config: ConfigDict) -> Callable[[np.ndarray], dict]:
    """A function that gives prepared held-out examples by index, around and around the test set."""
    source, prepare = test_set(FrozenConfigDict(config.data))

    def conditions(indices):
        batch = {**source.rows(indices % len(source)), 'position': indices.astype(np.int32)}
        return prepare(batch, keys(config.seed, int(indices[0]), len(indices), 'prepare'))

    return conditions


@functools.lru_cache(maxsize=1)
def test_set(config_data: FrozenConfigDict) -> tuple[data.Source, Callable]:
    """(the held-out source, its compiled preparation): loaded and compiled once for all the samples of a run."""
    source = data.load(config_data, 'test')
    return source, jax.jit(data.prepare(config_data, source, train=False))


def reference(source: data.Source, config: ConfigDict) -> np.ndarray | None:
    """Real points to draw behind samples of points; None for images."""
    if len(source.fields[config.data.observe].shape) != 1:
        return None
    return source.rows(np.arange(min(2000, len(source))))[config.data.observe]


@functools.lru_cache(maxsize=64)
def jitted(function: Callable) -> Callable:
    """`jax.jit(function)`, the same object at each call, so that it compiles once."""
    return jax.jit(function)
