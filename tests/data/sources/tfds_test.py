"""Tests TFDS sets on a small one that is prepared here, as ArrayRecord and without TensorFlow."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import genlab
from genlab.data import Batches, check, declared, fingerprint, load
from genlab.data.load import defaults
from genlab.data.sources import decoding
from genlab.data.sources.tfds import tfds
from genlab.errors import ConfigError, UserError

NUMBER = 40
ROOT = Path(genlab.__file__).parent.parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('GENLAB_CACHE', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    """Prepares the set `small_squares`: image i of split train has the colour (i, 2i, 3i) and label i % 3."""
    import tensorflow_datasets
    from PIL import Image

    class SmallSquares(tensorflow_datasets.core.GeneratorBasedBuilder):
        VERSION = tensorflow_datasets.core.Version('1.0.0')
        pkg_dir_path = tmp_path_factory.mktemp('code')

        def _info(self):
            features = {
                'picture': tensorflow_datasets.features.Image(shape=(None, None, 3)),
                'label': tensorflow_datasets.features.ClassLabel(names=['none', 'one', 'two']),
            }
            return tensorflow_datasets.core.DatasetInfo(
                builder=self, features=tensorflow_datasets.features.FeaturesDict(features), description='squares'
            )

        def _split_generators(self, manager):
            return {'train': self._generate_examples(NUMBER), 'test': self._generate_examples(5)}

        def _generate_examples(self, number):
            for n in range(number):
                yield n, {'picture': Image.new('RGB', (12 + n, 9), (n, 2 * n, 3 * n)), 'label': n % 3}

    folder = tmp_path_factory.mktemp('sets')
    SmallSquares(data_dir=str(folder), file_format='array_record').download_and_prepare()
    return str(folder)


def test_images_and_labels(sets):
    source = load(defaults(source='tfds', name='small_squares', dir=sets, resolution=8, channels=3))
    rows = source.rows(np.arange(NUMBER))
    check(source, rows)
    assert source.in_memory and source.classes == ('none', 'one', 'two') and len(source) == NUMBER
    numbers = rows['image'][:, 4, 4, 0].astype(int)
    assert sorted(numbers) == list(range(NUMBER))
    np.testing.assert_array_equal(rows['label'], numbers % 3)
    np.testing.assert_array_equal(rows['image'][:, 0, 0], numbers[:, None] * [1, 2, 3])
    found = declared(defaults(source='tfds', name='small_squares', dir=sets, resolution=8, channels=3))
    assert (found.name, found.fields, found.classes) == (source.name, source.fields, source.classes)
    assert len(found) == NUMBER and not found.rows(np.arange(2))['image'].any()
    assert len(tfds('small_squares', sets, 8, 1, 'test')) == 5
    assert len(tfds('small_squares', sets, 8, 1, 'train[:25%]')) == NUMBER // 4
    assert 'tensorflow' not in sys.modules


def test_large_sets_stay_on_disk(sets, monkeypatch):
    kept = tfds('small_squares', sets, 8)
    monkeypatch.setattr(decoding, 'IN_MEMORY', 100)
    source = tfds('small_squares', sets, 8)
    assert kept.in_memory and not source.in_memory
    digests = [fingerprint.of(one).digest for one in (kept, source, tfds('small_squares', sets, 8, split='test'))]
    assert digests[0] == digests[1] != digests[2]
    streams = [dict(Batches(one, 16, seed=0).stream(0, 2, 4)) for one in (source, kept)]
    for n in (0, 2):
        np.testing.assert_array_equal(streams[0][n]['image'], streams[1][n]['image'])
        np.testing.assert_array_equal(streams[0][n]['label'], streams[1][n]['label'])


def test_second_load_comes_from_the_cache(sets, tmp_path, monkeypatch):
    first = tfds('small_squares', sets, 8)
    assert len([*(tmp_path / 'cache').glob('*/manifest.json')]) == 1
    monkeypatch.setattr('genlab.data.sources.tfds.decode_all', None)
    np.testing.assert_array_equal(
        tfds('small_squares', sets, 8).rows(np.arange(NUMBER))['image'], first.rows(np.arange(NUMBER))['image']
    )
    with pytest.raises(TypeError):
        tfds('small_squares', sets, 9)  # another resolution is another entry


def test_no_cache_if_it_is_disabled(sets, tmp_path, monkeypatch):
    monkeypatch.setenv('GENLAB_CACHE', '')
    assert len(tfds('small_squares', sets, 8)) == NUMBER
    assert not (tmp_path / 'cache').exists()


def test_a_missing_set(tmp_path):
    with pytest.raises(UserError) as raised:
        tfds('mnist', str(tmp_path))
    assert f'run `python -m genlab.data.prepare mnist --dir {tmp_path}`' in str(raised.value)
    assert '\n' not in str(raised.value)


def test_an_unknown_set(tmp_path):
    with pytest.raises(ConfigError, match='not a set that TFDS knows and no such folder in .*did you mean mnist?'):
        tfds('mnisst', str(tmp_path))


def test_an_unknown_split(sets):
    with pytest.raises(ConfigError, match='has no split validation: it has train, test'):
        tfds('small_squares', sets, split='validation')


@pytest.fixture
def old_format(sets, tmp_path):
    """Returns a data_dir in tfrecord format. Only the description states the format, so changing it is enough."""
    old = Path(sets) / 'small_squares' / '1.0.0'
    new = tmp_path / 'small_squares' / '1.0.0'
    new.mkdir(parents=True)
    (new / 'features.json').write_text((old / 'features.json').read_text())
    described = json.loads((old / 'dataset_info.json').read_text())
    (new / 'dataset_info.json').write_text(json.dumps(described | {'fileFormat': 'tfrecord'}))
    return str(tmp_path)


def test_a_set_in_another_format(old_format):
    with pytest.raises(UserError, match='in tfrecord format.*python -m genlab.data.prepare small_squares --dir NEW'):
        tfds('small_squares', old_format)


def test_the_command_without_tensorflow(sets, old_format, monkeypatch):
    """Covers the cases that need no TensorFlow: a prepared set, another format, a set that does not exist."""
    from genlab.data.prepare import prepared

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name == 'tensorflow' or found(name))
    assert prepared('small_squares', sets).endswith('train 40, test 5')
    with pytest.raises(UserError, match='is in tfrecord format already: give another folder by --dir'):
        prepared('small_squares', old_format)
    with pytest.raises(ConfigError, match='did you mean mnist'):
        prepared('mnisst', sets)


def test_the_command_names_its_requirements():
    """Expects one line: TensorFlow is missing or, where it is installed, the name is unknown."""
    run = subprocess.run(
        [sys.executable, '-m', 'genlab.data.prepare', 'mnisst', '--dir', os.devnull + '/sets'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    lines = [line for line in run.stderr.splitlines() if line.startswith('genlab: ')]
    assert run.returncode in (1, 2) and len(lines) == 1 and 'RuntimeWarning' not in run.stderr
    assert 'pip install "genlab[prepare]"' in lines[0] or 'did you mean mnist' in lines[0]


@pytest.mark.skipif('GENLAB_TEST_TFDS' not in os.environ, reason='GENLAB_TEST_TFDS names no data_dir with mnist')
def test_mnist():
    source = tfds('mnist', os.environ['GENLAB_TEST_TFDS'], 28, 1, 'test')
    rows = source.rows(np.arange(len(source)))
    check(source, rows)
    assert len(source) == 10_000 and source.classes == tuple('0123456789')
    np.testing.assert_array_equal(np.bincount(rows['label']), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert rows['image'].mean() == pytest.approx(33.79, abs=0.01)
