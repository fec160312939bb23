"""Defines a data set: named fields, a length, and a function from indices to rows of numpy arrays."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from genlab.data import fingerprint as fingerprints
from genlab.errors import ConfigError


class Field(NamedTuple):
    """Declares one field of a source's examples; `check` compares the first batch with it.

    low, high: the inclusive range (labels: 0..classes-1); infinite if a float field is unbounded.
    """

    shape: tuple[int, ...]  # per example
    dtype: np.dtype  # uint8 for images (0..255) and maps of classes, float32 for points, int32 for labels
    low: float
    high: float


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Gives random access to examples: the same indices give the same rows, in any order and process.

    rows: int64 indices [N], each in 0..length-1 -> {field: [N, ...]} with exactly the declared fields.
    in_memory: rows are gathered from arrays, which is faster than passing them between threads or processes.
    classes: names of the labels.
    labels: the label of every example, int32 [length], if they are known without reading the examples.
    captions: indices [N] -> N strings, if the examples have captions.
    vocabulary: the word of each token of a `caption` field; token 0 is the padding.
    log_density: points [N, D] -> nats [N], for toy densities with an exact density.
    centres, spread: [modes, D] and the standard deviation around each centre, if the density has modes.
    on_demand: fields that `load(..., fields=...)` can add; a source computes them only if they are requested.
    checkpoint: identifies the weights that encoded the examples, for codes of a tokenizer; other weights give the
        values another meaning.
    fingerprint: digest of the examples, if it is known without reading them; None: `fingerprint.of` hashes all rows.
    domains: sources of disjoint fields whose examples are not pairs, see `unpaired`; (): the rows are examples.
    """

    name: str
    fields: Mapping[str, Field]
    length: int
    rows: Callable[[np.ndarray], dict[str, np.ndarray]]
    in_memory: bool
    classes: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    log_density: Callable[[np.ndarray], np.ndarray] | None = None
    captions: Callable[[np.ndarray], list[str]] | None = None
    vocabulary: tuple[str, ...] = ()
    centres: np.ndarray | None = None
    spread: float | None = None
    on_demand: tuple[str, ...] = ()
    checkpoint: str = ''
    fingerprint: Callable[[], fingerprints.Fingerprint] | None = None
    domains: tuple['Source', ...] = ()

    def __len__(self) -> int:
        return self.length


def from_arrays(name: str, arrays: Mapping[str, np.ndarray], fields: Mapping[str, Field], **known: Any) -> Source:
    """Returns a source in memory.

    Args:
        name: name of the source, for messages.
        arrays: {field: [N, ...]}.
        fields: the declaration of each array.
        known: other fields of `Source`.
    """
    length = len(next(iter(arrays.values())))

    def rows(indices: np.ndarray) -> dict[str, np.ndarray]:
        return {field: np.take(array, indices, axis=0) for field, array in arrays.items()}

    known.setdefault('labels', arrays.get('label'))
    return Source(name=name, fields=fields, length=length, rows=rows, in_memory=True, **known)


def declaration(
    name: str, fields: Mapping[str, Field], length: int, arrays: Mapping[str, np.ndarray], **known: Any
) -> Source:
    """Returns a source that declares examples without reading them: its rows are zeros, except for given arrays.

    Args:
        name: name of the source, for messages.
        fields: the declaration of every field.
        length: number of examples, N.
        arrays: {field: [N, ...]}, the fields whose values are known.
        known: other fields of `Source`.
    """

    def rows(indices: np.ndarray) -> dict[str, np.ndarray]:
        return {
            name: arrays[name][indices] if name in arrays else np.zeros((len(indices), *field.shape), field.dtype)
            for name, field in fields.items()
        }

    return Source(name=name, fields=fields, length=length, rows=rows, in_memory=True, **known)


def held(source: Source, block: int = 1024) -> Source:
    """Returns the source with every row computed or decoded once, `block` rows per read, and kept in memory."""
    arrays = {name: np.empty((len(source), *field.shape), field.dtype) for name, field in source.fields.items()}
    for start in range(0, len(source), block):
        part = source.rows(np.arange(start, min(start + block, len(source))))
        for name, array in arrays.items():
            array[start : start + block] = part[name]
    gather = from_arrays(source.name, arrays, source.fields).rows
    return dataclasses.replace(source, rows=gather, in_memory=True, labels=arrays.get('label'))


def only(source: Source, names: Collection[str]) -> Source:
    """Returns a source with some of the fields."""

    def rows(indices: np.ndarray) -> dict[str, np.ndarray]:
        return {name: array for name, array in source.rows(indices).items() if name in names}

    fields = {name: field for name, field in source.fields.items() if name in names}
    return dataclasses.replace(source, fields=fields, rows=rows)


def unpaired(first: Source, second: Source) -> Source:
    """Returns a source of two domains that have no counterparts in each other.

    `Batches` draws each domain in its own order. Row i of this source holds example i of both; a shorter domain
    repeats, so that all examples can be read by their index. What is known of the examples is known of the first.

    Args:
        first: a domain.
        second: another domain; it has other fields.
    """
    domains = (first, second)

    def rows(indices: np.ndarray) -> dict[str, np.ndarray]:
        return {name: array for domain in domains for name, array in domain.rows(indices % len(domain)).items()}

    return dataclasses.replace(
        first,
        fields={**first.fields, **second.fields},
        length=max(map(len, domains)),
        rows=rows,
        in_memory=first.in_memory and second.in_memory,
        fingerprint=lambda: fingerprints.joined([fingerprints.bare(domain) for domain in domains]),
        domains=domains,
    )


def subset(source: Source, indices: np.ndarray, name: str) -> Source:
    """Returns a source with a part of the examples.

    Args:
        source: all examples.
        indices: int64 [N], the examples to keep.
        name: name of the new source.
    """
    every = source.captions
    captions = None if every is None else (lambda chosen: every(indices[chosen]))
    whole = source.fingerprint
    return dataclasses.replace(
        source,
        name=name,
        length=len(indices),
        rows=lambda chosen: source.rows(indices[chosen]),
        labels=None if source.labels is None else source.labels[indices],
        captions=captions,
        fingerprint=None if whole is None else (lambda: fingerprints.subset(whole(), indices)),
    )


def some_of(source: Source, limit: int) -> np.ndarray:
    """Draws `limit` examples of a training set once: sorted indices, int64 [limit]. Fewer are a subset of more."""
    if not 0 < limit <= len(source):
        raise ConfigError(f'config.data.limit={limit}: {source.name} has {len(source)} training examples: choose fewer')
    return np.sort(np.random.default_rng(0).permutation(len(source))[:limit])


def example_shape(config: ConfigDict) -> tuple[int, ...]:
    """Returns the shape of one example of `x`: [D] if `config.model.dimensions` is set, else an image [H, W, C]."""
    data, model = config.data, config.model
    if 'dimensions' in model and model.dimensions:
        return (model.dimensions,)
    return (data.resolution, data.resolution, data.channels)


def image_field(resolution: int, channels: int) -> Field:
    """Declares uint8 [resolution, resolution, channels], 0..255."""
    return Field((resolution, resolution, channels), np.dtype(np.uint8), 0, 255)


def label_field(classes: int) -> Field:
    """Declares an int32 scalar, 0..classes-1."""
    return Field((), np.dtype(np.int32), 0, classes - 1)


# Labels of missing data: the number of classes is unknown.
UNKNOWN_LABEL = Field((), np.dtype(np.int32), 0, np.inf)
