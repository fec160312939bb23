"""Sequences of observations: embedded ones, and those of a person's own table.

Every sequence is padded with zeros to the longest one of both splits. The fields are `sequence` float32 [T, D] (symbols
and counts are whole numbers), `length` int32, and `label` for digits.

earthquakes: the number of earthquakes of magnitude 7 or more in each year from 1900 to 2006, counted by the US
    Geological Survey (Zucchini and MacDonald 2009, chapter 1). There is one sequence, which is the test split too.
letters: the sentences of the Gettysburg Address (Lincoln 1863) as symbols: 0 a space, 1 to 26 the letters.
digits: the columns of a digit from left to right, with pixels in [-1, 1].
csv: a table, see `read`.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from genlab.data.source import Field, Source, from_arrays, label_field
from genlab.data.sources import table
from genlab.data.sources.digits import digits
from genlab.data.sources.messages import printable
from genlab.errors import ConfigError, choose

NAMES = ('earthquakes', 'letters', 'digits', 'csv')
TEST = 0.1  # share of the sequences of a table that are held out
NAMING = 'sequence'  # the column of a table that names the sequence of a row

EARTHQUAKES = (
    13, 14, 8, 10, 16, 26, 32, 27, 18, 32, 36, 24, 22, 23, 22, 18, 25, 21, 21, 14, 8, 11, 14, 23, 18, 17, 19, 20, 22,
    19, 13, 26, 13, 14, 22, 24, 21, 22, 26, 21, 23, 24, 27, 41, 31, 27, 35, 26, 28, 36, 39, 21, 17, 22, 17, 19, 15, 34,
    10, 15, 22, 18, 15, 20, 15, 22, 19, 16, 30, 27, 29, 23, 20, 16, 21, 21, 25, 16, 18, 15, 18, 14, 10, 15, 8, 15, 6,
    11, 8, 7, 18, 16, 13, 12, 13, 20, 15, 16, 12, 18, 15, 16, 13, 15, 16, 11, 11,
)  # fmt: skip

ADDRESS = (
    'Four score and seven years ago our fathers brought forth, upon this continent, a new nation, conceived in '
    'liberty, and dedicated to the proposition that all men are created equal.',
    'Now we are engaged in a great civil war, testing whether that nation, or any nation so conceived, and so '
    'dedicated, can long endure.',
    'We are met on a great battle field of that war.',
    'We have come to dedicate a portion of that field, as a final resting place for those who here gave their lives, '
    'that that nation might live.',
    'It is altogether fitting and proper that we should do this.',
    'But, in a larger sense, we can not dedicate, we can not consecrate, we can not hallow this ground.',
    'The brave men, living and dead, who struggled here, have consecrated it far above our poor power to add or '
    'detract.',
    'The world will little note, nor long remember what we say here, but it can never forget what they did here.',
    'It is for us the living, rather, to be dedicated here to the unfinished work which they who fought here have '
    'thus far so nobly advanced.',
    'It is rather for us to be here dedicated to the great task remaining before us, that from these honored dead we '
    'take increased devotion to that cause for which they here gave the last full measure of devotion, that we here '
    'highly resolve that these dead shall not have died in vain, that this nation, under God, shall have a new birth '
    'of freedom, and that government of the people, by the people, for the people, shall not perish from the earth.',
)
HELD_OUT = (4, 7)  # sentences of the test split

Sequences = list[np.ndarray]  # each [T, D], of different T


def sequences(name: str, path: str = '', resolution: int = 8, split: str = 'train') -> Source:
    """Returns a source of sequences; see the module for its fields.

    Args:
        name: earthquakes, letters, digits or csv.
        path: path of the table, for csv.
        resolution: pixels per side, for digits.
        split: 'train' or 'test'.
    """
    if name not in NAMES:
        choose(dict.fromkeys(NAMES), name, 'config.data.name')
    if (name == 'csv') != bool(path):
        need = 'set config.data.dir to your table' if name == 'csv' else "set config.data.name='csv', or leave it empty"
        raise ConfigError(f'config.data.name={name!r} with config.data.dir={path!r}: {need}')
    if name == 'digits':
        return _digits(resolution, split)
    if name == 'csv':
        parts = _divided(read(Path(path).expanduser()))
        return _padded(f'{printable(Path(path).name)}/{split}', parts, split)
    if name == 'letters':
        sentences = [_symbols(text) for text in ADDRESS]
        chosen = {'test': HELD_OUT, 'train': [n for n in range(len(ADDRESS)) if n not in HELD_OUT]}
        parts = {split: [sentences[number] for number in numbers] for split, numbers in chosen.items()}
        return _padded(f'letters/{split}', parts, split, high=26)
    years = [np.array(EARTHQUAKES, np.float32)[:, None]]
    return _padded('earthquakes', {'train': years, 'test': years}, split)


def _symbols(text: str) -> np.ndarray:
    """Returns the letters and spaces of a text as numbers, float32 [T, 1]."""
    numbers = [0 if sign == ' ' else ord(sign) - ord('a') + 1 for sign in text.lower() if sign == ' ' or sign.isalpha()]
    return np.array(numbers, np.float32)[:, None]


def _digits(resolution: int, split: str) -> Source:
    """Returns the columns of digits: D is the number of rows, from the top."""
    source = digits(resolution, 1, split)
    rows = source.rows(np.arange(len(source)))
    columns = rows['image'][..., 0].astype(np.float32).swapaxes(1, 2) / np.float32(127.5) - 1
    arrays = {
        'sequence': columns,
        'length': np.full(len(source), resolution, np.int32),
        'label': rows['label'],
    }
    fields = {**_fields((resolution, resolution), -1, 1), 'label': label_field(10)}
    return from_arrays(f'columns of {source.name}', arrays, fields, classes=source.classes)


def _padded(name: str, parts: Mapping[str, Sequences], split: str, high: float | None = None) -> Source:
    """Returns the source of one split, padded to the longest sequence of all.

    Args:
        name: name of the source.
        parts: split -> its sequences.
        split: 'train' or 'test'.
        high: the largest value, where symbols have a meaning; None to measure whether all are counts, and the largest.
    """
    every, own = [row for part in parts.values() for row in part], parts[split]
    times = max(map(len, every))
    padded = np.zeros((len(own), times, every[0].shape[1]), np.float32)
    for array, row in zip(padded, own):
        array[: len(row)] = row
    counts = all((row >= 0).all() and (row == np.floor(row)).all() for row in every)
    top = (max(row.max() for row in every) if counts else math.inf) if high is None else high
    arrays = {'sequence': padded, 'length': np.array([len(row) for row in own], np.int32)}
    return from_arrays(name, arrays, _fields(padded.shape[1:], 0 if counts else -math.inf, top))


def _fields(shape: Sequence[int], low: float, high: float) -> dict[str, Field]:
    """Declares `sequence` and `length`. A finite `high` above a `low` of 0 is the largest of whole numbers."""
    times, size = shape
    return {
        'sequence': Field((times, size), np.dtype(np.float32), low, float(high)),
        'length': Field((), np.dtype(np.int32), 1, times),
    }


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads a table with a row per time: a comma, semicolon or tab between columns, and a first line of their names.

    The column `sequence`, if there is one, names the sequence of a row; else all rows are one sequence. Every other
    column is a number: a value, a count, or a symbol 0, 1, ... Rows of one sequence are in the order of time.

    Args:
        path: path of the table, in UTF-8.

    Returns:
        {name of the sequence: float32 [T, D]}, in the order of the first rows.

    Raises:
        ConfigError: the table cannot be read without doubt; the message gives its path and the line.
    """
    shown = table.shown(path)
    try:
        text = path.read_text('utf-8-sig')
    except OSError as error:
        raise ConfigError(f'config.data.dir={shown} cannot be read: {error.strerror}') from None
    except UnicodeDecodeError:
        raise ConfigError(f'{shown} is not UTF-8: save the table as UTF-8') from None
    first = text.partition('\n')[0]
    delimiter = max(',;\t', key=first.count)
    found: dict[str, list[list[float]]] = {}
    columns: list[str] = []
    for line, cells in table.cells_of(path, text, delimiter):
        if not columns:
            columns = [cell.casefold() for cell in cells]
            _check_columns(shown, columns)
            continue
        where = f'{shown}, line {line}'
        if len(cells) != len(columns):
            raise ConfigError(f'{where}: {len(cells)} columns, and the first line names {len(columns)}')
        row = dict(zip(columns, cells))
        name = row.pop(NAMING, '')
        found.setdefault(name, []).append([_number(where, *pair) for pair in row.items()])
    if not found:
        raise ConfigError(f'{shown} has no rows: write a line of column names, and a line per time')
    return {name: np.array(rows, np.float32) for name, rows in found.items()}


def _check_columns(shown: str, columns: Sequence[str]) -> None:
    """Raises ConfigError if the first line names no columns of values, or a column twice.

    shown: the path, for messages.
    """
    if not {*columns} - {NAMING}:
        raise ConfigError(f'{shown} has no column of values: write a line of column names, and a line per time')
    for name in columns:
        if columns.count(name) > 1:
            raise ConfigError(f'{shown} has the column {name!r} more than once: name each column once')
        if not name or _is_number(name):
            raise ConfigError(f'{shown}: the first line has {name!r}: write the names of the columns there')


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(where: str, column: str, text: str) -> float:
    """Returns the number in a cell; raises ConfigError if it is none, or not finite. `where`: for messages."""
    if not _is_number(text) or not math.isfinite(float(text)):
        raise ConfigError(f'{where}: {text!r} in the column {column} is not a number: complete it, or remove the row')
    return float(text)


def _divided(found: Mapping[str, np.ndarray]) -> dict[str, Sequences]:
    """Divides the sequences of a table: a tenth is held out by a hash of the names, at least one; one alone is both."""
    if len(found) == 1:
        return dict.fromkeys(('train', 'test'), [*found.values()])
    place = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], 'big') / 2**64 for name in found}
    held_out = {name for name in found if place[name] < TEST} or {min(found, key=place.__getitem__)}
    if len(held_out) == len(found):
        held_out.remove(max(found, key=place.__getitem__))
    return {
        'train': [row for name, row in found.items() if name not in held_out],
        'test': [row for name, row in found.items() if name in held_out],
    }
