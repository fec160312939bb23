"""Tests the encoder of speech and its recurrent layer: against a loop, and that padding changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.encoders.speech import SpeechEncoder
from genlab.networks.layers.recurrent import BidirectionalGRU

RANDOM = np.random.default_rng(0)
ENCODER = SpeechEncoder(size=3, width=4, layers=2, window=3, features=5, dropout=0.5)
LENGTH = np.array([9, 4, 1], np.int32)
SPEECH = RANDOM.normal(size=(3, 9, 6)).astype(np.float32) * (np.arange(9)[None, :, None] < LENGTH[:, None, None])


def rich(shapes):
    return jax.tree.map(lambda leaf: jnp.array(RANDOM.normal(size=leaf.shape), jnp.float32), shapes)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def read(x, kernel, bias, recurrent, inner):
    """Returns the states of one direction over x [T, C], one after another."""
    size, h, states = len(inner), np.zeros(len(inner)), []
    for given in x:
        wide, back = given @ kernel + bias, h @ recurrent
        reset, kept = sigmoid(wide[:size] + back[:size]), sigmoid(wide[size : 2 * size] + back[size : 2 * size])
        new = np.tanh(wide[2 * size :] + reset * (back[2 * size :] + inner))
        h = (1 - kept) * new + kept * h
        states.append(h)
    return np.array(states)


def test_the_recurrent_layer_is_a_loop_over_what_is_not_masked():
    layer = BidirectionalGRU(4)
    mask = jnp.arange(9)[None] < LENGTH[:, None]
    variables = rich(jax.eval_shape(lambda: layer.init(jax.random.key(0), SPEECH, mask)))
    got = jax.jit(layer.apply)(variables, SPEECH, mask)
    params = jax.device_get(variables['params'])
    names = ('kernel', 'bias', 'recurrent', 'inner')
    for row, x, length in zip(np.asarray(got), SPEECH, LENGTH):
        forward = read(x[:length], *(params[name][0] for name in names))
        backward = read(x[:length][::-1], *(params[name][1] for name in names))[::-1]
        np.testing.assert_allclose(row[:length], np.concatenate([forward, backward], 1), atol=1e-5)
        assert not row[length:].any()


@pytest.fixture(scope='module')
def run():
    """Returns a compiled function of speech, length and keys; no parameter is zero."""
    variables = rich(jax.eval_shape(lambda: ENCODER.init(jax.random.key(0), SPEECH, LENGTH, False)))
    encode = lambda speech, length, keys=None, train=True: ENCODER.apply(variables, speech, length, train, keys)
    return jax.jit(encode, static_argnames='train')


def test_padding_changes_nothing(run):
    once = run(SPEECH, LENGTH)
    longer = np.concatenate([SPEECH, np.zeros((3, 6, 6), np.float32)], 1)
    np.testing.assert_allclose(run(longer, LENGTH), once, atol=1e-6)
    beyond = np.arange(15)[None, :, None] >= LENGTH[:, None, None]
    np.testing.assert_allclose(run(np.where(beyond, 100, longer).astype(np.float32), LENGTH), once, atol=1e-6)
    np.testing.assert_allclose(run(SPEECH[1:2, :4], LENGTH[1:2]), once[1:2], atol=1e-6)  # alone, and without padding


def test_every_frame_before_the_end_counts_and_none_after_it(run):
    gradient = np.asarray(jax.jit(jax.grad(lambda x: jnp.square(run(x, LENGTH)).sum()))(SPEECH))
    counted = np.abs(gradient).sum(2) > 0
    np.testing.assert_array_equal(counted, np.arange(9)[None] < LENGTH[:, None])


def test_dropout_takes_a_key_per_example(run):
    keys = jax.random.split(jax.random.key(0), 3)
    noisy = run(SPEECH, LENGTH, keys)
    assert not np.allclose(noisy, run(SPEECH, LENGTH), atol=1e-3)
    np.testing.assert_allclose(run(SPEECH[::-1], LENGTH[::-1], keys[::-1])[::-1], noisy, atol=1e-6)
    np.testing.assert_allclose(run(SPEECH, LENGTH, keys, train=False), run(SPEECH, LENGTH), atol=1e-6)


def test_silence_is_finite(run):
    assert np.isfinite(run(np.zeros_like(SPEECH), np.zeros(3, np.int32))).all()
