"""Tests the codebook against brute force and moving averages in numpy, restarts, devices, and the scalar levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.layers.quantizer import Quantizer, ScalarQuantizer, stride

ENTRIES, WIDTH = 12, 3


def codes_of(seed, batch=8):
    return jax.random.normal(jax.random.key(seed), (batch, 2, 2, WIDTH))


def begun(quantizer, **values):
    """Returns initial variables, with entries spread like codes."""
    variables = quantizer.init(jax.random.key(0), codes_of(0), False)
    entries = jax.random.normal(jax.random.key(9), (ENTRIES, WIDTH))
    if quantizer.decay:
        return {'codebook': {**variables['codebook'], 'entries': entries, **values}}
    return {'params': {'entries': entries}, 'codebook': {**variables['codebook'], **values}}


def learn(quantizer, variables, codes):
    """Returns (the output in training, the variables after it)."""
    found, moved = quantizer.apply(variables, codes, True, mutable=['codebook'])
    return found, {**variables, **moved}


@pytest.mark.parametrize('decay', [0.99, 0.0])
def test_the_nearest_entry_by_brute_force(decay):
    quantizer, codes = Quantizer(ENTRIES, WIDTH, decay), codes_of(1)
    variables = begun(quantizer)
    found, entries = quantizer.apply(variables, codes, False), jax.random.normal(jax.random.key(9), (ENTRIES, WIDTH))
    distance = np.linalg.norm(np.asarray(codes)[..., None, :] - np.asarray(entries), axis=-1)
    np.testing.assert_array_equal(found.indices, distance.argmin(-1))
    assert found.indices.dtype == jnp.int32
    np.testing.assert_array_equal(found.entries, entries[found.indices])
    np.testing.assert_array_equal(found.entries, quantizer.apply(variables, found.indices, method='look_up'))
    np.testing.assert_allclose(found.codes, found.entries, atol=1e-6)
    np.testing.assert_allclose(found.usage, np.bincount(found.indices.ravel(), minlength=ENTRIES) / 32, rtol=1e-6)


def test_gradients_pass_straight_through_and_reach_the_entries_elsewhere():
    quantizer, codes, weights = Quantizer(ENTRIES, WIDTH, 0.0), codes_of(1), codes_of(2)
    variables = begun(quantizer)

    def total(codes, params, output):
        found = quantizer.apply({**variables, 'params': params}, codes, False)
        return (weights * getattr(found, output)).sum()

    slopes = {output: jax.grad(total, (0, 1))(codes, variables['params'], output) for output in ('codes', 'entries')}
    np.testing.assert_array_equal(slopes['codes'][0], weights)
    assert not slopes['codes'][1]['entries'].any() and not slopes['entries'][0].any()
    expected = np.zeros((ENTRIES, WIDTH), np.float32)
    np.add.at(expected, quantizer.apply(variables, codes, False).indices, weights)
    np.testing.assert_allclose(slopes['entries'][1]['entries'], expected, rtol=1e-5)


def test_moving_averages_agree_with_numpy():
    """Follows three batches with averages from zero, corrected for the bias; an unused entry does not change."""
    decay, smoothing = 0.9, 0.1
    quantizer = Quantizer(ENTRIES, WIDTH, decay, smoothing, patience=0)
    variables = begun(quantizer)
    entries = np.float64(variables['codebook']['entries'])
    counts, sums = np.zeros(ENTRIES), np.zeros((ENTRIES, WIDTH))
    for step in range(1, 4):
        codes = codes_of(step, 2)
        found, variables = learn(quantizer, variables, codes)
        flat = np.float64(codes).reshape(-1, WIDTH)
        chosen = np.linalg.norm(flat[:, None] - entries, axis=-1).argmin(1)
        np.testing.assert_array_equal(found.indices.ravel(), chosen)
        member = np.eye(ENTRIES)[chosen]
        counts, sums = decay * counts + (1 - decay) * member.sum(0), decay * sums + (1 - decay) * member.T @ flat
        count, total = counts / (1 - decay**step), 8  # codes in a batch
        smooth = (count + smoothing) / (total + ENTRIES * smoothing) * total
        moved = sums / (1 - decay**step) / smooth[:, None]
        entries = np.where(counts[:, None] > 0, moved, entries)
        np.testing.assert_allclose(variables['codebook']['entries'], entries, rtol=1e-4)
    assert (counts == 0).any()


def test_nothing_changes_outside_training():
    quantizer = Quantizer(ENTRIES, WIDTH)
    variables = begun(quantizer)
    _, after = quantizer.apply(variables, codes_of(1), False, mutable=['codebook'])
    jax.tree.map(np.testing.assert_array_equal, after, variables)


@pytest.mark.parametrize('decay', [0.99, 0.0])
def test_unused_entries_restart_at_codes_of_the_batch(decay):
    """Expects far entries to restart in the first batch, later ones after more than `patience` unused batches."""
    quantizer = Quantizer(ENTRIES, WIDTH, decay, patience=2)
    table = lambda variables: np.asarray(quantizer.apply(variables, method='table'))
    far = jnp.arange(ENTRIES)[:, None] >= 4
    variables = begun(quantizer)
    tree = variables['codebook'] if decay else variables['params']
    tree['entries'] = jnp.where(far, 1e3, tree['entries'])
    codes = codes_of(1)
    found, after = learn(quantizer, variables, codes)
    flat, started = np.asarray(codes).reshape(-1, WIDTH), table(after)[4:]
    places = np.abs(started[:, None] - flat).max(-1).argmin(1)
    np.testing.assert_allclose(started, flat[places], rtol=1e-3)
    assert len({*places}) == 8  # each at a different code
    if not decay:
        np.testing.assert_array_equal(table(after)[found.usage > 0], table(variables)[found.usage > 0])
    waiting = {**after, 'codebook': {**after['codebook'], 'idle': jnp.zeros(ENTRIES, jnp.int32)}}
    elsewhere, moved = 50 + codes, []
    for _ in range(3):
        before = table(waiting)
        found, waiting = learn(quantizer, waiting, elsewhere)
        moved.append(np.abs(table(waiting) - before).max(1)[found.usage == 0] > 10)
    assert not moved[0].any() and not moved[1].any() and moved[2].all()


@pytest.mark.parametrize('decay', [0.99, 0.0])
def test_four_devices_agree_with_one(decay):
    one, four = (Quantizer(ENTRIES, WIDTH, decay, patience=1, axis=axis) for axis in (None, 'devices'))
    whole = split = begun(one)
    step = jax.jit(jax.vmap(lambda variables, codes: learn(four, variables, codes), (None, 0), axis_name='devices'))
    for number in range(4):
        codes = codes_of(number)
        found, whole = learn(one, whole, codes)
        parts, copies = step(split, codes.reshape(4, 2, 2, 2, WIDTH))
        np.testing.assert_array_equal(parts.indices.reshape(8, 2, 2), found.indices)
        for device in range(4):
            np.testing.assert_allclose(parts.usage[device], found.usage, rtol=1e-6)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a[device], b, rtol=1e-5, atol=1e-5), copies, whole)
        split = jax.tree.map(lambda leaf: leaf[0], copies)


@pytest.mark.parametrize('count', [1, 2, 7, 32, 1024, 8192])
def test_a_stride_visits_every_position(count):
    assert sorted(stride(count) * place % count for place in range(count)) == [*range(count)]


@pytest.mark.parametrize('levels', [(8, 5, 3), (4, 4)])
def test_scalar_levels_are_an_evenly_spaced_grid_that_indices_number(levels):
    quantizer, count = ScalarQuantizer(levels), int(np.prod(levels))
    entries = np.asarray(quantizer.apply({}, jnp.arange(count), method='look_up'))
    grid = [(np.arange(n) - n // 2) / (n // 2) for n in levels]  # every level of every channel
    every = np.stack(np.meshgrid(*grid, indexing='ij'), -1).reshape(count, -1)
    assert {*map(tuple, np.float32(every))} == {*map(tuple, entries)} and quantizer.entries == count
    # The codes in the middle of each level: the inverse of the bound, with the shift that maps 0 to 0.
    half = (np.array(levels) - 1) * 0.999 / 2
    offset = (1 - np.array(levels) % 2) / 2
    codes = np.arctanh((entries * (np.array(levels) // 2) + offset) / half * 0.99) - np.arctanh(offset / half)
    found = quantizer.apply({}, jnp.float32(codes), False)
    np.testing.assert_array_equal(found.indices, np.arange(count))
    np.testing.assert_allclose(found.codes, entries, atol=1e-6)
    np.testing.assert_allclose(found.usage, 1 / count, rtol=1e-6)
    zero = quantizer.apply({}, jnp.zeros((1, len(levels))), False)
    assert not zero.entries.any() and zero.indices.dtype == jnp.int32


def test_gradients_pass_through_the_rounding_of_scalar_levels():
    quantizer, codes = ScalarQuantizer((5, 7)), jnp.array([[0.3, -1.0]])
    slope = jax.grad(lambda codes: quantizer.apply({}, codes, True).codes.sum())(codes)
    half = np.array([[5, 7]]) // 2
    np.testing.assert_allclose(slope, (1 - np.tanh(codes) ** 2) * [[4, 6]] * 0.999 / 2 / half, rtol=1e-5)
    split = jax.vmap(lambda codes: ScalarQuantizer((5, 7), 'devices').apply({}, codes, True), axis_name='devices')
    shared = split(jnp.array([[[0.0, 0.0]], [[9.0, 9.0]]])).usage
    np.testing.assert_array_equal(shared, np.eye(35)[[17, 34]].mean(0, keepdims=True).repeat(2, 0))
