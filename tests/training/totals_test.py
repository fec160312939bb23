"""Tests sums of metrics between two log lines: exact counts, the name of the first bad step, and JSON."""

import json
import math

import flax
import jax
import jax.numpy as jnp
import numpy as np

from genlab.training import totals

NAMES = ('g/reconstruction', 'g/gradient_norm', 'g/loss')


def summed(rows, first=0, start=None):
    """Returns host totals of rows of metrics at steps first, first + 1, ..."""
    sums = totals.zero(rows[0]) if start is None else start
    for step, row in enumerate(rows, first):
        sums = totals.add(sums, {name: jnp.float32(value) for name, value in row.items()}, jnp.int32(step))
    return jax.device_get(sums)


def test_means_are_sums_over_counts():
    sums = summed([{'a': 1.0, 'b': -2.0}, {'a': 2.0, 'b': 4.0}, {'a': 6.0, 'b': 1.0}])
    assert totals.means(sums) == {'a': 3.0, 'b': 1.0}
    assert sums['a'].count == 3 and sums['a'].sum == 9 and sums['a'].first_bad == -1
    assert totals.first_bad(sums) is None


def test_non_finite_values_are_left_out_and_counted_with_their_first_step():
    sums = summed(
        [{'a': 1.0, 'b': 1.0}, {'a': np.nan, 'b': 1.0}, {'a': np.inf, 'b': -np.inf}, {'a': 5.0, 'b': 1.0}], 40
    )
    assert totals.means(sums) == {'a': 3.0, 'b': 1.0}
    assert (sums['a'].count, sums['b'].count) == (2, 3)
    assert totals.first_bad(sums) == (41, 'a')


def test_a_metric_that_was_never_finite_has_no_mean():
    means = totals.means(summed([{'a': np.nan, 'b': 0.0}, {'a': np.nan, 'b': 0.0}]))
    assert math.isnan(means['a']) and means['b'] == 0


def test_of_metrics_that_fail_together_the_term_is_named_before_the_sums():
    good, bad = dict.fromkeys(NAMES, 1.0), dict.fromkeys(NAMES, np.nan)
    assert totals.first_bad(summed([good, bad, bad])) == (1, 'g/reconstruction')
    assert totals.first_bad(summed([good, {**good, 'g/gradient_norm': np.nan}, bad])) == (1, 'g/gradient_norm')
    assert totals.first_bad(summed([{**good, 'g/loss': np.nan}, bad])) == (0, 'g/loss')


def test_step_zero_can_be_the_bad_one():
    assert totals.first_bad(summed([{'a': np.nan}, {'a': np.nan}])) == (0, 'a')


def test_plain_totals_restore_exactly():
    rng = np.random.default_rng(0)
    rows = [{'a': value, 'b': 1 / 3} for value in rng.standard_normal(9).astype(np.float32)]
    rows[2]['b'] = np.nan
    half = totals.from_plain(json.loads(json.dumps(totals.to_plain(summed(rows[:5])))))
    whole, resumed = summed(rows), summed(rows[5:], 5, half)
    assert totals.to_plain(resumed) == totals.to_plain(whole)
    for name in whole:
        for got, kept in zip(half[name], totals.zero('a')['a']):
            assert (got.dtype, got.shape) == (kept.dtype, kept.shape)
        assert [leaf.dtype for leaf in whole[name]] == [np.float32, np.int32, np.int32]


def test_accumulate_counts_a_step_under_its_number_before_the_update():
    @flax.struct.dataclass
    class Count:
        step: jax.Array

    def step(state, batches, key):
        return state.replace(step=state.step + 1), {'a': jnp.where(state.step == 7, jnp.nan, batches)}

    carry = (Count(jnp.int32(6)), totals.zero('a'))
    for value in (2.0, 3.0, 5.0):
        carry = totals.accumulate(step)(carry, jnp.float32(value), None)
    state, sums = jax.device_get(carry)
    assert state.step == 9 and totals.first_bad(sums) == (7, 'a') and totals.means(sums) == {'a': 3.5}
