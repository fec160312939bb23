"""Tests facts of a data set against a direct computation on its prepared values."""

import dataclasses

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict, FieldReference

from genlab.data import declared, load, missing, prepare_batch, resolve, untrained
from genlab.data.facts import examples, variance
from genlab.data.load import defaults
from genlab.data.source import Field, from_arrays, label_field
from genlab.errors import ConfigError


def prepared(config, source, indices):
    keys = jax.random.split(jax.random.key(0), len(indices))
    return np.asarray(prepare_batch(config, source, train=False)(source.rows(indices), keys)['x'], np.float64)


@pytest.mark.parametrize('option', ['', 'binarise', 'dequantise'])
def test_digits(option):
    config = defaults(resolution=8, **({option: True} if option else {}))
    source = load(config)
    direct = prepared(config, source, np.arange(len(source))).var()
    assert examples(source, config) == 1500
    np.testing.assert_allclose(variance(source, config), direct, rtol=5e-3 if option else 1e-6)


def test_points_are_not_rescaled_and_ten_thousand_suffice():
    config = defaults(source='toy', name='ring', observe='point')
    source = load(config)
    known = variance(source, config)
    assert known == variance(source, config)
    direct = source.rows(np.arange(10_000) * 10)['point'].astype(np.float64).var()
    np.testing.assert_allclose(known, direct, rtol=1e-12)


def test_maps_use_their_declared_range():
    config = defaults(source='scenes', observe='segmentation', resolution=8)
    source = load(config)
    some = type(source)(**{**source.__dict__, 'length': 300})
    direct = prepared(config, some, np.arange(300)).var()
    np.testing.assert_allclose(variance(some, config), direct, rtol=1e-5)


def test_missing_facts_are_found_in_settings_at_any_depth():
    model = ConfigDict({'variance': 0.0, 'examples': 3, 'classes': 0, 'first': {'examples': 0, 'words': 'auto'}})
    assert missing(model) == {'variance': 'variance', 'first.examples': 'examples', 'first.words': 'words'}


def conditional(data=None, **model):
    """Returns a config with counts of classes and words; `data` are fields of `config.data`."""
    config = ConfigDict({'data': defaults(resolution=8, **data or {}), 'model': {'classes': 0, 'words': 0}})
    with config.ignore_type():
        config.model.update(model)
    return config


def pictures(labels, names=('ant', 'bee', 'cat')):
    """Returns a source of labels alone."""
    fields = {'label': label_field(len(names))}
    return from_arrays('pictures/train', {'label': np.array(labels, np.int32)}, fields, classes=names)


def test_auto_becomes_the_number_in_the_data():
    config = conditional(classes='auto')
    resolve(config, pictures([0, 1, 2]))
    assert config.model.to_dict() == {'classes': 3, 'words': 0} and not missing(config.model)
    config = conditional(classes=FieldReference('auto', field_type=object), words='auto')
    config.data.update(source='scenes', fields=('caption',))
    resolve(config, declared(config.data))
    assert config.model.to_dict() == {'classes': 8, 'words': 38}
    resolve(config, declared(config.data))  # of a run that goes on
    for fields, count in ((('edges', 'segmentation'), 9), (('edges',), 0)):
        config = conditional(data=dict(source='scenes', fields=fields), map_classes='auto')
        resolve(config, declared(config.data))
        assert config.model.map_classes == count


@pytest.mark.parametrize(
    'source, model, message',
    [
        ('labels', {'classes': 2}, r"classes=2, but pictures/train has 3 classes: set it to 'auto' or 3"),
        ('labels', {'classes': 10}, r"classes=10, but pictures/train has 3 classes: set it to 'auto' or 3"),
        ('labels', {'classes': -1}, 'classes=-1: give a whole number, 0 for none'),
        ('labels', {'classes': 'all'}, "classes='all': give a whole number, 0 for none, or 'auto'"),
        ('labels', {'words': 'auto'}, "words='auto': pictures/train has no captions"),
        ('captions', {'classes': 'auto'}, "classes='auto': texts/train has no labels: label every example"),
        ('captions', {'words': 38}, "words=38, but texts/train has 4 words: set it to 'auto' or 4"),
        ('scenes', {'words': 'auto'}, r"words='auto': no captions are read: set config.data.fields=\('caption',\)"),
        ('absent', {'classes': 'auto'}, "classes='auto': the data of config.data are missing"),
        ('absent', {'words': 4}, 'words=4: the data are missing'),
    ],
)
def test_conditions_that_contradict_the_data_are_refused(source, model, message):
    caption = {'caption': np.zeros((2, 5), np.int32)}, {'caption': Field((5,), np.dtype(np.int32), 0, 3)}
    sources = {
        'labels': lambda: pictures([0, 1, 2]),
        'captions': lambda: from_arrays('texts/train', *caption, vocabulary=('<pad>', 'a', 'red', 'ring')),
        'scenes': lambda: declared(defaults(source='scenes')),
        'absent': lambda: declared(defaults(source='folder')),
    }
    with pytest.raises(ConfigError, match=f'^config.model.{message}') as raised:
        resolve(conditional(**model), sources[source]())
    assert '\n' not in str(raised.value)


def test_a_number_suffices_where_the_data_are_not_there():
    config = conditional({'source': 'folder', 'dir': 'nowhere'}, classes=1000)
    resolve(config, declared(config.data))
    assert config.model.classes == 1000


def test_classes_without_a_training_example_are_named():
    config = conditional(classes=3)
    assert untrained(config, pictures([0, 1, 2, 1])) == ''
    line = 'pictures/train: no training example has the class ant, cat: a sample of such a class means nothing'
    assert untrained(config, pictures([1, 1])) == line
    config.data.leave_out = (0, 2)
    assert untrained(config, pictures([1, 1])) == ''  # left out on purpose
    many, config.data.leave_out, config.model.classes = tuple(f'c{number}' for number in range(30)), (), 30
    assert 'the class c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 and 19 more: ' in untrained(config, pictures([0], many))
    assert untrained(conditional(), pictures([1])) == ''  # no classes
    assert untrained(config, dataclasses.replace(pictures([1]), labels=None)) == ''  # not known without reading
