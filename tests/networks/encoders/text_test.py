"""Tests the encoder of captions: which tokens each position uses, and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.encoders.text import TextEncoder

TEXT = TextEncoder(words=7, width=8, blocks=2, heads=2)
TOKENS = jnp.array([[3, 5, 2, 0, 0], [3, 5, 6, 1, 0]])


@pytest.fixture(scope='module')
def text():
    """Returns (variables without zeros, tokens -> context and mask)."""
    shapes = jax.eval_shape(lambda: TEXT.init(jax.random.key(0), TOKENS, False))
    noise = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.array(noise.normal(size=leaf.shape), jnp.float32), shapes)
    return variables, jax.jit(lambda variables, tokens: TEXT.apply(variables, tokens, False))


def test_the_start_token_and_the_words_are_encoded(text):
    variables, encode = text
    context, mask = encode(variables, TOKENS)
    assert context.shape == (2, 6, 8)
    np.testing.assert_array_equal(mask, [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]])


def test_the_start_token_does_not_depend_on_the_words(text):
    """Checks that a mask of the start token alone is equivalent to no text."""
    variables, encode = text
    np.testing.assert_array_equal(encode(variables, TOKENS)[0][:, 0], np.tile(variables['params']['start'], (2, 1)))


def test_each_word_depends_on_the_others_and_its_position(text):
    variables, encode = text
    words = encode(variables, TOKENS)[0]
    assert not np.allclose(words[0, 1], words[1, 1], atol=1e-3)  # the same word at the same position of two texts
    turned = encode(variables, TOKENS[:, jnp.array([1, 0, 2, 3, 4])])[0]
    assert not np.allclose(turned[:, 2], words[:, 1], atol=1e-3)


def test_padding_is_not_a_word(text):
    variables, encode = text
    context, mask = encode(variables, TOKENS)
    table = variables['params']['words']['embedding']
    other = {'params': {**variables['params'], 'words': {'embedding': table.at[0].mul(-3.0)}}}
    np.testing.assert_allclose(encode(other, TOKENS)[0][mask], context[mask], atol=1e-5)
    other = {'params': {**variables['params'], 'words': {'embedding': table.at[3].mul(-3.0)}}}
    assert not np.allclose(encode(other, TOKENS)[0][mask], context[mask], atol=1e-3)


def test_an_empty_text_is_finite(text):
    variables, encode = text
    context, mask = encode(variables, jnp.zeros_like(TOKENS))
    assert np.isfinite(context).all() and mask.sum() == 2
