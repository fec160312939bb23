"""Conditions: what samples depend on besides noise. They come from a batch, from a user's words, at random, or empty.

A condition maps a field to an array with one row per example: `label` int32 [N], `caption` int32 [N, L], or another
field of a prepared batch. That may be an image to translate, boxes or speech. It holds raw values; a network embeds
them. The null condition means "not given": label `classes`, a caption of padding. Other fields have none, and are never
drawn at random: they come from held-out examples, or from the files of a user. An unconditional model has the
condition {}.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genlab.data import captions
from genlab.data.source import UNKNOWN_LABEL, Source
from genlab.errors import ConfigError, meant
from genlab.noise import stream

Condition = Mapping[str, jax.Array]
LISTED = 40  # words or classes that an error lists


class Conditions(NamedTuple):
    """Declares what a model is conditioned on. The default is nothing."""

    classes: int = 0  # class labels 0 ... classes - 1; 0: none
    words: int = 0  # size of the vocabulary of captions; 0: no captions
    fields: tuple[str, ...] = ()  # other fields of a prepared batch, e.g. ('input',) or ('boxes', 'box_classes')

    @property
    def any(self) -> bool:
        return bool(self.classes or self.words or self.fields)


class Given(NamedTuple):
    """Holds the condition that a user gives for samples. Empty fields are not given."""

    prompt: str = ''  # a caption for every sample
    label: str = ''  # a class for every sample, by name or number
    fields: Mapping[str, np.ndarray] = {}  # field -> rows [F, ...] of F files; sample i takes row i modulo F
    names: tuple[str, ...] = ()  # names of the F files, without their extensions

    @property
    def any(self) -> bool:
        return bool(self.prompt or self.label or self.fields)


def from_batch(conditions: Conditions, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Takes the condition of the examples of a batch."""
    names = ['label'] * bool(conditions.classes) + ['caption'] * bool(conditions.words) + [*conditions.fields]
    return {name: batch[name] for name in names}


def check(conditions: Conditions, source: Source) -> None:
    """Raises ConfigError where the data lack a field that samples are conditioned on."""
    for name in conditions.fields:
        if name in source.on_demand and name not in source.fields:
            raise ConfigError(f'the model is conditioned on {name!r}: set config.data.fields=({name!r},)')
        if name not in source.fields:
            raise ConfigError(
                f'the model is conditioned on {name!r}, and {source.name} has {", ".join(source.fields)}: set '
                'config.data to a source with that field'
            )


def null(conditions: Conditions, count: int, length: int = 0) -> dict[str, jax.Array]:
    """Makes the null condition of `count` examples, of label and caption. `length`: tokens per caption."""
    label = {'label': jnp.full(count, conditions.classes, jnp.int32)} if conditions.classes else {}
    return {**label, 'caption': jnp.zeros((count, length), jnp.int32)} if conditions.words else label


def random(conditions: Conditions, keys: jax.Array, length: int = 0) -> dict[str, jax.Array]:
    """Draws a class per key [N], uniformly. Captions are null, and other fields absent."""
    condition = null(conditions, keys.shape[0], length)
    if conditions.classes:
        draw = lambda key: jax.random.randint(key, (), 0, conditions.classes)
        condition['label'] = jax.vmap(draw)(stream(keys, 'class'))
    return condition


def from_text(
    conditions: Conditions, source: Source, count: int, prompt: str = '', label: str = ''
) -> dict[str, np.ndarray]:
    """Makes the condition that a user gives in words, the same for `count` samples. What is not given is null.

    Args:
      conditions: conditions of the model; its other fields are left out.
      source: names the classes and holds the vocabulary of captions; `data.declared` suffices.
      count: number of samples.
      prompt: a caption; '': none.
      label: the name or the number of a class; '': none.

    Raises:
      ConfigError: the model has no such condition, or the word or class is unknown.
    """
    if prompt and not conditions.words:
        raise ConfigError(
            f'--prompt={prompt!r}: this model is not conditioned on captions: leave it out{_instead(conditions)}'
        )
    if label and not conditions.classes:
        raise ConfigError(
            f'--label={label!r}: this model is not conditioned on classes: leave it out{_instead(conditions)}'
        )
    condition = {name: np.array(value) for name, value in null(conditions, count, caption_length(source)).items()}
    if prompt:
        condition['caption'][:] = tokens(prompt, source.vocabulary, caption_length(source))
    if label:
        condition['label'][:] = class_number(label, source.classes or [*map(str, range(conditions.classes))])
    return condition


def caption_length(source: Source) -> int:
    """Returns the tokens per caption of a source; 0 without captions."""
    return source.fields['caption'].shape[0] if 'caption' in source.fields else 0


def tokens(prompt: str, vocabulary: Sequence[str], length: int) -> np.ndarray:
    """Tokenises a caption: int32 [length]."""
    words, known = captions.words_of(prompt), vocabulary[1:]
    for word in words:
        if word not in known:
            hint = meant(word, known)
            raise ConfigError(f'--prompt: no caption has the word {word!r}{hint}: there are {_listed(known)}')
    if not 0 < len(words) <= length:
        raise ConfigError(f'--prompt: a caption has 1 to {length} words, not {len(words)}')
    return captions.tokens([prompt], vocabulary, length)[0]


def class_number(label: str, classes: Sequence[str]) -> int:
    """Returns the number of a class that is given by its name or number."""
    if label in classes:
        return classes.index(label)
    if label.isdecimal() and int(label) < len(classes):
        return int(label)
    raise ConfigError(
        f'--label={label!r}: there is no such class: choose one of {_listed(classes)}{meant(label, classes)}'
    )


def describe(source: Source, condition: Mapping[str, np.ndarray]) -> list[str]:
    """Puts the condition of each example into words; returns [] where there are none."""
    if 'caption' in condition:
        return [captions.text(row, source.vocabulary) for row in condition['caption']]
    field = source.fields.get('label', UNKNOWN_LABEL)
    if 'label' not in condition:
        return []
    return [
        'no class' if number > field.high else source.classes[number] if source.classes else str(number)
        for number in condition['label'].tolist()
    ]


def _listed(names: Sequence[str]) -> str:
    """Joins names for an error line; many are shortened."""
    return ', '.join(names[:LISTED]) + (', ...' if len(names) > LISTED else '')


def _instead(conditions: Conditions) -> str:
    given = [flag for flag, there in (('--label', conditions.classes), ('--prompt', conditions.words)) if there]
    return f', or give {" or ".join(given)}' if given else ', or train a conditional variant'
