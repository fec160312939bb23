"""Tests mask schedules, iterative decoding and absorbing diffusion with networks that tell what they saw."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.autoregressive import masking
from genlab.autoregressive.filters import Filters
from genlab.autoregressive.masking import SCHEDULES

PLACES = 8
KEYS = 3
TOKENS = np.array([3, 1, 4, 1, 5, 2, 6, 0])


def keys(count=KEYS):
    return jax.random.split(jax.random.key(0), count)


def certain(tokens, entries):
    """Returns a network that is certain of the given tokens."""
    logits = 50 * jax.nn.one_hot(tokens, entries)
    return lambda x: jnp.broadcast_to(logits, (len(x), *logits.shape[-2:]))


def counting(entries, peaks):
    """Returns a network whose likeliest token is the number of masked places, with logits `peaks` [places]."""

    def predict(x):
        token = jax.nn.one_hot((x == entries).sum(1), entries)
        return peaks[None, :, None] * token[:, None]

    return predict


@pytest.mark.parametrize('name', SCHEDULES)
def test_schedules_fall_from_one_to_zero(name):
    r = jnp.linspace(0, 1, 101)
    share = np.asarray(SCHEDULES[name](r))
    np.testing.assert_allclose(share[[0, -1]], [1, 0], atol=1e-6)
    assert (np.diff(share) < 0).all()


@pytest.mark.parametrize('name', SCHEDULES)
def test_the_weight_of_the_bound_integrates_to_one_per_token(name):
    """The integral of w(t) (1 - alpha(t)) is that of -alpha'(t), which is 1 for every schedule."""
    t = (jnp.arange(20_000) + 0.5) / 20_000
    weight, share = masking.bound_weight(SCHEDULES[name], t), masking.masked_share(SCHEDULES[name], t)
    np.testing.assert_allclose((weight * share).mean(), 1, rtol=5e-3)


def test_the_weights_of_the_papers():
    t = jnp.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(masking.bound_weight(SCHEDULES['linear'], t), 1 / t, rtol=1e-5)
    # Shi et al. 2024, table 1: alpha = 1 - cos(pi / 2 (1 - t)), w = pi / 2 tan(pi / 2 (1 - t)).
    expected = np.pi / 2 * np.tan(np.pi / 2 * (1 - t))
    np.testing.assert_allclose(masking.bound_weight(SCHEDULES['cosine'], t), expected, rtol=1e-5)


def test_mask_some_hides_a_given_number_of_places():
    shares = jnp.array([0.0, 0.3, 0.5, 1.0])
    mask = masking.mask_some(keys(4), shares, PLACES)
    assert mask.sum(1).tolist() == [1, 3, 4, 8]
    np.testing.assert_array_equal(masking.mask_some(keys(4)[2:], shares[2:], PLACES), mask[2:])


def test_absorb_hides_places_independently():
    mask = masking.absorb(keys(2), jnp.array([0.2, 1.0]), 5000)
    assert abs(mask[0].mean() - 0.2) < 0.02 and mask[1].all()


@pytest.mark.parametrize('sampler', ['iterate', 'denoise'])
@pytest.mark.parametrize('steps', [3, 20])
def test_a_certain_network_decodes_its_tokens_in_any_number_of_steps(sampler, steps):
    run = functools.partial(getattr(masking, sampler), steps=steps, schedule=SCHEDULES['cosine'])
    found = jax.jit(lambda keys: run(certain(TOKENS, 7), PLACES, 7, keys))(keys())
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, np.tile(TOKENS, (KEYS, 1)))


@pytest.mark.parametrize('sampler', ['iterate', 'denoise'])
def test_known_tokens_are_kept(sampler):
    known = jnp.asarray(np.tile((TOKENS + 1) % 7, (KEYS, 1)))
    mask = np.arange(PLACES)[None] < np.array([[0], [3], [PLACES]])
    run = functools.partial(getattr(masking, sampler), steps=3, schedule=SCHEDULES['linear'])
    found = jax.jit(lambda keys: run(certain(TOKENS, 7), PLACES, 7, keys, known=known, mask=mask))(keys())
    np.testing.assert_array_equal(found, np.where(mask, known, TOKENS[None]))


def test_iterate_follows_the_schedule_and_keeps_the_most_confident():
    """cos(pi / 8), cos(pi / 4), cos(3 pi / 8) of 8 places leave 7, 5 and 3 masked. Of 4 unknown places: 3, 2, 1."""
    peaks = 1 + jnp.array([0.1, 0.7, 0.3, 0.5, 0.0, 0.4, 0.2, 0.6])
    run = functools.partial(
        masking.iterate, steps=4, schedule=SCHEDULES['cosine'], noise=0.0, filtered=Filters(temperature=0.0)
    )
    known, mask = jnp.zeros((2, PLACES), jnp.int32), np.arange(PLACES)[None] < np.array([[0], [4]])
    found = jax.jit(lambda keys: run(counting(9, peaks), PLACES, 9, keys, known=known, mask=mask))(keys(2))
    assert found[0].tolist() == [3, 8, 5, 7, 3, 5, 3, 7]
    assert found[1].tolist() == [0, 0, 0, 0, 1, 3, 2, 4]


def test_noise_in_the_confidence_changes_the_order_between_examples():
    run = functools.partial(masking.iterate, steps=8, schedule=SCHEDULES['linear'], noise=4.5)
    found = jax.jit(lambda keys: run(counting(9, jnp.full(PLACES, 50.0)), PLACES, 9, keys))(keys())
    assert all(sorted(row) == [1, 2, 3, 4, 5, 6, 7, 8] for row in found.tolist())
    assert len({tuple(row) for row in found.tolist()}) == KEYS


def test_denoise_reveals_each_token_in_each_step_with_the_probability_of_the_process():
    """The token of a place is the number of masked places when it was drawn. It follows 1 - alpha(t) on average."""
    places, steps = 200, 4
    run = functools.partial(masking.denoise, steps=steps, schedule=SCHEDULES['square'])
    found = np.asarray(jax.jit(lambda keys: run(counting(201, jnp.full(places, 50.0)), places, 201, keys))(keys(20)))
    left = 1 - np.array([0, 0.25, 0.5, 0.75, 1]) ** 2  # masked share before and after each step
    for example in found:
        counts = np.unique(example)[::-1]  # places that were masked at the start of each step
        np.testing.assert_allclose(counts / places, left[: len(counts)], atol=0.12)
    mean = np.mean([np.unique(example)[::-1] for example in found], 0) / places
    np.testing.assert_allclose(mean, left[:-1], atol=0.02)
