"""Tests sources that need no files, from the config to the data, and the errors of a wrong config."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import genlab
from genlab.data import Batches, check, declared, fingerprint, load, prepare_batch
from genlab.data.images import eight_bits, resize, to_channels
from genlab.data.load import defaults
from genlab.errors import ConfigError

ROOT = Path(genlab.__file__).parent.parent


@pytest.mark.parametrize('channels', [1, 3])
def test_digits(channels):
    config = defaults(resolution=16, channels=channels)
    train, test = load(config), load(config, 'test')
    assert (len(train), len(test)) == (1500, 297) and train.in_memory
    rows = train.rows(np.arange(1500))
    check(train, rows)
    assert rows['image'].shape == (1500, 16, 16, channels)
    assert rows['image'].max() == 255 and np.bincount(rows['label']).min() > 100
    images = {image.tobytes() for image in rows['image']}
    assert not images & {image.tobytes() for image in test.rows(np.arange(297))['image']}


def test_digits_at_their_own_size_are_the_originals():
    from sklearn.datasets import load_digits

    originals = {tuple(image) for image in np.rint(load_digits().data * 255 / 16).astype(int)}
    rows = load(defaults(resolution=8)).rows(np.arange(1500))['image'].reshape(1500, 64)
    assert {tuple(row) for row in rows.astype(int)} <= originals


@pytest.mark.parametrize(
    'config',
    [
        defaults(),
        defaults(source='toy', name='moons', observe='point'),
        defaults(source='scenes', channels=3),
        defaults(source='scenes', observe='style'),
    ],
    ids=['digits', 'toy', 'scenes', 'style'],
)
def test_first_batch_of_every_source(config):
    source = load(config, 'train')
    check(source, Batches(source, 4, seed=0)(0))
    assert prepare_batch(config, source) and len(source.name) > 3


def test_scenes_have_the_requested_fields():
    source = load(defaults(source='scenes', observe='style'), 'train', ('boxes', 'label'))
    assert list(source.fields) == ['style', 'label', 'boxes']


def test_an_unpaired_field_is_drawn_apart_in_training_and_is_a_counterpart_in_the_held_out_split():
    config = defaults(source='scenes', channels=3, resolution=8, unpaired='style', limit=50)
    train, test = load(config), load(config, 'test')
    assert [[*domain.fields] for domain in train.domains] == [['image', 'label'], ['style']] and len(train) == 50
    paired = load(defaults(source='scenes', channels=3, resolution=8, fields=('style',), limit=50))
    every, batch = np.arange(50), Batches(train, 50, seed=0)(0)
    for name in ('image', 'style'):
        np.testing.assert_array_equal(train.rows(every)[name], paired.rows(every)[name])
        images, expected = ([row.tobytes() for row in rows] for rows in (batch[name][0], paired.rows(every)[name]))
        assert sorted(images) == sorted(expected)
    assert fingerprint.of(train).digest == fingerprint.of(paired).digest  # the data are the same
    assert test.domains == () and {*test.fields} == {'image', 'label', 'style'}


@pytest.mark.parametrize(
    'changes, message',
    [
        (
            {'source': 'digit'},
            r"config.data.source='digit': choose one of digits, toy, .*\(did you mean digits\?\)",
        ),
        ({'source': 'toy', 'name': 'moon', 'observe': 'point'}, 'did you mean moons'),
        ({'source': 'toy', 'name': 'moons'}, "config.data.observe='image': choose one of point, label"),
        ({'source': 'scenes', 'observe': 'styles'}, 'did you mean style'),
        (
            {'shapes': 1},
            "config.data.shapes=1 is not read by config.data.source='digits': set config.data.source to sc",
        ),
        ({'source': 'scenes', 'unpaired': 'styl'}, "the field of scenes='styl': .*did you mean style"),
        ({'source': 'scenes', 'unpaired': 'image'}, "unpaired='image' is the modelled field"),
        ({'unpaired': 'style'}, "the field='style': choose one of image, label"),
        ({'channels': 2}, 'choose 1 .* or 3'),
        ({'source': 'stacked', 'stacked': 'digits', 'channels': 1}, 'set config.data.channels=3'),
        ({'resolution': 0}, 'at least 1'),
    ],
)
def test_wrong_configs(changes, message):
    with pytest.raises(ConfigError, match=message) as raised:
        load(defaults(**changes))
    assert '\n' not in str(raised.value)


def test_wrong_splits_fields_and_lines():
    with pytest.raises(ConfigError, match="split='tests': .*did you mean test"):
        load(defaults(), 'tests')
    with pytest.raises(ConfigError, match="the field='caption': choose one of"):
        load(defaults(), 'train', ('caption',))
    with pytest.raises(ConfigError, match='did you mean resolution'):
        defaults(resolutin=3)


def test_resize_is_antialiased_and_keeps_images_of_the_right_size():
    image = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)[..., None]
    assert resize(image, 32).tobytes() == image.tobytes()
    np.testing.assert_allclose(resize(image, 8), 127.5, atol=4)
    assert resize(np.zeros((5, 5, 3), np.uint8), 8).shape == (8, 8, 3)


def test_channels_on_arrays():
    grey = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(to_channels(to_channels(grey, 3), 1), grey)
    np.testing.assert_array_equal(
        to_channels(np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8), 1)[:, 0], [76, 150, 29]
    )


def test_greys_of_higher_precision_become_eight_bits():
    levels = np.arange(256)
    np.testing.assert_array_equal(eight_bits((levels * 257).astype(np.uint16)), levels)
    np.testing.assert_array_equal(eight_bits((levels / 255).astype(np.float32)), levels)


def test_import_loads_no_heavy_package_and_starts_no_backend():
    code = (
        'import sys, genlab.data, genlab.data.prepare; heavy = {"tensorflow", "tensorflow_datasets", "grain", '
        '"sklearn", "PIL"} & set(sys.modules); import jax._src.xla_bridge as bridge; '
        'print(heavy or "light", bridge._backends, callable(genlab.data.prepare_batch))'
    )
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == 'light {} True'


def test_a_folder_is_declared_as_it_is_loaded_but_no_picture_is_decoded(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setenv('GENLAB_CACHE', '')
    for number in range(12):
        Image.new('RGB', (9, 9), (number, 0, 0)).save(tmp_path / f'{number}.png')
    lines = [f'{number}.png,{"abc"[number % 3]},number {number}' for number in range(12)]
    (tmp_path / 'labels.csv').write_text('\n'.join(['file,label,caption', *lines]))
    config = defaults(source='folder', dir=str(tmp_path), resolution=8, fields=('caption',))
    known = load(config)
    with monkeypatch.context() as patch:
        patch.setattr('genlab.data.sources.folder.decode', None)
        found = declared(config)
        every = np.arange(len(found))
        rows = found.rows(every)
    assert found.fields == known.fields and found.fields['caption'].shape == (2,) and found.fields['label'].high == 2
    assert (found.name, len(found), found.classes) == (known.name, len(known), ('a', 'b', 'c'))
    assert found.vocabulary == known.vocabulary and found.captions(every) == known.captions(every)
    check(found, rows)
    assert not rows['image'].any()
    for name in ('label', 'caption'):
        np.testing.assert_array_equal(rows[name], known.rows(every)[name])
    np.testing.assert_array_equal(known.labels, rows['label'])


def test_labels_are_known_of_a_part_of_a_source():
    whole = load(defaults(source='toy', name='moons', observe='point'))
    some = load(defaults(source='toy', name='moons', observe='point', leave_out=(1,)))
    assert len(whole.labels) == len(whole) and len(some.labels) == len(some) < len(whole)
    assert whole.labels.any() and not some.labels.any()


def test_labels_can_be_left_out_of_training():
    config = defaults(source='digits', resolution=8)
    whole, test = load(config), load(config, 'test')
    config.leave_out = (3, 7)
    some = load(config)
    labels = some.rows(np.arange(len(some)))['label']
    assert {*labels.tolist()} == {0, 1, 2, 4, 5, 6, 8, 9} and some.name == 'digits/train without 3, 7'
    kept = ~np.isin(whole.rows(np.arange(len(whole)))['label'], (3, 7))
    assert len(some) == kept.sum()
    np.testing.assert_array_equal(some.rows(np.array([5]))['image'], whole.rows(np.flatnonzero(kept)[[5]])['image'])
    assert len(load(config, 'test')) == len(test)
    config.leave_out = (11,)
    with pytest.raises(ConfigError, match='leave_out has 11: the labels are 0 to 9'):
        load(config)


def test_a_limit_keeps_as_many_training_examples_and_a_smaller_one_a_part_of_them():
    config = defaults(source='digits', resolution=8, channels=1)
    every = load(config)
    parts = []
    for limit in (40, 20):
        config.limit = limit
        some = load(config)
        assert len(some) == len(some.labels) == limit
        parts.append({row.tobytes() for row in some.rows(np.arange(limit))['image']})
    assert parts[1] < parts[0] < {row.tobytes() for row in every.rows(np.arange(len(every)))['image']}
    assert len(np.unique(some.labels)) > 5  # not the first of a sorted set
    config.limit = len(every) + 1
    with pytest.raises(ConfigError, match='has .* training examples'):
        load(config)


@pytest.mark.parametrize('field, readers', [('dir', 'folder or tfds'), ('name', 'toy or tfds')])
def test_a_folder_or_a_name_that_no_source_reads_is_refused(field, readers):
    with pytest.raises(
        ConfigError, match=f"config.data.{field}='x' is not read by config.data.source='digits'.*{readers}"
    ):
        load(defaults(**{field: 'x'}))
