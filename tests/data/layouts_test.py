"""Tests the reader of layouts and its errors."""

import json

import numpy as np
import pytest

from genlab.data import layouts
from genlab.data.sources.scenes.scenes import scenes
from genlab.errors import ConfigError

SOURCE = scenes(16, 3, 'train', ('image', 'boxes', 'box_classes'))
CIRCLE = {'class': 'circle', 'box': [0.1, 0.2, 0.5, 0.6]}


def read(tmp_path, content, source=SOURCE):
    place = tmp_path / 'layout.json'
    place.write_text(content if isinstance(content, str) else json.dumps(content))
    return layouts.read(str(place), source)


def test_one_image_and_several(tmp_path):
    one = read(tmp_path, [CIRCLE, {'class': 7, 'box': [0, 0, 1, 1]}])
    assert one['boxes'].dtype == np.float32 and one['box_classes'].dtype == np.int32
    np.testing.assert_array_equal(one['box_classes'], [[0, 7, -1, -1]])
    np.testing.assert_allclose(one['boxes'][0], [CIRCLE['box'], [0, 0, 1, 1], [0] * 4, [0] * 4])
    two = read(tmp_path, [[], [{'class': '2', 'box': [0, 0, 0.5, 1]}]])
    np.testing.assert_array_equal(two['box_classes'], [[-1] * 4, [2, -1, -1, -1]])


@pytest.mark.parametrize(
    'content, part',
    [
        ('[{"class": ', 'not JSON'),
        ({'class': 'circle'}, 'a list of objects'),
        ([], 'a list of objects'),
        ([CIRCLE, [CIRCLE]], 'a list of objects'),
        ([CIRCLE] * 5, 'has 5 objects: give at most 4'),
        ([[CIRCLE], [CIRCLE, 3]], 'image 1, object 1: 3 is not an object'),
        ([{'class': 'circle'}], 'is not an object'),
        ([CIRCLE | {'class': 'circel'}], 'did you mean circle?'),
        ([CIRCLE | {'class': 8}], 'there is no class 8'),
        ([CIRCLE | {'class': True}], 'there is no class true'),
        ([CIRCLE | {'box': [0, 0, 1]}], 'four numbers'),
        ([CIRCLE | {'box': [0, 0, 1, '1']}], 'four numbers'),
        ([CIRCLE | {'box': [0, 0, 1.5, 1]}], 'outside of the image'),
        ('[{"class": 0, "box": [0, NaN, 1, 1]}]', 'outside of the image'),
        ([CIRCLE | {'box': [0.5, 0, 0.5, 1]}], 'is empty'),
    ],
)
def test_errors_say_what_to_do_in_one_line(tmp_path, content, part):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, content)
    assert part in str(error.value) and '\n' not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_missing_file_and_a_source_without_boxes(tmp_path):
    with pytest.raises(ConfigError, match='no such file'):
        layouts.read(str(tmp_path / 'none.json'), SOURCE)
    with pytest.raises(ConfigError, match='has no boxes'):
        read(tmp_path, [CIRCLE], scenes(16))
