"""Drawing samples: one key per sample, so that sample i is the same in any batch, on any devices."""

import functools
import zlib
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from genlab import conditioning as told
from genlab import data
from genlab.errors import UserError
from genlab.experiment import Experiment
from genlab.run import images
from genlab.training import parallel
from genlab.training.players import example_keys


def keys(seed: int, first: int, count: int, purpose: str = 'sample') -> jax.Array:
    """The keys of examples `first` ... `first + count - 1` of a seed, one stream of them for each purpose."""
    return keys_at(seed, np.arange(first, first + count), purpose)


def keys_at(seed: int, indices: np.ndarray, purpose: str = 'sample') -> jax.Array:
    """The keys [N] of examples at `indices` [N].

    Folding the index into the seed's own key would give sample 1 the very key that training splits off it."""
    return example_keys(jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode())), indices)


def picture(
    experiment: Experiment, placement: parallel.Placement, variables, config: ConfigDict, source: data.Source
) -> np.ndarray:
    """What a model makes, as uint8 [H, W, C]: samples, or held-out examples and their reconstructions if it cannot sample."""
    if experiment.sample:
        return images.picture(draw(experiment, placement, variables, config), reference(source, config))
    indices, reconstruct = np.arange(config.sample.count), jitted(experiment.reconstruct)
    batch = examples(config)(indices)
    made = parallel.run(
        placement,
        lambda variables, both: reconstruct(variables, *both),
        variables,
        (batch, keys_at(config.seed, indices, 'reconstruct')),
    )
    return images.pairs({'x': np.asarray(batch['x']), **made})


def draw(
    experiment: Experiment,
    placement: parallel.Placement,
    variables,
    config: ConfigDict,
    count: int | None = None,
    seed: int | None = None,
    words: str = '',
) -> np.ndarray:
    """Samples [count, ...], images in [-1, 1] or points, drawn `config.sample.chunk` at a time.

    count and seed are the config's unless given. words: what all are told, a sentence or a class; '': as the config says."""
    if experiment.sample is None:
        raise UserError(
            f'a model of config.experiment={config.experiment!r} cannot sample; --mode=evaluate shows what it can'
        )
    count, seed, chunk = count or config.sample.count, config.seed if seed is None else seed, config.sample.chunk
    conditions = conditioned(config, words)
    sample = jitted(experiment.sample)
    parts = []
    for first in range(0, count, chunk):
        both = keys(seed, first, chunk), conditions(np.arange(first, first + chunk))
        parts.append(parallel.run(placement, lambda variables, both: sample(variables, *both), variables, both))
    return np.concatenate(parts)[:count]


def conditioned(config: ConfigDict, words: str = '') -> Callable[[np.ndarray], dict | None]:
    """A function that gives what samples [N] go by: nothing, or held-out examples, which say `words` if there are any."""
    if not (config.sample.condition or words):
        return lambda indices: None
    source, at = prepared(FrozenConfigDict(config.data), 'test')[0], examples(config)
    said = told.fields(config, source, words) if words else {}
    return lambda indices: {**at(indices), **{name: np.stack([value] * len(indices)) for name, value in said.items()}}


def spoken(config: ConfigDict, count: int, words: str = '') -> list[str]:
    """What each sample is told, as words; nothing where they are told nothing."""
    if not (config.sample.condition or words):
        return []
    source, _ = prepared(FrozenConfigDict(config.data), 'test')
    if words:
        one = {name: value[None] for name, value in told.fields(config, source, words).items()}
        return told.lines(source, one) * count
    return told.lines(source, source.rows(np.arange(count) % len(source)))


def examples(config: ConfigDict, split: str = 'test') -> Callable[[np.ndarray], dict]:
    """A function that gives prepared examples of a split by index [N], around and around it, without flips and crops."""
    source, prepare = prepared(FrozenConfigDict(config.data), split)

    def at(indices):
        batch = {**source.rows(indices % len(source)), 'position': indices.astype(np.int32)}
        return prepare(batch, keys_at(config.seed, indices, 'prepare'))

    return at


@functools.lru_cache(maxsize=2)
def prepared(config_data: FrozenConfigDict, split: str) -> tuple[data.Source, Callable]:
    """(the source of a split, its compiled preparation): loaded and compiled once for all that a run asks of it."""
    source = data.load(config_data, split)
    return source, jax.jit(data.prepare_batch(config_data, source, train=False))


def reference(source: data.Source, config: ConfigDict) -> np.ndarray | None:
    """Real points to draw behind samples of points; None for images."""
    if len(source.fields[config.data.observe].shape) != 1:
        return None
    return source.rows(np.arange(min(2000, len(source))))[config.data.observe]


@functools.lru_cache(maxsize=64)
def jitted(function: Callable) -> Callable:
    """`jax.jit(function)`, the same object at each call, so that it compiles once."""
    return jax.jit(function)
