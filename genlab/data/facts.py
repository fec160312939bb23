"""Measures facts of a data set that a model needs, so that configs do not repeat them."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from genlab.data.source import Source
from genlab.data.transforms import is_map

EXAMPLES = 10_000  # most examples that the variance is measured on
CHUNK = 256  # examples per read


class Facts(NamedTuple):
    """Facts of a training set."""

    examples: int  # size of the set
    variance: float  # over all values of the prepared observed field


def facts(source: Source, config_data: ConfigDict) -> Facts:
    """Returns the size of a training set and the variance of its prepared values.

    The variance is measured on at most 10,000 examples, evenly spaced by index, so the result is deterministic. It
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
    variance = squares / count
    if config_data.binarise:
        variance = 1 - mean**2  # values are -1 or 1 with the same mean
    elif config_data.dequantise:
        variance = variance * (127.5 / 128) ** 2 + 1 / (12 * 128**2)  # values are (v + u) / 128 - 1
    return Facts(len(source), float(variance))
