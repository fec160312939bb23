"""Tests that check() finds each kind of fault, and names the field, the declaration and what was found."""

import numpy as np
import pytest

from genlab.data import Batches, Field, check
from genlab.data.source import from_arrays, image_field, label_field
from genlab.errors import UserError

FIELDS = {'image': image_field(4, 1), 'label': label_field(10), 'point': Field((2,), np.dtype(np.float32), -1, 1)}


def good():
    return {
        'image': np.full((6, 4, 4, 1), 255, np.uint8),
        'label': np.arange(6, dtype=np.int32) + 4,
        'point': np.zeros((6, 2), np.float32),
    }


SOURCE = from_arrays('squares', good(), FIELDS)
FAULTS = {
    'shape': ('image', np.zeros((6, 4, 5, 1), np.uint8), r'uint8 \[4, 4, 1\].*found shape \[6, 4, 5, 1\]'),
    'no batch': ('image', np.zeros((4, 4, 1), np.uint8), r'found shape \[4, 4, 1\]'),
    'dtype': ('image', np.zeros((6, 4, 4, 1), np.float32), r'declared uint8.*found float32'),
    'wide label': ('label', np.arange(6), r'declared int32.*found int64'),
    'empty': ('image', np.zeros((0, 4, 4, 1), np.uint8), 'found no examples'),
    'label': ('label', np.arange(6, dtype=np.int32) + 5, r'in 0\.\.9, found values in 5\.\.10'),
    'negative label': ('label', -np.ones(6, np.int32), r'found values in -1\.\.-1'),
    'range': ('point', np.full((6, 2), 1.5, np.float32), r'in -1\.\.1, found values in 1\.5\.\.1\.5'),
    'nan': ('point', np.full((6, 2), np.nan, np.float32), 'NaN'),
    'infinite': ('point', np.full((6, 2), np.inf, np.float32), r'found values in inf\.\.inf'),
}


def test_good_batches_pass():
    assert set(check(SOURCE, good())) == {'image', 'label', 'point'}
    check(SOURCE, Batches(SOURCE, 4, seed=0)(0, 3))


@pytest.mark.parametrize('fault', FAULTS)
def test_faults_are_named(fault):
    field, array, message = FAULTS[fault]
    with pytest.raises(UserError, match=message) as raised:
        check(SOURCE, good() | {field: array})
    assert f'squares: field {field} is declared' in str(raised.value) and '\n' not in str(raised.value)


def test_a_missing_field_is_named():
    with pytest.raises(UserError, match='field label is declared int32 .* found only image, point'):
        check(SOURCE, {name: array for name, array in good().items() if name != 'label'})
