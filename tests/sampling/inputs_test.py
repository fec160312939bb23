"""Tests files that a user gives as conditions."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from genlab.conditioning import Conditions
from genlab.data import audio, layouts
from genlab.data.source import Field, declaration
from genlab.data.sources.scenes.scenes import scenes
from genlab.errors import ConfigError
from genlab.sampling import inputs

SOURCE = scenes(16, 3, fields=('image', 'style', 'segmentation'))
STYLE, MAP = Conditions(fields=('style',)), Conditions(fields=('segmentation',))


def save(path, array, mode=None):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array, mode).save(path)
    return str(path)


def test_a_picture_becomes_the_field_of_the_model(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    given = inputs.read(STYLE, SOURCE, save(tmp_path / 'cat.png', levels))
    assert given.names == ('cat',) and given.fields['style'].dtype == np.float32
    np.testing.assert_allclose(given.fields['style'][0], levels / 127.5 - 1, atol=1e-6)
    assert inputs.read(STYLE, SOURCE, str(tmp_path), resolution=48).fields['style'].shape == (1, 48, 48, 3)


def test_pictures_of_a_folder_are_sorted_and_have_different_names(tmp_path):
    for number, name in enumerate(('a/1.png', 'b/1.png', 'a/0.png')):
        save(tmp_path / name, np.full((20, 30), 100 * number, np.uint8))
    given = inputs.read(STYLE, SOURCE, str(tmp_path))
    assert given.names == ('00000-0', '00001-1', '00002-1') and given.fields['style'].shape == (3, 16, 16, 3)
    assert np.round((given.fields['style'].mean((1, 2, 3)) + 1) * 127.5).tolist() == [200, 0, 100]


def test_samples_of_another_run_are_read_without_their_grid(tmp_path):
    for name in ('00000.png', 'grid.png', 'samples.npz'):
        save(tmp_path / name, np.zeros((4, 4), np.uint8)) if name.endswith('png') else (tmp_path / name).touch()
    assert inputs.read(STYLE, SOURCE, str(tmp_path)).names == ('00000',)


def test_a_map_of_classes_keeps_its_numbers(tmp_path):
    classes = np.random.default_rng(0).integers(0, 9, (32, 32), np.uint8)
    paletted = Image.fromarray(classes, 'P')
    paletted.putpalette([0] * 24 + [255, 0, 0])
    paletted.save(tmp_path / 'palette.png')
    save(tmp_path / 'grey.png', classes)
    rows = inputs.read(MAP, SOURCE, str(tmp_path)).fields['segmentation']
    assert rows.dtype == np.int32 and rows.shape == (2, 16, 16, 1)
    for row in rows:
        np.testing.assert_array_equal(row[..., 0], classes[1::2, 1::2])


def test_recordings_become_the_features_of_the_source(tmp_path):
    field = Field((20, 40), np.dtype(np.float32), -np.inf, np.inf)
    source = declaration('speech', {'speech': field}, 1, {})
    for name, frequency in (('b', 600), ('a', 300)):
        wavfile.write(tmp_path / f'{name}.wav', audio.RATE, np.sin(np.arange(1600) * frequency).astype(np.float32))
    (tmp_path / '._a.wav').write_text('left by a file system')
    given = inputs.read(Conditions(fields=('speech', 'speech_length')), source, str(tmp_path))
    assert given.names == ('a', 'b') and given.fields['speech_length'].shape == (2,)
    np.testing.assert_array_equal(given.fields['speech'][0], audio.features(tmp_path / 'a.wav', field)['speech'])


def test_each_layout_of_a_file_conditions_a_sample(tmp_path):
    source, conditions = scenes(16, 3, fields=('image', *layouts.FIELDS)), Conditions(fields=layouts.FIELDS)
    (tmp_path / 'plan.json').write_text('[[{"class": "ring", "box": [0, 0, 0.5, 1]}], []]')
    given = inputs.read(conditions, source, boxes=str(tmp_path / 'plan.json'))
    assert given.names == ('plan-0', 'plan-1')
    assert given.fields['box_classes'].tolist() == [[source.classes.index('ring'), -1, -1, -1], [-1] * 4]
    with pytest.raises(ConfigError, match='takes no layout'):
        inputs.read(STYLE, SOURCE, boxes='plan.json')
    with pytest.raises(ConfigError, match='give one of them'):
        inputs.read(conditions, source, 'a.png', 'plan.json')


@pytest.mark.parametrize(
    'conditions, name, says',
    [
        (STYLE, 'nowhere.png', 'no such file'),
        (STYLE, 'empty', 'no file to read'),
        (STYLE, 'text.png', 'text.png cannot be read: no format'),
        (MAP, 'bright.png', 'has the value 200: values are classes from 0 to 8'),
        (MAP, 'colour.png', 'this picture is RGB'),
        (Conditions(classes=3), 'bright.png', 'takes no file'),
        (Conditions(fields=('style', 'segmentation')), 'bright.png', 'takes no file'),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, conditions, name, says):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.png').write_text('not a picture')
    save(tmp_path / 'bright.png', np.full((4, 4), 200, np.uint8))
    save(tmp_path / 'colour.png', np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ConfigError, match=says):
        inputs.read(conditions, SOURCE, str(tmp_path / name))
