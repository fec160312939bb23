"""Tests pictures with every image in its position, and animations with every frame."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from genlab.latents import strips
from genlab.run import images


def flat(values, side=32, channels=1):
    """Makes images of one grey each: [...] -> [..., side, side, channels]."""
    return np.broadcast_to(
        np.asarray(values, np.float32)[..., None, None, None], (*np.shape(values), side, side, channels)
    )


def cell(sheet, row, column, side=32):
    return int(sheet[row * (side + 2), column * (side + 2), 0])


def test_a_strip_has_a_row_for_each_path():
    sheet = strips.strip(flat([[-1, 0, 1], [1, -1, 0]]))
    assert sheet.shape == (66, 100, 1)
    assert [[cell(sheet, row, column) for column in range(3)] for row in range(2)] == [[0, 128, 255], [255, 0, 128]]


def test_paths_of_points_are_drawn_together():
    paths, reference = np.random.RandomState(0).randn(3, 5, 2), np.random.RandomState(1).randn(50, 2)
    np.testing.assert_array_equal(strips.strip(paths, reference), images.points(paths.reshape(15, 2), reference))


def test_frames_play_forwards_and_backwards():
    frames = strips.frames(flat([[-1, 0, 1], [1, 0, -1]]))
    assert frames.shape[0] == 4 and frames.dtype == np.uint8
    assert [cell(frame, 0, 0) for frame in frames] == [0, 128, 255, 128]
    assert [cell(frame, 0, 1) for frame in frames] == [255, 128, 0, 128]
    assert strips.frames(np.random.randn(3, 5, 2)).shape == (8, 384, 384, 3)


def test_a_table_shows_the_sources_in_its_margins():
    mixed, above, beside = flat([[-0.5, -0.25], [0.25, 0.5], [0, 0]]), flat([-1, 1]), flat([1, 0, -1])
    sheet = strips.table(mixed, above, beside)
    seen = [[cell(sheet, row, column) for column in range(3)] for row in range(4)]
    assert seen == [[255, 0, 255], [255, 64, 96], [128, 159, 191], [0, 128, 128]]


@pytest.mark.parametrize('channels', [1, 3])
def test_a_gif_has_all_frames_and_similar_colours(tmp_path, channels):
    frames = np.linspace(0, 255, 10 * channels).astype(np.uint8).reshape(10, 1, 1, channels) * np.ones(
        (1, 8, 6, 1), np.uint8
    )
    strips.save_gif(tmp_path / 'deep' / 'x.gif', frames)
    gif = Image.open(tmp_path / 'deep' / 'x.gif')
    assert (gif.n_frames, gif.size, gif.info['loop'], gif.info['duration']) == (10, (6, 8), 0, 80)
    for frame, expected in zip(ImageSequence.Iterator(gif), frames):
        np.testing.assert_allclose(np.asarray(frame.convert('RGB')), np.broadcast_to(expected, (8, 6, 3)), atol=8)
