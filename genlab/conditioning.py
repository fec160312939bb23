"""What samples are told, where a user says it: one sentence or one class for all of them, not what held-out examples say."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from genlab.data import captions
from genlab.data.source import Source
from genlab.errors import ConfigError, meant


def fields(config: ConfigDict, source: Source, words: str) -> dict[str, np.ndarray]:
    """The fields of an example that says `words`: caption int32 [L] where the source has captions, else label int32."""
    if 'caption' in source.fields:
        return {'caption': sentence(words, source.vocabulary, source.fields['caption'].shape[0])}
    if not config.model.get('classes', 0):
        raise ConfigError(
            f'--told={words!r}: this model is told nothing: leave it out, or train one with config.model.classes'
        )
    return {'label': np.int32(label(words, source.classes))}


def sentence(words: str, vocabulary: Sequence[str], length: int) -> np.ndarray:
    """Its tokens, int32 [length]."""
    found, known = captions.words_of(words), vocabulary[1:]
    for word in found:
        if word not in known:
            raise ConfigError(
                f'--told: no caption has the word {word!r}{meant(word, known)}: there are {", ".join(known)}'
            )
    if not 0 < len(found) <= length:
        raise ConfigError(f'--told: a caption has 1 to {length} words, not {len(found)}')
    return captions.tokens([words], vocabulary, length)[0]


def label(words: str, classes: Sequence[str]) -> int:
    """The class of this name or number."""
    if words in classes:
        return classes.index(words)
    if words.isdecimal() and int(words) < len(classes):
        return int(words)
    raise ConfigError(f'--told={words!r}: there is no such class: choose one of {", ".join(classes)}')


def lines(source: Source, rows: dict[str, np.ndarray]) -> list[str]:
    """What each of these examples says; nothing where they have neither caption nor label."""
    if 'caption' in rows:
        return [captions.text(row, source.vocabulary) for row in rows['caption']]
    return [source.classes[number] for number in rows['label']] if source.classes and 'label' in rows else []
