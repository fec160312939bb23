"""Statistics of real examples for all comparisons, computed once and cached."""

import collections
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import data
from genlab.data import fingerprint, transforms
from genlab.data.cache import cached
from genlab.evaluation.features.extractors import Extractor
from genlab.evaluation.metrics.distances import blockwise_moments

VERSION = 1  # version of the code below; a change recomputes all statistics
CHUNK = 1000  # examples read and mapped to features at a time
KEPT_BYTES = 100 << 20  # if all features take more bytes, only the first KEPT examples have theirs stored
KEPT = 10_000
MOST_DIMENSIONS = 4096  # a covariance beyond 128 MB is not computed: its root would take hours


def statistics(config_data: ConfigDict, source: data.Source, extractor: Extractor, count: int) -> dict[str, np.ndarray]:
    """Returns the statistics of the first `count` examples, or of all, in a fixed order drawn with seed 0.

    Args:
      config_data: how examples are read.
      source: the split.
      extractor: extractor of the features, with D dimensions.
      count: examples at most.

    Returns:
      'features': [K, D] float32, of all `count` examples, or of the first 10,000 if all would take more than 100 MB.
      'indices': [K] int64, the examples with features, as indices into the source.
      'label': [K] int32, if the examples have labels.
      'mean', 'covariance': [D] and [D, D], float64, unbiased, of all `count`, if D is at most 4,096.
      'count': [].
      'seconds': [], the time of the computation, with reading and compiling.
    """
    order = np.random.RandomState(0).permutation(len(source))[:count]
    key = {
        'version': VERSION,
        'data': fingerprint.of(source).digest,
        'observe': config_data.observe,
        'shape': list(source.fields[config_data.observe].shape),
        'binarise': config_data.binarise,
        'extractor': [extractor.name, extractor.protocol],
        'count': len(order),
    }
    return cached('reference', key, lambda: _compute(config_data, source, extractor, order))


def examples(config_data: ConfigDict, source: data.Source, indices: np.ndarray) -> np.ndarray:
    """Returns real examples in the range of samples: images in [-1, 1], or points, float32 [N, ...].

    Images are binarised if the config says so, since that defines the data set. They are never dequantised, flipped or
    cropped.

    Args:
      config_data: how examples are read.
      source: the split.
      indices: [N].
    """
    field = source.fields[config_data.observe]
    # Numpy arrays, although the transforms are annotated for jax.Array.
    values: Any = source.rows(indices)[config_data.observe]
    if not transforms.is_map(field):
        return values.astype(np.float32)
    if config_data.binarise:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), indices)
        return np.asarray(jax.vmap(transforms.binarise)(values, keys))
    return np.asarray(transforms.to_range(values, field.low, field.high))


def _compute(
    config_data: ConfigDict, source: data.Source, extractor: Extractor, order: np.ndarray
) -> dict[str, np.ndarray]:
    """Computes the arrays of `statistics` for the examples `order`."""
    start = time.perf_counter()
    dimensions, count = extractor.dimensions, len(order)
    kept = order if count * dimensions * 4 <= KEPT_BYTES else order[:KEPT]
    features = np.empty((len(kept), dimensions), np.float32)

    def blocks() -> Iterator[np.ndarray]:
        for first in range(0, count, CHUNK):
            block = extractor.extract(examples(config_data, source, order[first : first + CHUNK]))
            features[first : first + CHUNK] = block[: max(len(kept) - first, 0)]
            yield block

    arrays = {'features': features, 'indices': kept, 'count': np.asarray(count, np.int64)}
    if dimensions <= MOST_DIMENSIONS:
        arrays['mean'], arrays['covariance'] = blockwise_moments(blocks())
    else:
        collections.deque(blocks(), maxlen=0)
    if 'label' in source.fields:
        arrays['label'] = source.rows(kept)['label']
    return arrays | {'seconds': np.asarray(time.perf_counter() - start, np.float64)}
