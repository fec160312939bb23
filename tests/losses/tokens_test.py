"""Tests the cross-entropy of tokens against scipy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from genlab.losses import tokens

RANDOM = np.random.default_rng(0)
LOGITS, TARGETS = 3 * RANDOM.normal(size=(2, 3, 4, 5)), RANDOM.integers(0, 5, (2, 3, 4))


def test_categorical_cross_entropy_against_scipy():
    chosen = np.take_along_axis(special.log_softmax(LOGITS, -1), TARGETS[..., None], -1)
    got = tokens.token_cross_entropy(jnp.asarray(LOGITS, jnp.float32), jnp.asarray(TARGETS))
    np.testing.assert_allclose(got, -chosen.sum((1, 2, 3)), rtol=1e-5)


def test_shapes_and_types_are_checked():
    with pytest.raises(AssertionError):
        tokens.token_cross_entropy(jnp.zeros((2, 3, 5)), jnp.zeros((2, 4), int))
    with pytest.raises(AssertionError):
        tokens.token_cross_entropy(jnp.zeros((2, 3, 5)), jnp.zeros((2, 3)))
