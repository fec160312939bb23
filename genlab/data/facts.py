"""Facts of a data set that a model needs, so that configs do not repeat them.

Some are measured on the examples, where a setting of that name is 0. Others are declared by the source, where a setting
of that name is 'auto'.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from genlab.data.source import UNKNOWN_LABEL, Field, Source
from genlab.data.transforms import is_image, is_map
from genlab.errors import ConfigError

EXAMPLES = 10_000  # most examples that the variance is measured on
CHUNK = 256  # examples per read
AUTO = 'auto'  # a number that the source declares
NAMED = 10  # classes named in a warning; the rest are counted


def settings(model: ConfigDict, prefix: str = '') -> Iterator[tuple[str, str, Any]]:
    """Yields (dotted key, fact, value) for the settings of a model that are named like a fact, at any depth."""
    for name, value in model.items():
        if isinstance(value, ConfigDict):
            yield from settings(value, f'{prefix}{name}.')
        elif name in FACTS:
            yield f'{prefix}{name}', name, value


def missing(model: ConfigDict) -> dict[str, str]:
    """Returns dotted key -> fact, for the settings of a model that are left to the data."""
    return {key: name for key, name, value in settings(model) if (value == AUTO if name in DECLARED else not value)}


def resolve(config: ConfigDict, source: Source, measure: bool = True) -> None:
    """Sets the facts that `config.model` leaves to the data, in place, and compares the declared ones with the data.

    Args:
        config: config of a run or phase.
        source: its training set, as `load` or `declared` returns it.
        measure: whether to measure facts; else those that need the examples count as 1.

    Raises:
        ConfigError: the model is conditioned on more or fewer classes or words than there are, or the data lack them.
    """
    for key, name, value in [*settings(config.model)]:
        if name in DECLARED:
            value = _agreed(f'config.model.{key}', value, DECLARED[name], source)
        elif not value:
            value = MEASURED[name](source, config.data) if measure else 1
        with config.ignore_type():  # a number takes the place of 'auto'
            config.update_from_flattened_dict({f'model.{key}': value})


def _agreed(where: str, value: Any, count: Callable, source: Source) -> int:
    """Returns the number of classes or words of a model.

    Args:
        where: the key of the setting, for errors.
        value: the setting: a number, or 'auto'.
        count: of DECLARED.
        source: the training set.
    """
    if value != AUTO and (not isinstance(value, int) or value < 0):
        raise ConfigError(f"{where}={value!r}: give a whole number, 0 for none, or 'auto' for the number in the data")
    if value == 0:
        return 0
    there = count(source, where, value)
    if there is None:  # the data are missing, so they cannot be compared
        if value == AUTO:
            raise ConfigError(
                f"{where}='auto': the data of config.data are missing, so they cannot be counted: set config.data.dir "
                'to their folder, or give the number'
            )
        return int(value)
    if value not in (AUTO, there):
        kind = where.rpartition('.')[2]
        raise ConfigError(
            f"{where}={value}, but {source.name} has {there} {kind}: set it to 'auto' or {there}; a run that has begun "
            'needs the data that it began with'
        )
    return there


def classes(source: Source, where: str, value: Any) -> int | None:
    """Returns the number of classes of the labels; None if the data are missing.

    Args:
        source: the training set.
        where: the key of the setting, for errors.
        value: the setting, for errors.

    Raises:
        ConfigError: the data have no labels.
    """
    field = source.fields.get('label')
    if field is None:
        raise ConfigError(
            f'{where}={value!r}: {source.name} has no labels: label every example (a folder per class, '
            'or labels.csv), or set it to 0'
        )
    return None if field is UNKNOWN_LABEL else int(field.high) + 1


def words(source: Source, where: str, value: Any) -> int | None:
    """Returns the size of the vocabulary of the captions; see `classes`."""
    if 'caption' in source.fields:
        return len(source.vocabulary)
    if 'caption' in source.on_demand:
        raise ConfigError(f"{where}={value!r}: no captions are read: set config.data.fields=('caption',)")
    lack = 'the data are missing' if source.fields.get('label') is UNKNOWN_LABEL else f'{source.name} has no captions'
    raise ConfigError(f'{where}={value!r}: {lack}: set config.data to images with captions, or set it to 0')


def map_classes(source: Source, where: str, value: Any) -> int:
    """Returns the number of classes in the maps of classes, such as a segmentation; 0 without any. See `classes`."""
    maps = [field for field in source.fields.values() if is_map(field) and not is_image(field)]
    return max((int(field.high) + 1 for field in maps), default=0)


def object_classes(source: Source, where: str, value: Any) -> int:
    """Returns the number of classes of the objects in boxes; see `classes`. A model may have more than the data."""
    if 'box_classes' not in source.fields:
        raise ConfigError(
            f"{where}={value!r}: no boxes are read: set config.data.fields=('boxes', 'box_classes'), and "
            'config.data to images with boxes, such as scenes'
        )
    there = int(source.fields['box_classes'].high) + 1
    return there if value == AUTO else max(there, value)


def time_steps(source: Source, where: str, value: Any) -> int:
    """Returns the length of the longest sequence; see `classes`."""
    return _sequence(source, where, value).shape[0]


def symbols(source: Source, where: str, value: Any) -> int:
    """Returns the number of symbols 0, 1, ... in sequences; see `classes`."""
    field = _sequence(source, where, value)
    if field.low != 0 or not np.isfinite(field.high):
        raise ConfigError(
            f'{where}={value!r}: the values of {source.name} are not symbols: make them 0, 1, 2, ..., or choose '
            'another config.model.emission'
        )
    return int(field.high) + 1


def _sequence(source: Source, where: str, value: Any) -> Field:
    """Returns the declaration of sequences; see `classes` for the arguments and the error."""
    if 'sequence' not in source.fields:
        raise ConfigError(
            f"{where}={value!r}: {source.name} has no sequences: set config.data.source='sequences' and "
            "config.data.observe='sequence'"
        )
    return source.fields['sequence']


def untrained(config: ConfigDict, source: Source) -> str:
    """Returns a warning that names the classes of a conditional model without a training example; '' if there are none.

    Classes in `config.data.leave_out` are not named. Nor is any class of a source whose labels are not known without
    reading its examples.

    Args:
        config: config of a run or phase, after `resolve`.
        source: its training set.
    """
    number = max((value for _, name, value in settings(config.model) if name == 'classes'), default=0)
    if not number or source.labels is None:
        return ''
    counts = np.bincount(source.labels, minlength=number)
    absent = [label for label in np.flatnonzero(counts == 0).tolist() if label not in config.data.leave_out]
    if not absent:
        return ''
    names = [source.classes[label] if source.classes else str(label) for label in absent]
    listed = ', '.join(names[:NAMED]) + (f' and {len(names) - NAMED} more' if len(names) > NAMED else '')
    return f'{source.name}: no training example has the class {listed}: a sample of such a class means nothing'


def examples(source: Source, config_data: ConfigDict) -> int:
    """Returns the size of a training set."""
    return len(source)


def variance(source: Source, config_data: ConfigDict) -> float:
    """Returns the variance of the prepared values of a training set.

    It is measured on at most 10,000 examples, evenly spaced by index, so the result is deterministic. It
    pools all pixels and channels. Values of maps of pixels lie in [-1, 1]; other fields are not rescaled. The noise
    of `binarise` and `dequantise` enters by its expectation. Flips do not change the variance; crops are ignored.

    Args:
        source: the training set, as `load(config_data)` returns it.
        config_data: the fields `observe`, `binarise` and `dequantise` are read.
    """
    field = source.fields[config_data.observe]
    number = min(len(source), EXAMPLES)
    indices = np.arange(number) * len(source) // number
    count, mean, squares = 0, 0.0, 0.0
    for first in range(0, number, CHUNK):
        values = source.rows(indices[first : first + CHUNK])[config_data.observe].astype(np.float64)
        if is_map(field):
            values = (values - field.low) / ((field.high - field.low) / 2) - 1
        # Chan et al. 1979: merges the moments of two parts without cancellation.
        total, shift = count + values.size, values.mean() - mean
        squares += values.var() * values.size + shift**2 * count * values.size / total
        mean += shift * values.size / total
        count = total
    found = squares / count
    if config_data.binarise:
        found = 1 - mean**2  # values are -1 or 1 with the same mean
    elif config_data.dequantise:
        found = found * (127.5 / 128) ** 2 + 1 / (12 * 128**2)  # values are (v + u) / 128 - 1
    return float(found)


MEASURED: dict[str, Callable[[Source, ConfigDict], float]] = {'examples': examples, 'variance': variance}
DECLARED: dict[str, Callable[[Source, str, Any], int | None]] = {
    'classes': classes,
    'words': words,
    'map_classes': map_classes,
    'object_classes': object_classes,
    'time_steps': time_steps,
    'symbols': symbols,
}
FACTS = (*MEASURED, *DECLARED)
