"""Holds a batch against what its source declares: a wrong range is found in a second instead of after a night."""

import numpy as np

from genlab.errors import UserError


def check(source, batch):
    """Raises UserError where a batch {field: [..., *shape]} differs from `source.fields`; returns the batch.

    Any leading axes are allowed; fields that the source does not declare (`position`) are passed over.
    """
    for name, field in source.fields.items():
        fault = _fault(field, np.asarray(batch[name])) if name in batch else f'found only {", ".join(sorted(batch))}'
        if fault:
            raise UserError(
                f'data {source.name}: field {name} is declared {describe(field)}, {fault}: '
                'put the data right, or what the source declares'
            )
    return batch


def describe(field):
    """A field in words: `uint8 [32, 32, 1] in 0..255`."""
    return f'{np.dtype(field.dtype).name} {list(field.shape)} in {field.low:g}..{field.high:g}'


def _fault(field, array):
    """What is wrong with an array [..., *shape], or '' where nothing is."""
    lead = array.ndim - len(field.shape)
    if lead < 1 or array.shape[lead:] != tuple(field.shape):
        return f'found shape {list(array.shape)}'
    if array.dtype != field.dtype:
        return f'found {array.dtype.name}'
    if array.size == 0:
        return 'found no examples'
    low, high = array.min(), array.max()
    if np.isnan(low) or np.isnan(high):
        return 'found values that are no numbers (NaN)'
    if low < field.low or high > field.high:
        return f'found values in {low:g}..{high:g}'
    return ''
