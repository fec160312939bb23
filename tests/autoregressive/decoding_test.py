"""Tests decoding place by place with a Markov chain, whose cache counts the places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.autoregressive.decoding import generate, guided
from genlab.noise import stream

PLACES = 5
TABLE = jnp.asarray(np.random.RandomState(0).randn(4, 3), jnp.float32)  # rows: the start, then each previous token


def advance(cache, previous, place):
    logits = TABLE[jnp.where(place == 0, 0, 1 + previous)] + cache['offset'] * (cache['count'] == place)
    return logits, {**cache, 'count': cache['count'] + 1}


def start(count, offset=0.0):
    return {'count': jnp.zeros((), jnp.int32), 'offset': jnp.broadcast_to(offset, (count, 3))}


def draw(logits, keys):
    return jax.vmap(jax.random.categorical)(keys, logits)


@jax.jit
def run(keys, known=None, mask=None):
    return generate(lambda: start(len(keys)), advance, PLACES, draw, keys, known, mask)


@pytest.fixture(scope='module')
def keys():
    return jax.random.split(jax.random.key(1), 6)


def test_draws_equal_those_of_a_loop_for_each_example_alone(keys):
    found = run(keys)
    assert found.shape == (6, PLACES)
    for example in (0, 5):
        previous, values = 0, []
        for place in range(PLACES):
            key = stream(keys[example : example + 1], 'token', place)[0]
            previous = int(jax.random.categorical(key, TABLE[0 if place == 0 else 1 + previous]))
            values.append(previous)
        assert found[example].tolist() == values


def test_known_places_are_kept_and_change_what_follows_only(keys):
    known = (run(keys) + 1) % 3
    mask = np.arange(PLACES)[None] == np.array([2] * 6)[:, None]
    found, free = run(keys, known, mask), run(keys)
    np.testing.assert_array_equal(found[:, 2], known[:, 2])
    np.testing.assert_array_equal(found[:, :2], free[:, :2])
    assert (found[:, 3:] != free[:, 3:]).any()


def test_values_can_be_vectors(keys):
    step = lambda cache, previous, place: (previous + place, cache)
    found = generate(lambda: (), step, 3, lambda output, keys: output, keys, blank=jnp.ones((6, 2)))
    np.testing.assert_array_equal(found, np.broadcast_to(np.array([0, 1, 3])[None, :, None], (6, 3, 2)))


@pytest.mark.parametrize('scale', [1.0, 2.5])
def test_guidance_mixes_the_logits_of_two_caches(keys, scale):
    offsets = jnp.array([[1.0, 0.0, -1.0]] * 6), jnp.zeros((6, 3))
    bound, step = guided(start, advance, tuple({'offset': offset} for offset in offsets), scale)
    previous = jnp.array([0, 1, 2, 0, 1, 2])
    logits, cache = step(bound(), previous, jnp.asarray(0))
    np.testing.assert_allclose(logits, TABLE[:1] + scale * offsets[0], rtol=1e-5)
    logits, _ = step(cache, previous, jnp.asarray(1))
    np.testing.assert_allclose(logits, TABLE[1 + previous] + scale * offsets[0], rtol=1e-5)
