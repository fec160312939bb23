"""Tests the bidirectional transformer: every place sees all places and the condition; its count."""

import jax
import jax.numpy as jnp
import numpy as np

from genlab.networks.autoregressive.masked_transformer import MaskedTransformer
from genlab.run.describe import count


def test_every_place_sees_all_places_and_the_class():
    network = MaskedTransformer((2, 3), 5, width=8, depth=1, heads=1, classes=2, positions='rotary')
    x = np.tile(np.arange(6).reshape(1, 2, 3) % 6, (9, 1, 1))  # one token is the mask, 5
    label = np.tile(np.eye(2, dtype=np.float32)[:1], (9, 1))
    for j in range(6):
        x[1 + j].reshape(-1)[j] = (j + 1) % 6
    label[7], label[8] = [0, 1], 0
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), x, label=label))
    random = np.random.RandomState(1)
    variables = jax.tree.map(lambda leaf: jnp.asarray(0.4 * random.randn(*leaf.shape), jnp.float32), shapes)
    run = jax.jit(lambda x, label: (network.apply(variables, x, label=label), network.apply(variables, x[8:])))
    outputs, without = run(x, label)
    assert outputs.shape == (9, 2, 3, 5)
    assert (np.abs(outputs[1:] - outputs[:1]).max(-1) > 1e-5).all()
    np.testing.assert_allclose(without[0], outputs[8], atol=1e-6)  # class weights of 0 are the null class


def test_count_of_maskgit():
    network = MaskedTransformer((16, 16), 1024, 768, 24, 8, classes=1000)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 16, 16), jnp.int32))
    embeddings = 768 * (1025 + 1001 + 256)
    assert count(shapes) == 24 * (12 * 768**2 + 13 * 768) + 2 * 768 + embeddings + 769 * 1024 == 172_650_496
