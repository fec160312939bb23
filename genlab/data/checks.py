"""Compares a batch with the declaration of its source, to detect wrong ranges before training."""

from collections.abc import Mapping

import numpy as np

from genlab.data.source import Field, Source
from genlab.errors import UserError


def check(source: Source, batch: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Raises UserError if a batch {field: [..., *shape]} differs from `source.fields`; returns the batch.

    Any leading axes are allowed. Undeclared fields (`position`) are ignored.
    """
    for name, field in source.fields.items():
        fault = _fault(field, np.asarray(batch[name])) if name in batch else f'found only {", ".join(sorted(batch))}'
        if fault:
            raise UserError(
                f'data {source.name}: field {name} is declared {describe(field)}, {fault}: '
                'put the data right, or what the source declares'
            )
    return batch


def describe(field: Field) -> str:
    """Formats a field: `uint8 [32, 32, 1] in 0..255`."""
    return f'{np.dtype(field.dtype).name} {list(field.shape)} in {field.low:g}..{field.high:g}'


def _fault(field: Field, array: np.ndarray) -> str:
    """Describes the first fault of an array [..., *shape]; '' if there is none."""
    lead = array.ndim - len(field.shape)
    if lead < 1 or array.shape[lead:] != tuple(field.shape):
        return f'found shape {list(array.shape)}'
    if array.dtype != field.dtype:
        return f'found {array.dtype.name}'
    if array.size == 0:
        return 'found no examples'
    low, high = array.min(), array.max()
    if np.isnan(low) or np.isnan(high):
        return 'found values that are not numbers (NaN)'
    if low < field.low or high > field.high:
        return f'found values in {low:g}..{high:g}'
    return ''
