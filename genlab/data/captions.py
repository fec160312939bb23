"""Describes scenes in sentences and converts words to tokens."""

import re
from collections.abc import Sequence

import numpy as np

from genlab.data.sources.scenes.layout import LARGE, SLOTS, places_of
from genlab.data.sources.scenes.shapes import BACKGROUNDS, COLOURS, KINDS

PADDING = '<pad>'  # token 0: after the end of a sentence
VOCABULARY = (
    PADDING,
    'a',
    'on',
    'of',
    'and',
    'left',
    'right',
    'above',
    'below',
    'in',
    'the',
    'centre',
    'top',
    'bottom',
    'small',
    'large',
    *COLOURS,
    *KINDS,
    *BACKGROUNDS,
)
LENGTH = 4 * SLOTS + 3 * (SLOTS - 1) - 1 + 2  # tokens of the longest sentence: four shapes, three relations


def sentences(scene: dict[str, np.ndarray]) -> list[str]:
    """Describes each scene of a layout in a sentence.

    Example: 'a large red circle left of a small blue star and above a small pink ring on grey'. Every relation is
    between the first (largest) shape and another one. The larger of the two offsets, to the right and down, selects the
    relation. A single shape has its place instead, as in 'a large red circle in the top left on grey'.
    """
    rows = zip(*(scene[name].tolist() for name in ('present', 'kind', 'colour', 'radius', 'x', 'y', 'background')))
    return [_sentence(*row) for row in rows]


def _sentence(
    present: list[bool],
    kind: list[int],
    colour: list[int],
    radius: list[float],
    x: list[float],
    y: list[float],
    background: int,
) -> str:
    """Describes one scene. Each argument is the row of the factor of that name in `layout`, with one entry per slot."""
    names = [
        f'a {"large" if radius[slot] >= LARGE else "small"} {_COLOURS[colour[slot]]} {KINDS[kind[slot]]}'
        for slot in range(sum(present))
    ]
    if len(names) == 1:
        words = f'{names[0]} {place(x[0], y[0])}'
    else:
        others = [f'{relation(x[0] - x[n], y[0] - y[n])} {names[n]}' for n in range(1, len(names))]
        words = f'{names[0]} {" and ".join(others)}'
    return f'{words} on {_BACKGROUNDS[background]}'


_COLOURS, _BACKGROUNDS = tuple(COLOURS), tuple(BACKGROUNDS)


def relation(right: float, down: float) -> str:
    """Names the relation of a shape to another one, from its offset to the right and down."""
    if abs(right) >= abs(down):
        return 'right of' if right > 0 else 'left of'
    return 'below' if down > 0 else 'above'


PLACES = ('top left', 'top', 'top right', 'left', 'centre', 'right', 'bottom left', 'bottom', 'bottom right')


def place(x: float, y: float) -> str:
    """Names the place of a single shape: 'in the top left', 'in the centre', ..."""
    return f'in the {PLACES[int(places_of(np.asarray(x), np.asarray(y)))]}'


def tokens(texts: Sequence[str], vocabulary: Sequence[str] = VOCABULARY, length: int = LENGTH) -> np.ndarray:
    """Encodes texts as indices of words in the vocabulary.

    Args:
        texts: N texts.
        vocabulary: words by index; index 0 is the padding. Other words are dropped.
        length: words per text; a shorter text is padded with zeros, a longer one is truncated.

    Returns:
        int32 [N, length].
    """
    known = {word: number for number, word in enumerate(vocabulary)}
    out = np.zeros((len(texts), length), np.int32)
    for row, text in zip(out, texts):
        found = [known[word] for word in words_of(text) if word in known][:length]
        row[: len(found)] = found
    return out


def words_of(text: str) -> list[str]:
    """Returns the words of a text in lower case; punctuation separates."""
    return re.findall(r"[\w']+", text.lower())


def text(row: np.ndarray, vocabulary: Sequence[str] = VOCABULARY) -> str:
    """Decodes tokens [length] to the words up to the padding."""
    return ' '.join(vocabulary[number] for number in row if number)
