"""Measures facts of a data set that a model needs, so that configs do not repeat them."""

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from genlab.data.source import Source
from genlab.data.transforms import is_map

EXAMPLES = 10_000  # most examples that the variance is measured on
CHUNK = 256  # examples per read


def missing(model: ConfigDict, prefix: str = '') -> dict[str, str]:
    """Returns dotted key -> fact, for the settings of a model that are named like a fact and are 0, at any depth."""
    found: dict[str, str] = {}
    for name, value in model.items():
        if isinstance(value, ConfigDict):
            found |= missing(value, f'{prefix}{name}.')
        elif name in FACTS and not value:
            found[f'{prefix}{name}'] = name
    return found


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


FACTS: dict[str, Callable[[Source, ConfigDict], float]] = {'examples': examples, 'variance': variance}
