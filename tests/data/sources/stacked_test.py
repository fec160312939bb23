"""Tests stacked images: their channels, their reproducibility, and the coverage of their modes."""

import numpy as np
import pytest

from genlab.data import load
from genlab.data.load import defaults
from genlab.data.sources.stacked import COPIES, chosen
from genlab.errors import ConfigError
from genlab.evaluation.metrics.modes import coverage


def test_channels_are_images_of_the_source():
    config = defaults(source='stacked', stacked='digits', resolution=8, channels=3)
    stack, single = load(config), load(defaults(source='digits', resolution=8, channels=1))
    assert len(stack) == COPIES * len(single) and 'label' not in stack.fields
    indices = np.array([0, 5, len(stack) - 1])
    images = stack.rows(indices)['image']
    for channel in range(3):
        expected = single.rows(chosen(indices, channel, len(single)))['image'][..., 0]
        np.testing.assert_array_equal(images[..., channel], expected)
    np.testing.assert_array_equal(stack.rows(indices[::-1])['image'], images[::-1])


def test_all_images_and_combinations_appear():
    drawn = np.stack([chosen(np.arange(30_000), channel, 1500) for channel in range(3)])
    assert all(len(np.unique(row)) == 1500 for row in drawn)
    figures = coverage(drawn.T % 10, 10)
    assert figures['modes'] == figures['of_modes'] == 1000
    np.testing.assert_allclose(figures['mode_divergence'], 1000 / (2 * 30_000), rtol=0.2)


def test_coverage_by_hand():
    classes = np.array([[0, 0, 0]] * 3 + [[1, 0, 0]])
    figures = coverage(classes, 2)
    divergence = 0.75 * np.log(0.75 * 8) + 0.25 * np.log(0.25 * 8)
    assert figures == {'modes': 2, 'of_modes': 8, 'mode_divergence': pytest.approx(divergence)}


def test_what_cannot_be_stacked_is_refused():
    with pytest.raises(ConfigError, match='config.data.stacked'):
        load(defaults(source='digits', stacked='digits'))
