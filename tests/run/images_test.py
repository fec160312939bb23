"""Tests pictures: the position of every pixel of a grid, the position of points, and atomic writes."""

import os

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from genlab.run import images


def cells(number, shape=(3, 4, 1)):
    """Returns images whose value is their index."""
    return np.stack([np.full(shape, i, np.uint8) for i in range(number)])


def ink(picture):
    """Returns rows and columns of the pixels that are more blue than grey."""
    return np.argwhere(picture[..., 2].astype(int) - picture[..., 0] > 60)


def test_to_uint8():
    values = np.array([-1.0, 1.0, 0.0, -7.0, 7.0, np.nan, np.inf, -1 + 1.4 / 127.5, -1 + 1.6 / 127.5])
    np.testing.assert_array_equal(images.to_uint8(values), [0, 255, 128, 0, 255, 0, 255, 1, 2])
    np.testing.assert_array_equal(images.to_uint8(values.astype(ml_dtypes.bfloat16))[:3], [0, 255, 128])
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(images.to_uint8((every / 127.5 - 1).astype(np.float32)), every)  # round trip
    assert images.to_uint8(every) is every
    with pytest.raises(TypeError, match='int64'):
        images.to_uint8(np.arange(3))


@pytest.mark.parametrize(
    'number, columns, rows_columns',
    [(6, 3, (2, 3)), (5, 3, (2, 3)), (2, 8, (1, 2)), (10, None, (3, 4)), (16, None, (4, 4))],
)
def test_grid_puts_every_image_in_its_position(number, columns, rows_columns):
    rows, columns_out = rows_columns
    sheet = images.grid(cells(number), columns, padding=2)
    assert sheet.shape == (rows * 5 - 2, columns_out * 6 - 2, 1) and sheet.dtype == np.uint8
    padded = np.full((rows * 5, columns_out * 6, 1), 255, np.uint8)
    for i in range(number):
        top, left = i // columns_out * 5, i % columns_out * 6
        padded[top : top + 3, left : left + 4] = i
    np.testing.assert_array_equal(sheet, padded[:-2, :-2])


def test_grid_of_floats_without_padding():
    floats = np.linspace(-1, 1, 4 * 2 * 2 * 3, dtype=np.float32).reshape(4, 2, 2, 3)
    sheet = images.grid(floats, padding=0)
    np.testing.assert_array_equal(sheet[2:, :2], images.to_uint8(floats[2]))
    for bad in (floats[..., :2], floats[0], floats[:0]):
        with pytest.raises(ValueError):
            images.grid(bad)


def test_a_point_is_drawn_at_its_position():
    """Expects x to the right and y upwards."""
    picture = images.points(np.array([[0.5, 0.5]]), limits=(-1, 1), size=101)
    assert picture.shape == (101, 101, 3) and picture.dtype == np.uint8
    np.testing.assert_allclose(ink(picture).mean(0), [25, 75], atol=0.1)
    np.testing.assert_array_equal(picture[75, 25], 255)


@pytest.mark.parametrize('height, spans', [(100.0, (100, 100)), (3.0, (33, 100))])
def test_axes_of_very_different_extents_have_scales_of_their_own(height, spans):
    """Expects the corners of the cloud a tenth of the extent from the frame: a sixth of 120 pixels goes to margins."""
    cloud = np.array([[0.0, 0.0], [1.0, height], [0.0, height], [1.0, 0.0]])
    rows, columns = ink(images.points(cloud, size=120)).T
    np.testing.assert_allclose((np.ptp(columns), np.ptp(rows)), spans, atol=5)


def test_points_over_their_reference():
    """Expects limits from the reference, darker dense regions, and no effect of distant or non-finite points."""
    reference = np.array([[0.0, 0.0], [1.0, 1.0]])
    inside = np.array([[0.5, 0.5]])
    awkward = np.array([[np.nan, 0], [np.inf, 1], [1e30, 0], [-50, 3]])
    picture = images.points(inside, reference)
    assert images.points(np.concatenate([inside, awkward]), reference).shape == picture.shape
    np.testing.assert_array_equal(images.points(np.concatenate([reference, awkward[:2]])), images.points(reference))
    np.testing.assert_allclose(ink(picture).mean(0), [191.5, 191.5], atol=0.6)
    grey = (np.ptp(picture, axis=-1) < 20) & (picture[..., 0] < 240)
    assert grey[5:-5, 5:-5].sum() > 40 and not len(ink(images.points(reference[:0], reference)))
    once, often = (images.points(np.concatenate([np.zeros((n, 2)), np.ones((2000, 2))])) for n in (1, 50))
    assert (once[200:] < 255).any() and once[200:380].min() > often[200:380].min()


def test_three_dimensions_are_projected():
    """Expects height upwards in the picture, and three different directions of the axes."""
    axes = np.eye(3)
    places = [ink(images.points(axis[None], limits=(-1.5, 1.5))).mean(0) for axis in axes]
    assert places[2][0] < 100 and abs(places[2][1] - 191.5) < 1
    assert min(np.linalg.norm(a - b) for a, b in zip(places, places[1:] + places[:1])) > 50
    with pytest.raises(ValueError):
        images.points(np.zeros((3, 4)))


def test_picture_chooses_by_rank():
    large = cells(4).repeat(8, 1).repeat(8, 2)  # 3x4 pixels become 24x32
    np.testing.assert_array_equal(images.picture(cells(4)), images.grid(large))
    np.testing.assert_array_equal(images.picture(large), images.grid(large))
    cloud = np.random.RandomState(0).randn(50, 2)
    np.testing.assert_array_equal(images.picture(cloud, 2 * cloud), images.points(cloud, 2 * cloud))
    with pytest.raises(ValueError, match='samples must be'):
        images.picture(np.zeros(3))


@pytest.mark.parametrize('shape', [(5, 4), (5, 4, 1), (5, 4, 3)])
def test_save_png_round_trip(tmp_path, shape):
    array = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    images.save_png(tmp_path / 'new' / 'x.png', array)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'new' / 'x.png')), array.squeeze())
    with pytest.raises(TypeError):
        images.save_png(tmp_path / 'y.png', array.astype(np.float32))


def test_save_png_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / 'x.png'
    images.save_png(path, cells(1)[0])
    before = path.read_bytes()

    def fail(*paths):
        raise OSError('disk')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError):
        images.save_png(path, cells(2)[1])
    assert path.read_bytes() == before and os.listdir(tmp_path) == ['x.png']


def test_sequences_are_bars_or_maps_on_the_scale_of_the_reference():
    heights = np.array([[[0.0], [5.0], [10.0], [20.0], [np.nan]]])
    (bars,) = images.sequences(heights, np.array([0.0, 10.0]))
    filled = (bars[..., 0] < 255).sum(0)[:: bars.shape[1] // 5]
    np.testing.assert_array_equal(filled, [1, images.BARS // 2, images.BARS, images.BARS, 1])
    assert (bars[-1, :, 2] == images.INK[2]).all() and bars.shape[1] == 255
    values = np.arange(6.0).reshape(1, 3, 2)  # three times of two values
    (shades,) = images.sequences(values)
    np.testing.assert_array_equal(shades[::10, ::10, 0], np.array([[0, 102, 204], [51, 153, 255]]))
    assert images.picture(np.repeat(values, 4, 0)).shape == (2 * 20 + 2, 2 * 30 + 2, 1)
    with pytest.raises(ValueError, match='sequences'):
        images.picture(np.zeros(3))
