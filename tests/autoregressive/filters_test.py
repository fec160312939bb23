"""Tests the filters of logits against probabilities by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.autoregressive import filters
from genlab.autoregressive.filters import Filters
from genlab.errors import ConfigError

P = np.array([[0.1, 0.4, 0.3, 0.2], [0.97, 0.01, 0.01, 0.01]], np.float32)


def probabilities(logits):
    return np.asarray(jax.nn.softmax(logits, -1))


def test_temperature_is_a_power_of_the_probabilities():
    expected = P**2 / (P**2).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities(filters.temperature(np.log(P), 0.5)), expected, rtol=1e-5)
    np.testing.assert_allclose(probabilities(filters.temperature(np.log(P), 0.0)), [[0, 1, 0, 0], [1, 0, 0, 0]])


def test_top_k_keeps_the_likeliest_and_ties():
    found = probabilities(filters.top_k(np.log(P), 2))
    np.testing.assert_allclose(found[0], [0, 4 / 7, 3 / 7, 0], rtol=1e-5)
    np.testing.assert_allclose(found[1], P[1], rtol=1e-5)  # the second is one of three equals
    for all_of_them in (0, 4, 9):
        np.testing.assert_array_equal(filters.top_k(np.log(P), all_of_them), np.log(P))


@pytest.mark.parametrize('share, kept', [(0.05, [1]), (0.39, [1]), (0.41, [1, 2]), (0.69, [1, 2]), (0.8, [1, 2, 3])])
def test_top_p_keeps_the_smallest_set(share, kept):
    expected = np.where(np.isin(np.arange(4), kept), P[0], 0)
    found = probabilities(filters.top_p(np.log(P), share))
    np.testing.assert_allclose(found[0], expected / expected.sum(), rtol=1e-5)
    np.testing.assert_allclose(found[1], [1, 0, 0, 0])


def test_no_filter_is_the_default():
    np.testing.assert_array_equal(filters.apply(Filters(), np.log(P)), np.log(P))


def test_filters_apply_in_order():
    """Of the top three, the first two have 25/29 of the mass at temperature 1/2, and 7/9 at temperature 1."""
    found = probabilities(filters.apply(Filters(0.5, 3, 0.85), np.log(P[:1])))
    np.testing.assert_allclose(found[0], [0, 16 / 25, 9 / 25, 0], rtol=1e-5)


def test_guidance_mixes_logits():
    conditional, null = jnp.array([1.0, 2.0]), jnp.array([0.5, -1.0])
    np.testing.assert_allclose(filters.guide(conditional, null, 1.0), conditional)
    np.testing.assert_allclose(filters.guide(conditional, null, 0.0), null)
    np.testing.assert_allclose(filters.guide(conditional, null, 3.0), [2.0, 8.0])


@pytest.mark.parametrize('name, value', [('temperature', -1.0), ('top_k', -1), ('top_p', 0.0), ('top_p', 1.5)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=f'config.sample.{name}='):
        filters.check(Filters(**{name: value}))
    filters.check(Filters())
