"""Draws samples with one key per sample, so that sample i is the same in any batch and on any devices."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from genlab import conditioning, data
from genlab.abilities import Variables
from genlab.conditioning import Conditions
from genlab.errors import UserError
from genlab.experiment import Experiment
from genlab.noise import named_key
from genlab.run import images, workdir
from genlab.run.files import name_of
from genlab.training import parallel
from genlab.training.players import example_keys


def keys(seed: int, first: int, count: int, purpose: str = 'sample') -> jax.Array:
    """Returns the keys of consecutive examples.

    Args:
      seed: of the stream.
      first: index of the first example.
      count: number of examples, N.
      purpose: name of the stream; each name has independent keys.

    Returns:
      Typed keys [N].
    """
    return keys_at(seed, np.arange(first, first + count), purpose)


def keys_at(seed: int, indices: np.ndarray, purpose: str = 'sample') -> jax.Array:
    """Returns the keys of examples.

    The purpose is folded in first. The index alone would give sample 1 the key that training splits off the seed's key.

    Args:
      seed: of the stream.
      indices: int [N].
      purpose: name of the stream.

    Returns:
      Typed keys [N].
    """
    return example_keys(named_key(jax.random.key(seed), purpose), cast(jax.Array, indices))


class Shown(NamedTuple):
    """A picture of a model, and the samples in it."""

    picture: np.ndarray | None  # uint8 [H, W, C]; None if the model can neither sample nor reconstruct
    samples: np.ndarray | None = None  # images [N, H, W, C], points or sequences; None if the model cannot sample


def show(
    experiment: Experiment, placement: parallel.Placement, variables: Variables, config: ConfigDict, source: data.Source
) -> Shown:
    """Draws a picture of a model: its samples, else held-out examples with their reconstructions.

    Args:
      experiment: the model.
      placement: of the variables.
      variables: of the model.
      config: of the run.
      source: the data, for real points to draw behind samples of points.
    """
    if experiment.sampler:
        samples = draw(experiment, placement, variables, config)
        return Shown(images.picture(samples, reference(source, config)), samples)
    if experiment.reconstruct is None:
        return Shown(None)
    ability: Callable = experiment.reconstruct
    indices, reconstruct = np.arange(config.sample.count), jitted(ability)
    batch = examples(config)(indices)
    made = parallel.run(
        placement,
        lambda variables, both: reconstruct(variables, *both),
        variables,
        (batch, keys_at(config.seed, indices, 'reconstruct')),
    )
    if jax.process_index() == 0:
        images.warn_of_lost(np.concatenate([images.finite(version) for version in made.values()]), 'reconstructions')
    return Shown(images.pairs({'x': np.asarray(batch['x']), **made}))


def draw(
    experiment: Experiment,
    placement: parallel.Placement,
    variables: Variables,
    config: ConfigDict,
    count: int | None = None,
    seed: int | None = None,
    prompt: str = '',
    label: str = '',
    conditions: Callable[[np.ndarray], Mapping[str, Any]] | None = None,
) -> np.ndarray:
    """Draws samples, `config.sample.chunk` per call of the model. A warning says how many are not finite.

    Args:
      experiment: the model.
      placement: of the variables.
      variables: of the model.
      config: of the run.
      count: number of samples; None takes `config.sample.count`.
      seed: None takes `config.seed`.
      prompt: a caption for every sample; '' for none, see `condition_at`.
      label: a class for every sample; '' for none.
      conditions: sample numbers [N] -> their condition, leaves [N, ...]; None for `condition_at`.

    Returns:
      Images [count, H, W, C] in [-1, 1], points [count, D] or sequences [count, T, D].
    """
    if experiment.sampler is None:
        raise UserError(
            f'a model of config.experiment={config.experiment!r} cannot sample; --mode=evaluate shows what it can'
        )
    count, seed, chunk = count or config.sample.count, config.seed if seed is None else seed, config.sample.chunk
    condition = conditions or condition_at(config, experiment.conditions, seed, prompt, label)
    ability: Callable = experiment.sampler.sample
    sample = jitted(ability)
    parts = []
    for first in range(0, count, chunk):
        both = keys(seed, first, chunk), condition(np.arange(first, first + chunk))
        parts.append(parallel.run(placement, lambda variables, both: sample(variables, *both), variables, both))
    drawn = np.concatenate(parts)[:count]
    if jax.process_index() == 0:
        images.warn_of_lost(images.finite(drawn), 'samples')
    return drawn


def folder_name(config: ConfigDict, step: int, seed: int, prompt: str = '', label: str = '') -> str:
    """Names a folder of samples by all that they depend on within a run; two settings never share a folder.

    The number of samples does not count: sample i is the same in any number. Nor does `chunk`, nor the score where
    there is one candidate.

    Args:
      config: of the run.
      step: of the checkpoint.
      seed: of the noise.
      prompt: a caption for every sample; '' for none.
      label: a class for every sample; '' for none.
    """
    ignored = {'count', 'chunk'} | ({'candidates', 'score'} if config.sample.candidates == 1 else set())
    settings = {name: value for name, value in workdir.plain(config)['sample'].items() if name not in ignored}
    return f'step-{step}-seed-{seed}-' + name_of(f'{label} {prompt}', [label, prompt, settings])


def condition_at(
    config: ConfigDict, conditions: Conditions, seed: int = 0, prompt: str = '', label: str = ''
) -> Callable[[np.ndarray], Mapping[str, Any]]:
    """Returns a function from sample numbers [N] to their condition, a dict with leaves [N, ...].

    Without a prompt or label the condition is taken from held-out examples if `config.sample.condition` is set.
    Otherwise it is random.

    Args:
      config: of the run.
      conditions: the conditions of the model.
      seed: of the random conditions.
      prompt: a caption for every sample; '' for none.
      label: a class for every sample; '' for none.
    """
    if prompt or label:
        one = conditioning.from_text(conditions, declared(FrozenConfigDict(config.data)), 1, prompt, label)
        return lambda indices: {name: np.repeat(value, len(indices), 0) for name, value in one.items()}
    if not conditions.any:
        return lambda indices: {}
    if config.sample.condition:  # of the images where codes are modelled: these need not be encoded
        source = prepared(FrozenConfigDict(data.sampled(config.data)), 'test')[0]
        rows: Callable[[np.ndarray], Any] = lambda indices: source.rows(indices % len(source))
        return lambda indices: conditioning.from_batch(conditions, rows(indices))
    length = conditioning.caption_length(declared(FrozenConfigDict(config.data)))
    return lambda indices: jax.device_get(conditioning.random(conditions, keys_at(seed, indices), length))


def examples(config: ConfigDict, split: str = 'test') -> Callable[[np.ndarray], dict]:
    """Returns a function from indices [N] to prepared examples of a split, {field: [N, ...]}.

    Indices beyond the end wrap around. Examples are neither flipped nor cropped.
    """
    source, prepare = prepared(FrozenConfigDict(config.data), split)

    def at(indices: np.ndarray) -> dict:
        batch = {**source.rows(indices % len(source)), 'position': indices.astype(np.int32)}
        return prepare(batch, keys_at(config.seed, indices, 'prepare'))

    return at


@functools.lru_cache(maxsize=2)
def prepared(config_data: FrozenConfigDict, split: str) -> tuple[data.Source, Callable]:
    """Returns (the source of a split, its compiled preparation), loaded and compiled once per config."""
    source = data.load(config_data, split)
    return source, jax.jit(data.prepare_batch(config_data, source, train=False))


@functools.lru_cache(maxsize=2)
def declared(config_data: FrozenConfigDict) -> data.Source:
    """Returns the declaration of the training set, which names classes and words, read once per config."""
    return data.declared(config_data)


def reference(source: data.Source, config: ConfigDict) -> np.ndarray | None:
    """Returns at most 2,000 real points [N, D] or sequences [N, T, D] for pictures of samples; None for images."""
    if len(source.fields[config.data.observe].shape) > 2:
        return None
    return source.rows(np.arange(min(2000, len(source))))[config.data.observe]


@functools.lru_cache(maxsize=64)
def jitted(function: Callable) -> Callable:
    """Returns `jax.jit(function)`, the same object for the same function, so that it compiles once."""
    return jax.jit(function)
