"""Tests that pixels drawn from a mixture of discretised logistics follow its law, and depend on their own key only."""

import jax
import jax.numpy as jnp
import numpy as np

from genlab.autoregressive import mixture
from genlab.losses import mixtures

DRAWS = 20_000
LEVELS = jnp.arange(8.0) / 3.5 - 1


def test_channels_follow_their_joint_law():
    """Two channels of 8 levels: the frequencies of the 64 pixels, also at the edges, are their probabilities."""
    outputs = jnp.array([[0.5, -0.5], [-0.8, 0.7], [0.3, -0.2], [-1.5, -1.0], [-2.0, -1.2], [3.0, -2.0]]).reshape(-1)
    keys = jax.random.split(jax.random.key(0), DRAWS)
    repeated = jnp.broadcast_to(outputs, (DRAWS, outputs.size))
    drawn = jax.jit(lambda outputs, keys: mixture.sample(outputs, keys, channels=2, levels=8))(repeated, keys)
    grid = jnp.stack(jnp.meshgrid(LEVELS, LEVELS, indexing='ij'), -1)
    expected = np.exp(mixtures.log_probability(grid, jnp.broadcast_to(outputs, (8, 8, outputs.size)), levels=8))
    found = np.round((np.asarray(drawn) + 1) * 3.5).astype(int)
    frequency = np.zeros((8, 8))
    np.add.at(frequency, tuple(found.T), 1 / DRAWS)
    # Five standard errors of each frequency, and the least that a rare level needs.
    np.testing.assert_array_less(np.abs(frequency - expected), 5 * np.sqrt(expected / DRAWS) + 3 / DRAWS)
    assert expected[0].sum() > 0.05 and expected[-1].sum() > 0.05  # the edges matter
    np.testing.assert_allclose(drawn, LEVELS[found], atol=1e-6)


def test_a_draw_depends_on_its_own_key_only():
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(4, 30)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 4)
    sample = jax.jit(lambda outputs, keys: mixture.sample(outputs, keys, channels=3))
    together = sample(outputs, keys)
    np.testing.assert_array_equal(together[1:3], sample(outputs[1:3], keys[1:3]))
    assert (sample(outputs, keys[::-1]) != together).any(-1).all()


def test_temperature_zero_gives_the_means_of_the_largest_component():
    outputs = jnp.array([[0.0, 1.0, 0.5, -0.2, 0.0, 0.0]])  # logits, means, log-scales
    sample = jax.jit(lambda outputs, keys: mixture.sample(outputs, keys, channels=1, temperature=0.0))
    drawn = sample(outputs, jax.random.split(jax.random.key(0), 1))
    np.testing.assert_allclose(drawn, [[-0.2]], atol=1 / 255)
