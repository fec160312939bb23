"""Drawing samples: one key per sample, so that sample i is the same in any batch, on any devices."""

import functools
import zlib
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from genlab import conditioning, data
from genlab.abilities import Variables
from genlab.conditioning import Condition, Conditions
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
    experiment: Experiment, placement: parallel.Placement, variables: Variables, config: ConfigDict, source: data.Source
) -> np.ndarray | None:
    """Draws samples as a picture uint8 [H, W, C]; held-out examples and their reconstructions if a model cannot sample.

    A model that can do neither gives None."""
    if experiment.sampler:
        return images.picture(draw(experiment, placement, variables, config), reference(source, config))
    if experiment.reconstruct is None:
        return None
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
    variables: Variables,
    config: ConfigDict,
    count: int | None = None,
    seed: int | None = None,
    prompt: str = '',
    label: str = '',
) -> np.ndarray:
    """Draws samples [count, ...], images in [-1, 1] or points, `config.sample.chunk` at a time.

    Args:
      count, seed: those of the config unless given.
      prompt, label: a caption or a class that conditions every sample; '': see `condition_at`.
    """
    if experiment.sampler is None:
        raise UserError(
            f'a model of config.experiment={config.experiment!r} cannot sample; --mode=evaluate shows what it can'
        )
    count, seed, chunk = count or config.sample.count, config.seed if seed is None else seed, config.sample.chunk
    condition = condition_at(config, experiment.conditions, seed, prompt, label)
    sample = jitted(experiment.sampler.sample)
    parts = []
    for first in range(0, count, chunk):
        both = keys(seed, first, chunk), condition(np.arange(first, first + chunk))
        parts.append(parallel.run(placement, lambda variables, both: sample(variables, *both), variables, both))
    return np.concatenate(parts)[:count]


def condition_at(
    config: ConfigDict, conditions: Conditions, seed: int = 0, prompt: str = '', label: str = ''
) -> Callable[[np.ndarray], Condition]:
    """Returns a function from sample numbers [N] to their condition.

    It is what `prompt` and `label` say; else, with `config.sample.condition`, that of held-out examples; else random.
    """
    if prompt or label:
        source = prepared(FrozenConfigDict(config.data), 'test')[0]
        one = conditioning.from_text(conditions, source, 1, prompt, label)
        return lambda indices: {name: np.repeat(value, len(indices), 0) for name, value in one.items()}
    if not conditions.any:
        return lambda indices: {}
    source = prepared(FrozenConfigDict(config.data), 'test')[0]
    if config.sample.condition:
        return lambda indices: conditioning.from_batch(conditions, source.rows(indices % len(source)))
    length = conditioning.caption_length(source)
    return lambda indices: jax.device_get(conditioning.random(conditions, keys_at(seed, indices), length))


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
