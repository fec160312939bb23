"""Tests the cached statistics of real examples against numpy on all of them at once."""

import dataclasses

import numpy as np
import pytest

from genlab import config as configs
from genlab import data
from genlab.evaluation.features import extractors, reference


@pytest.fixture
def settings(monkeypatch, tmp_path):
    monkeypatch.setenv('GENLAB_CACHE', str(tmp_path))
    config_data = configs.defaults('x').data
    config_data.update(source='digits', resolution=8)
    return config_data


@pytest.fixture
def counted():
    """Returns (an extractor of pixels, the numbers of examples in its calls)."""
    pixels, asked = extractors.pixels((8, 8, 1)), []
    return pixels._replace(extract=lambda images: asked.append(len(images)) or pixels.extract(images)), asked


def test_moments_labels_and_order(settings, counted):
    source = data.load(settings, 'train')
    extractor, asked = counted
    found = reference.statistics(settings, source, extractor, 1200)
    assert asked == [1000, 200] and found['count'] == 1200 and found['seconds'] > 0
    rows = source.rows(found['indices'])
    expected = (rows['image'] / 127.5 - 1).reshape(1200, 64)
    assert len(set(found['indices'])) == 1200 and list(found['indices'][:9]) != sorted(found['indices'][:9])
    np.testing.assert_allclose(found['features'], expected, atol=1e-6)
    np.testing.assert_array_equal(found['label'], rows['label'])
    np.testing.assert_allclose(found['mean'], expected.mean(0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found['covariance'], np.cov(expected, rowvar=False), rtol=1e-5, atol=1e-7)
    assert found['features'].dtype == np.float32 and found['covariance'].dtype == np.float64
    fewer = reference.statistics(settings, source, extractor, 10)
    np.testing.assert_array_equal(fewer['indices'], found['indices'][:10])
    assert len(reference.statistics(settings, source, extractor, 10**6)['features']) == 1500


def test_it_is_computed_once_for_each_data_set_extractor_and_count(settings, counted):
    extractor, asked = counted
    source = data.load(settings, 'test')
    ask = lambda source=source, extractor=extractor, count=20: reference.statistics(settings, source, extractor, count)
    first, again = ask(), ask()
    assert len(asked) == 1 and first.keys() == again.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    darker = dataclasses.replace(source, rows=lambda indices: {k: v // 2 for k, v in source.rows(indices).items()})
    ask(darker), ask(data.load(settings, 'train')), ask(count=21), ask(extractor=extractor._replace(name='pixels-2'))
    ask(extractor=extractor._replace(protocol={'weights': 'others'}))
    assert len(asked) == 6
    ask(darker), ask(count=21)
    assert len(asked) == 6

    def corrected(indices):  # the label of one example behind the first 128
        rows = source.rows(indices)
        return {**rows, 'label': np.where(indices == 200, 9 - rows['label'], rows['label'])}

    ask(dataclasses.replace(source, rows=corrected)), ask(dataclasses.replace(source, name='moved'))
    assert len(asked) == 7


def test_only_the_first_of_many_large_features_are_kept(settings, counted, monkeypatch):
    extractor, _ = counted
    source = data.load(settings, 'train')
    whole = reference.statistics(settings, source, extractor, 1500)
    monkeypatch.setattr(reference, 'KEPT_BYTES', 1000)
    monkeypatch.setattr(reference, 'VERSION', 0)
    for kept in (30, 1100):
        monkeypatch.setattr(reference, 'KEPT', kept)
        monkeypatch.setenv('GENLAB_CACHE', '')
        found = reference.statistics(settings, source, extractor, 1500)
        assert len(found['features']) == len(found['label']) == len(found['indices']) == kept and found['count'] == 1500
        for name in ('mean', 'covariance'):
            np.testing.assert_array_equal(found[name], whole[name])
        np.testing.assert_array_equal(found['features'], whole['features'][:kept])
    monkeypatch.setattr(reference, 'MOST_DIMENSIONS', 63)
    assert 'covariance' not in reference.statistics(settings, source, extractor, 100)


def test_examples_have_the_range_of_samples(settings):
    source = data.load(settings, 'test')
    levels = source.rows(np.arange(50))['image']
    np.testing.assert_allclose(reference.examples(settings, source, np.arange(50)), levels / 127.5 - 1, atol=1e-6)
    settings.binarise = True
    binary = reference.examples(settings, source, np.arange(50))
    assert set(np.unique(binary)) == {-1, 1}
    np.testing.assert_array_equal(binary[7:], reference.examples(settings, source, np.arange(7, 57))[:43])
    np.testing.assert_allclose(binary.mean(), (levels / 127.5 - 1).mean(), atol=0.03)
    settings.update(source='toy', name='ring', observe='point', binarise=False)
    ring = data.load(settings, 'test')
    np.testing.assert_array_equal(reference.examples(settings, ring, np.arange(5)), ring.rows(np.arange(5))['point'])
    found = reference.statistics(settings, ring, extractors.pixels((2,)), 500)
    np.testing.assert_allclose(
        found['covariance'], np.cov(found['features'].astype(np.float64), rowvar=False), rtol=1e-9
    )
