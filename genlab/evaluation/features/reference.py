"""The real examples' side of every comparison, computed once and kept in the cache."""

import collections
import time
import zlib

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import data
from genlab.data import transforms
from genlab.data.cache import cached
from genlab.evaluation.features.extractors import Extractor
from genlab.evaluation.metrics.distances import blockwise_moments

VERSION = 1
CHUNK = 1000  # examples that are read and turned into features at a time
KEPT_BYTES = 100 << 20  # features beyond this are only kept of the first KEPT examples
KEPT = 10_000
MOST_DIMENSIONS = 4096  # a covariance of more than 128 MB is of no use: its root takes hours


def statistics(config_data: ConfigDict, source: data.Source, extractor: Extractor, count: int) -> dict[str, np.ndarray]:
    """The statistics of the first `count` examples, or of all there are, in one fixed order drawn from seed 0.

    'features': [K, D] float32, of all `count` examples, or of the first 10,000 if all would take more than 100 MB;
    'indices': [K] int64, which examples of the source these are; 'label': [K] int32 where the examples have labels;
    'mean': [D] and 'covariance': [D, D], float64, unbiased, of all `count`, where D is at most 4,096;
    'count': []; 'seconds': [], what it took when it was computed, reading and compiling included."""
    order = np.random.RandomState(0).permutation(len(source))[:count]
    key = {
        'version': VERSION,
        'source': source.name,
        'examples': len(source),
        'first': _first(config_data, source),
        'observe': config_data.observe,
        'shape': list(source.fields[config_data.observe].shape),
        'binarise': config_data.binarise,
        'extractor': [extractor.name, extractor.protocol],
        'count': len(order),
    }
    return cached('reference', key, lambda: _compute(config_data, source, extractor, order))


def examples(config_data: ConfigDict, source: data.Source, indices: np.ndarray) -> np.ndarray:
    """Real examples as samples are given: images in [-1, 1], or points as they are, float32 [N, ...].

    Binarised where the config says so, for that is then the data set; never dequantised, flipped or cropped."""
    field = source.fields[config_data.observe]
    values = source.rows(indices)[config_data.observe]
    if not transforms.is_map(field):
        return values.astype(np.float32)
    if config_data.binarise:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), indices)
        return np.asarray(jax.vmap(transforms.binarise)(values, keys))
    return np.asarray(transforms.to_range(values, field.low, field.high))


def _first(config_data: ConfigDict, source: data.Source) -> int:
    """The checksum of the first examples: two sets may have one name."""
    return zlib.crc32(np.ascontiguousarray(source.rows(np.arange(min(len(source), 128)))[config_data.observe]))


def _compute(config_data, source, extractor, order):
    began = time.perf_counter()
    dimensions, count = extractor.dimensions, len(order)
    kept = order if count * dimensions * 4 <= KEPT_BYTES else order[:KEPT]
    features = np.empty((len(kept), dimensions), np.float32)

    def parts():
        for first in range(0, count, CHUNK):
            part = extractor.extract(examples(config_data, source, order[first : first + CHUNK]))
            features[first : first + CHUNK] = part[: max(len(kept) - first, 0)]
            yield part

    found = {'features': features, 'indices': kept, 'count': np.int64(count)}
    if dimensions <= MOST_DIMENSIONS:
        found['mean'], found['covariance'] = blockwise_moments(parts())
    else:
        collections.deque(parts(), maxlen=0)
    if 'label' in source.fields:
        found['label'] = source.rows(kept)['label']
    return found | {'seconds': np.float64(time.perf_counter() - began)}
