"""Draws samples with one key per sample, so that sample i is the same in any batch and on any devices."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from genlab import conditioning, data
from genlab.abilities import Variables
from genlab.conditioning import Conditions, Given
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
      seed: seed of the stream.
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
      seed: seed of the stream.
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
      placement: placement of the variables.
      variables: variables of the model.
      config: config of the run.
      source: the data, for real points to draw behind samples of points.
    """
    if experiment.sampler:
        condition = condition_at(config, experiment.conditions, config.seed)
        samples = draw(experiment, placement, variables, config, conditions=condition)
        shown = condition(np.arange(len(samples))) if experiment.conditions.fields else {}
        return Shown(picture(samples, shown, reference(source, config)), samples)
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
    conditions: Callable[[np.ndarray], Mapping[str, Any]] | None = None,
    numbers: np.ndarray | None = None,
) -> np.ndarray:
    """Draws samples, `config.sample.chunk` per call of the model. A warning says how many are not finite.

    Args:
      experiment: the model.
      placement: placement of the variables.
      variables: variables of the model.
      config: config of the run.
      count: number of samples; None takes `config.sample.count`.
      seed: None takes `config.seed`.
      conditions: sample numbers [N] -> their condition, leaves [N, ...]; None for `condition_at`.
      numbers: number of the noise of each sample, int [count], if samples share noise; None gives sample i noise i.

    Returns:
      Images [count, H, W, C] in [-1, 1], points [count, D] or sequences [count, T, D].
    """
    if experiment.sampler is None:
        raise UserError(
            f'a model of config.experiment={config.experiment!r} cannot sample; --mode=evaluate shows what it can'
        )
    count, seed, chunk = count or config.sample.count, config.seed if seed is None else seed, config.sample.chunk
    condition = conditions or condition_at(config, experiment.conditions, seed)
    ability: Callable = experiment.sampler.sample
    sample = jitted(ability)
    parts = []
    for first in range(0, count, chunk):
        block = np.arange(first, first + chunk)
        both = keys_at(seed, block if numbers is None else numbers[block % count]), condition(block)
        parts.append(parallel.run(placement, lambda variables, both: sample(variables, *both), variables, both))
    drawn = np.concatenate(parts)[:count]
    if jax.process_index() == 0:
        images.warn_of_lost(images.finite(drawn), 'samples')
    return drawn


def picture(samples: np.ndarray, condition: Mapping[str, Any], reference: np.ndarray | None = None) -> np.ndarray:
    """Draws samples as `images.picture` does; translated images below the images that they were made of.

    Args:
      samples: [N, ...].
      condition: condition of the samples. Images and maps of classes among its fields [N, H, W, C] are shown.
      reference: see `images.picture`.
    """
    shown = {name: shaped_like(np.asarray(rows), samples) for name, rows in condition.items() if np.ndim(rows) == 4}
    if not shown or samples.ndim != 4:
        return images.picture(samples, reference)
    return images.pairs({**shown, 'samples': samples})


def shaped_like(rows: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Returns images or maps of classes [N, h, w, c] in the shape of samples [N, H, W, C], to be shown with them."""
    if rows.dtype.kind == 'i':
        rows = rows * (2.0 / max(rows.max(), 1)) - 1
    _, height, width, channels = samples.shape
    down, right = (np.arange(side) * small // side for side, small in ((height, rows.shape[1]), (width, rows.shape[2])))
    rows = rows[:, down][:, :, right]
    return rows if rows.shape[3] == channels else rows.mean(3, keepdims=True).repeat(channels, 3)


def names(given: Given, count: int) -> list[str]:
    """Returns a file name without extension for each of `count` samples: their number, or the name of the given file.

    Further samples of the same file have a number behind the name.
    """
    if not given.names:
        return [f'{number:05d}' for number in range(count)]
    rounds, files = range(count // len(given.names) + 1), given.names
    return [f'{name}-{again + 1}' if again else name for again in rounds for name in files][:count]


def folder_name(config: ConfigDict, step: int, seed: int, given: Given = Given()) -> str:
    """Names a folder of samples by all that they depend on within a run; two settings never share a folder.

    The number of samples does not count: sample i is the same in any number. Nor does `chunk`, nor the score where
    there is one candidate.

    Args:
      config: config of the run.
      step: step of the checkpoint.
      seed: seed of the noise.
      given: what the user asks for.
    """
    ignored = {'count', 'chunk'} | ({'candidates', 'score'} if config.sample.candidates == 1 else set())
    settings = {name: value for name, value in workdir.plain(config)['sample'].items() if name not in ignored}
    depends: list[Any] = [given.label, given.prompt, settings]
    if given.fields:
        depends.append([given.names, [hashlib.sha256(rows.tobytes()).hexdigest() for rows in given.fields.values()]])
    words = f'{given.label} {given.prompt} {" ".join(given.names)}'
    return f'step-{step}-seed-{seed}-' + name_of(words, depends)


def condition_at(
    config: ConfigDict, conditions: Conditions, seed: int = 0, given: Given = Given()
) -> Callable[[np.ndarray], Mapping[str, Any]]:
    """Returns a function from sample numbers [N] to their condition, a dict with leaves [N, ...].

    What a user gives holds for every sample; a class or a caption that is not given is then null. If nothing is given,
    classes and captions come from held-out examples if `config.sample.condition` is set, else they are random. Other
    fields always come from held-out examples if they are not given.

    Args:
      config: config of the run.
      conditions: the conditions of the model.
      seed: seed of the random conditions.
      given: what the user asks for.
    """
    worded = conditions._replace(fields=())
    others = conditions._replace(classes=0, words=0, fields=tuple({*conditions.fields} - {*given.fields}))
    if config.sample.condition and not given.any:
        worded, others = Conditions(), conditions._replace(fields=others.fields)
    parts = [_worded(config, worded, seed, given), held_out(config, others)]
    if given.fields:
        files = len(given.names)
        parts.append(lambda indices: {name: rows[indices % files] for name, rows in given.fields.items()})
    return lambda indices: {name: rows for part in parts for name, rows in part(indices).items()}


def _worded(
    config: ConfigDict, conditions: Conditions, seed: int, given: Given
) -> Callable[[np.ndarray], Mapping[str, Any]]:
    """Returns classes and captions: what the user gives, else random ones. See `condition_at`."""
    declaration = functools.partial(declared, FrozenConfigDict(config.data))
    if given.any and (conditions.any or given.prompt or given.label):
        one = conditioning.from_text(conditions, declaration(), 1, given.prompt, given.label)
        return lambda indices: {name: np.repeat(value, len(indices), 0) for name, value in one.items()}
    if not conditions.any:
        return lambda indices: {}
    length = conditioning.caption_length(declaration())
    return lambda indices: jax.device_get(conditioning.random(conditions, keys_at(seed, indices), length))


def held_out(config: ConfigDict, conditions: Conditions) -> Callable[[np.ndarray], Mapping[str, Any]]:
    """Returns a function from numbers of held-out examples [N] to their condition. Numbers beyond the end wrap around.

    Where codes are modelled, the examples are the images behind them, which need not be encoded.
    """
    if not conditions.any:
        return lambda indices: {}
    images = config.copy_and_resolve_references()
    images.data = data.sampled(config.data)
    source = prepared(FrozenConfigDict(images.data), 'test')[0]
    rows: Callable[[np.ndarray], Any] = lambda indices: source.rows(indices % len(source))
    if conditions.fields:  # images among them are prepared
        rows = examples(images)
    return lambda indices: jax.device_get(conditioning.from_batch(conditions, rows(indices)))


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
