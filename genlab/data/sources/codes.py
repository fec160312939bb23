"""Codes of another run's tokenizer: its own data, encoded once and kept in the cache.

An example keeps its number, and its label, caption and other fields, except for its pixels. Images are neither flipped
nor cropped; binarised or dequantised ones are drawn once. The encoding runs on one device, whatever the placement.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from genlab.data import fingerprint
from genlab.data.cache import cached
from genlab.data.source import Field, Source, declaration, from_arrays, some_of
from genlab.data.transforms import is_map
from genlab.run.progress import Progress

# Networks import the data, so functions import the networks of a run where they need them.

VERSION = 1  # version of the encoding: increase it when codes change, to invalidate old entries of the cache


def codes(folder: str, split: str, extra: Sequence[str] = (), limit: int = 0) -> Source:
    """Returns the codes of a split of the data that a tokenizer was trained on, in the order of these data.

    Args:
        folder: folder of the run of the tokenizer; its newest checkpoint encodes.
        split: 'train' or 'test'.
        extra: fields of its data needed in addition to `label`, e.g. ('caption',).
        limit: number of examples to encode, those of `some_of`; 0: all.

    Returns:
        A source in memory: fields as in `genlab.models.tokenizer.fields`, and the others of its data.

    Raises:
        ConfigError: there is no run, no checkpoint, or nothing that encodes.
    """
    from genlab.models import tokenizer as tokenizers
    from genlab.sampling import drawing
    from genlab.training import pretrained

    made = pretrained.tokenizer(folder)
    source, _ = drawing.prepared(FrozenConfigDict(images(folder, extra)), split)
    others = _others(source, made.config.data.observe)
    identity = {
        'version': VERSION,
        'checkpoint': made.checkpoint,
        'data': [fingerprint.of(source).digest, list(source.fields[made.config.data.observe].shape)],
        'prepared': [made.config.data[name] for name in ('observe', 'binarise', 'dequantise')] + [made.config.seed],
        'fields': sorted(others),
        **({'limit': limit} if limit else {}),
    }
    found = dict(_encoded(folder, split, tuple(extra), limit, fingerprint.of_values(identity)))
    declared = tokenizers.fields(made.tokenizer)
    for name in {*declared} - {*found}:
        found[name] = tokenizers.flat(made.tokenizer, found)
    return from_arrays(
        f'codes of {source.name}',
        {name: found[name] for name in (*declared, *others)},
        {**declared, **others},
        checkpoint=made.checkpoint,
        fingerprint=lambda: fingerprint.Fingerprint(fingerprint.of_values(identity)),
        **_known(source),
    )


def header(folder: str, extra: Sequence[str] = ()) -> Source:
    """Returns the declaration of the training set of `codes`. It encodes nothing: the rows are zeros."""
    from genlab.data.load import declared
    from genlab.models import tokenizer as tokenizers
    from genlab.training import pretrained

    made, source = pretrained.tokenizer(folder), declared(images(folder, extra))
    fields = {**tokenizers.fields(made.tokenizer), **_others(source, made.config.data.observe)}
    name = f'codes of {source.name}'
    return declaration(name, fields, len(source), {}, checkpoint=made.checkpoint, **_known(source))


def images(folder: str, extra: Sequence[str] = ()) -> ConfigDict:
    """Returns `config.data` of the run of a tokenizer: what its codes stand for.

    Args:
        folder: folder of the run.
        extra: fields that its data need in addition.
    """
    from genlab.training import pretrained

    found = pretrained.config_of(folder, pretrained.TOKENIZER).data
    found.fields = tuple(dict.fromkeys((*found.fields, *extra)))
    return found


def _others(source: Source, observe: str) -> dict[str, Field]:
    """Returns the fields that are kept with the codes: all except pixels and the encoded field."""
    return {name: field for name, field in source.fields.items() if name != observe and not is_map(field)}


def _known(source: Source) -> dict[str, Any]:
    """Returns the other fields of `Source` that codes share with their data."""
    return dict(classes=source.classes, captions=source.captions, vocabulary=source.vocabulary)


@functools.lru_cache(maxsize=4)
def _encoded(folder: str, split: str, extra: tuple[str, ...], limit: int, identity: str) -> Mapping[str, np.ndarray]:
    """Returns {field: [N, ...]} of `codes` from this process, from the cache, or encoded now.

    Args:
        folder, split, extra, limit: as for `codes`.
        identity: plain values that identify everything that the arrays depend on.
    """
    return cached(f'codes-{split}', identity, lambda: _encode(folder, split, extra, limit))


def _encode(folder: str, split: str, extra: tuple[str, ...], limit: int) -> dict[str, np.ndarray]:
    """Encodes a split in batches of the size that the tokenizer was trained with; see `_encoded`."""
    from genlab.models import tokenizer as tokenizers
    from genlab.sampling import drawing
    from genlab.training import parallel, pretrained

    made = pretrained.tokenizer(folder)
    source, prepare = drawing.prepared(FrozenConfigDict(images(folder, extra)), split)
    kept, size = _others(source, made.config.data.observe), made.config.data.batch_size
    placement = parallel.place('pmap', jax.local_devices()[:1])
    variables, encode = made.load(placement, alone=True), jax.jit(made.tokenizer.encode)
    every = some_of(source, limit) if limit else np.arange(len(source))
    starts = range(0, len(every), size)
    parts: list[dict[str, np.ndarray]] = []
    with Progress(len(starts), label=f'encode {split}', examples=size, enabled=jax.process_index() == 0) as progress:
        for number, first in enumerate(starts, 1):
            chosen = np.resize(every[first : first + size], size)  # one shape is compiled
            rows = source.rows(chosen)
            batch = prepare(
                {**rows, 'position': chosen.astype(np.int32)}, drawing.keys_at(made.config.seed, chosen, 'prepare')
            )
            grids = tokenizers.levels(parallel.run(placement, encode, variables, batch))
            parts.append({**grids, **{name: rows[name] for name in kept}})
            progress.update(number)
    return {name: np.concatenate([part[name] for part in parts])[: len(every)] for name in parts[0]}
