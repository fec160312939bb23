"""Tests the reader of scenes on real pictures, sharp and blurred, and the shares of what agrees with captions."""

import numpy as np
import pytest
from scipy import ndimage

from genlab.data.sources.scenes import layout
from genlab.data.sources.scenes.scenes import scenes as source_of
from genlab.evaluation.metrics import scenes


def pictures(resolution, shapes=0, number=100):
    """Returns images [N, R, R, 3] in [-1, 1] and the truth, {name: [N, SLOTS]}, -1 where a shape is absent."""
    rows = source_of(resolution, split='test', fields=('image', 'factors'), shapes=shapes).rows(np.arange(number))
    slots = rows['factors'][:, : -len(layout.SCENE_FACTORS)].reshape(number, layout.SLOTS, len(layout.SLOT_FACTORS))
    truth = {name: slots[..., number] for number, name in enumerate(layout.SLOT_FACTORS)}
    truth['place'] = layout.places_of(truth['x'], truth['y'])
    return rows['image'] / np.float32(127.5) - 1, {
        name: np.where(truth['present'] > 0, value, -1) for name, value in truth.items()
    }


@pytest.mark.parametrize('resolution', [32, 64])
@pytest.mark.parametrize('blurred', [False, True])
def test_single_shapes_are_read(resolution, blurred):
    images, truth = pictures(resolution, shapes=1, number=100 if resolution == 32 else 40)
    if blurred:  # by a pixel of 32, and with noise of 3 levels, as a decoder does
        noise = np.random.default_rng(0).normal(0, 3 / 127.5, images.shape)
        images = ndimage.gaussian_filter(images, (0, resolution / 32, resolution / 32, 0)) + noise
    read = scenes.read(images)
    np.testing.assert_array_equal(read['present'].sum(1), 1)
    for name in scenes.PARTS:
        assert (read[name][:, 0] == truth[name][:, 0]).mean() >= 0.95, name
    for name in ('x', 'y', 'radius'):
        np.testing.assert_allclose(read[name][:, 0], truth[name][:, 0], atol=0.02)
        assert not read[name][:, 1:].any() and (read['kind'][:, 1:] == -1).all()


def test_each_of_several_shapes_is_read():
    images, truth = pictures(32)
    read = scenes.read(images)
    assert (read['present'].sum(1) == (truth['kind'] >= 0).sum(1)).mean() >= 0.95
    right = {name: [] for name in scenes.PARTS}
    for image, slot in np.argwhere(truth['kind'] >= 0):  # the nearest shape that is read
        away = np.hypot(read['x'][image] - truth['x'][image, slot], read['y'][image] - truth['y'][image, slot])
        nearest = np.where(read['present'][image], away, np.inf).argmin()
        for name in scenes.PARTS:
            right[name].append(read[name][image, nearest] == truth[name][image, slot])
    assert all(np.mean(values) >= 0.95 for values in right.values())


def test_an_image_without_shapes_has_none():
    assert not scenes.read(np.zeros((2, 32, 32, 3)))['present'].any()
    assert not scenes.read(np.random.default_rng(0).normal(0, 0.02, (2, 32, 32, 3)))['present'].any()


def test_agreement_is_counted_and_chance_is_that_of_the_other_captions():
    asked = {'kind': np.array([0, 0, 1, 2]), 'colour': np.array([0, 1, 0, 1]), 'place': np.array([4, 4, 4, 4])}
    found = {'kind': np.array([0, 1, 1, -1]), 'colour': np.array([0, 1, 1, 1]), 'place': np.array([4, 4, 4, 4])}
    shares = scenes.agreement(found, asked)
    assert {name: shares[name] for name in ('kind', 'colour', 'place', 'all')} == {
        'kind': 0.5,
        'colour': 0.75,
        'place': 1.0,
        'all': 0.25,
    }
    assert shares['place_by_chance'] == 1 and shares['kind_by_chance'] == pytest.approx(2 / 12)
    assert shares['colour_by_chance'] == pytest.approx(5 / 12) and shares['all_by_chance'] == 0


@pytest.mark.parametrize('resolution', [32, 64])
def test_classes_of_pixels_are_read(resolution):
    """Compares with the segmentation of the same scenes, with one to four shapes."""
    rows = source_of(resolution, split='test', fields=('image', 'segmentation')).rows(np.arange(25))
    found, asked = scenes.class_maps(rows['image'] / np.float32(127.5) - 1), rows['segmentation'][..., 0]
    accuracy = scenes.map_agreement(found, asked)
    assert accuracy['pixel_accuracy'] >= 0.999 and accuracy['class_accuracy'] >= 0.99
    assert ((found > 0) == (asked > 0)).mean() >= 0.999


def test_agreement_of_maps_by_hand():
    asked = np.array([[[0, 0, 0, 0], [0, 0, 2, 2]]])
    assert scenes.map_agreement(asked, asked) == {'pixel_accuracy': 1, 'class_accuracy': 1}
    found = np.array([[[0, 0, 0, 0], [0, 0, 2, 1]]])
    assert scenes.map_agreement(found, asked) == {'pixel_accuracy': 7 / 8, 'class_accuracy': (1 + 1 / 2) / 2}
    assert scenes.map_agreement(0 * asked, asked) == {'pixel_accuracy': 6 / 8, 'class_accuracy': 1 / 2}
