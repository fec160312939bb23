"""Tests facts of a data set against a direct computation on its prepared values."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from genlab.data import load, missing, prepare_batch
from genlab.data.facts import examples, variance
from genlab.data.load import defaults


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
    model = ConfigDict({'variance': 0.0, 'examples': 3, 'first': {'examples': 0, 'name': 'x'}})
    assert missing(model) == {'variance': 'variance', 'first.examples': 'examples'}
