"""What a data set is here: named fields, a length, and a function from indices to rows of numpy arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict


class Field(NamedTuple):
    """What a source declares of one field of its examples; `check` holds the first batch against it.

    shape: of one example. dtype: uint8 for images (0..255) and maps of classes, float32 for points, int32 for labels.
    low, high: the inclusive range (labels: 0..classes-1); infinite where a field of floats has no bound.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    low: float
    high: float


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Random access to examples: the same indices always give the same rows, in whatever order and process.

    rows: int64 indices [N], each in 0..length-1 -> {field: [N, ...]} with exactly the fields declared.
    in_memory: the rows are gathered from arrays, which is faster than handing them between threads or processes.
    classes: names of the labels.  captions: indices [N] -> N strings, where the examples have captions.
    vocabulary: the word of each token of a `caption` field; token 0 is the padding.
    log_density: toy densities, points [N, D] -> nats [N], where it is exact; `centres` [modes, D] and `spread` (one
    standard deviation around each centre) where the density has modes.
    """

    name: str
    fields: Mapping[str, Field]
    length: int
    rows: Callable[[np.ndarray], dict[str, np.ndarray]]
    in_memory: bool
    classes: tuple[str, ...] = ()
    log_density: Callable[[np.ndarray], np.ndarray] | None = None
    captions: Callable[[np.ndarray], list[str]] | None = None
    vocabulary: tuple[str, ...] = ()
    centres: np.ndarray | None = None
    spread: float | None = None

    def __len__(self):
        return self.length


def from_arrays(name, arrays, fields, **known):
    """A source in memory of arrays {field: [N, ...]}, declared by `fields`; `known` are the other fields of Source."""
    length = len(next(iter(arrays.values())))

    def rows(indices):
        return {field: np.take(array, indices, axis=0) for field, array in arrays.items()}

    return Source(name=name, fields=fields, length=length, rows=rows, in_memory=True, **known)


def held(source, block=1024):
    """The same source with every row drawn or decoded once and kept in memory."""
    arrays = {name: np.empty((len(source), *field.shape), field.dtype) for name, field in source.fields.items()}
    for start in range(0, len(source), block):
        part = source.rows(np.arange(start, min(start + block, len(source))))
        for name, array in arrays.items():
            array[start : start + block] = part[name]
    return dataclasses.replace(
        from_arrays(source.name, arrays, source.fields),
        classes=source.classes,
        log_density=source.log_density,
        captions=source.captions,
        vocabulary=source.vocabulary,
        centres=source.centres,
        spread=source.spread,
    )


def subset(source, indices, name):
    """The examples of a source at `indices` [N], as a source of their own."""
    captions = source.captions and (lambda chosen: source.captions(indices[chosen]))
    return dataclasses.replace(
        source, name=name, length=len(indices), rows=lambda chosen: source.rows(indices[chosen]), captions=captions
    )


def example_shape(config: ConfigDict) -> tuple[int, ...]:
    """Returns the shape of one example of `x`: a point where `config.model.dimensions` says so, else an image [H, W, C]."""
    data, model = config.data, config.model
    if 'dimensions' in model and model.dimensions:
        return (model.dimensions,)
    return (data.resolution, data.resolution, data.channels)


def image_field(resolution, channels):
    """uint8 [resolution, resolution, channels], 0..255."""
    return Field((resolution, resolution, channels), np.dtype(np.uint8), 0, 255)


def label_field(classes):
    """int32 scalar, 0..classes-1."""
    return Field((), np.dtype(np.int32), 0, classes - 1)
