"""Tests bars and stripes against a list of all patterns."""

import itertools

import numpy as np
import pytest

from genlab.data import check, load
from genlab.data.load import defaults
from genlab.data.sources.bars import bars
from genlab.errors import ConfigError


def test_every_pattern_appears_once_per_direction():
    source = load(defaults(source='bars', resolution=3))
    rows = check(source, source.rows(np.arange(len(source))))
    found = sorted(tuple(image.ravel() // 255) for image in rows['image'])
    lines = [np.tile(line, (3, 1)) for line in itertools.product((0, 1), repeat=3)]
    assert found == sorted(tuple(image.ravel()) for line in lines for image in (line, line.T))
    assert sum(image == (1,) * 9 for image in found) == 2
    for image, label in zip(rows['image'][..., 0], rows['label']):
        assert (image == (image[:, :1] if label == 0 else image[:1])).all()
    np.testing.assert_array_equal(source.labels, rows['label'])
    np.testing.assert_array_equal(bars(3, 3).rows(np.array([5]))['image'][..., 2], rows['image'][5, ..., 0][None])


def test_large_images_are_refused():
    with pytest.raises(ConfigError, match='at most 20'):
        load(defaults(source='bars', resolution=28))
