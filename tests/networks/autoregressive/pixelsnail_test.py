"""Tests PixelSNAIL: its order, its blind spot without attention, its decoding place by place, and its counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.autoregressive.pixelsnail import PixelSNAIL
from support.causality import assert_causal, assert_decoding_equals_the_full_pass, dependence, random_variables

NETWORK = PixelSNAIL(
    (3, 6), 3, width=4, kernel_size=3, blocks=2, residual_blocks=1, heads=2, classes=2, context=4, context_blocks=1
)
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, 3, (2, 3, 6))
WEIGHTS = RANDOM.dirichlet(np.ones(3), (1, 3, 6)).astype(np.float32)
LABEL = np.array([[0.0, 1.0], [0.6, 0.4]], np.float32)
CONTEXT = np.array([[[0, 1]], [[2, 3]]])


@pytest.fixture(scope='module')
def variables():
    return random_variables(NETWORK, TOKENS, False, label=LABEL, context=CONTEXT)


def test_a_place_sees_all_earlier_places_and_no_other(variables):
    condition = {'label': LABEL[:1], 'context': CONTEXT[:1]}
    assert_causal(lambda x: NETWORK.apply(variables, x, False, **condition), WEIGHTS)


def taps(offsets):
    """Returns bool [18, 18]: which place of a 3x6 grid sees which at (row, column) offsets."""
    found = np.zeros((3, 6, 3, 6), bool)
    for i, j in np.ndindex(3, 6):
        for row, column in offsets:
            if i + row >= 0 and 0 <= j + column < 6:
                found[i, j, i + row, j + column] = True
    return found.reshape(18, 18)


def test_without_attention_a_place_sees_what_the_kernels_reach():
    """The first layer of side 5 sees 2 rows above, and 2 columns to the left, shifted in raster order."""
    network = NETWORK.clone(kernel_size=5, attention=False, blocks=1, residual_blocks=1, classes=0, context=0)
    above = taps([(row, column) for row in (-2, -1) for column in range(-2, 3)])
    left = taps([(row, column) for row in (-2, -1, 0) for column in (-1, 0)])
    first = above | np.pad(left[:-1], ((1, 0), (0, 0)))
    masked = taps([(row, column) for row in range(-4, 1) for column in range(-2, 3) if row < 0 or column < 0])
    expected = first | (masked @ masked @ first)
    variables = random_variables(network, TOKENS, False)
    found = dependence(lambda x: network.apply(variables, x, False), WEIGHTS)
    np.testing.assert_array_equal(found.any(-1), expected)
    missing = np.argwhere(np.tri(18, k=-1, dtype=bool) & ~expected)
    assert [6, 3] in missing.tolist()  # the far right of the row above


@pytest.mark.parametrize('attention', [True, False])
def test_decoding_equals_the_full_pass(attention):
    network = NETWORK.clone(attention=attention, raster=attention, blocks=1, output_blocks=1)
    condition = {'label': LABEL, 'context': CONTEXT}
    variables = random_variables(network, TOKENS, False, **condition)
    assert_decoding_equals_the_full_pass(network, variables, TOKENS, **condition)


def test_conditions_reach_every_place_and_dropout_only_training():
    network, keys = NETWORK.clone(blocks=1, attention=False, dropout=0.5), jax.random.split(jax.random.key(0), 2)
    variables = random_variables(network, TOKENS, False, label=LABEL, context=CONTEXT)

    @jax.jit
    def outputs(variables):
        run = lambda train, label, context: network.apply(variables, TOKENS, train, keys, label=label, context=context)
        changed = run(False, LABEL[:, ::-1], CONTEXT), run(False, LABEL, 3 - CONTEXT), run(True, LABEL, CONTEXT)
        return run(False, LABEL, CONTEXT), *changed

    base, label, context, dropped = outputs(variables)
    assert (label != base).any(-1).all()
    assert (context != base).any(-1).all()
    assert (np.abs(dropped - base) > 1e-3).any()


@pytest.mark.parametrize(
    'network, context, count',
    [
        (PixelSNAIL((32, 32), 512), None, 84_873_280),
        (PixelSNAIL((64, 64), 512, attention=False, context=512), (1, 32, 32), 89_762_816),
    ],
)
def test_the_priors_of_vq_vae_2_have_the_published_sizes(network, context, count):
    more = {} if context is None else {'context': jnp.zeros(context, int)}
    tokens = jnp.zeros((1, *network.shape), int)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), tokens, False, **more))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
