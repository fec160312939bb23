"""Tests the gated PixelCNN: its order, its decoding place by place, its conditions and the size of its layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.autoregressive.gated_pixelcnn import GatedPixelCNN
from support.causality import assert_causal, assert_decoding_equals_the_full_pass, random_variables

NETWORK = GatedPixelCNN(
    (4, 5), 3, width=8, layers=4, first_kernel_size=5, output_width=16, classes=2, context=4, context_blocks=1
)
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, 3, (2, 4, 5))
WEIGHTS = RANDOM.dirichlet(np.ones(3), (1, 4, 5)).astype(np.float32)
LABEL = np.array([[0.0, 1.0], [0.6, 0.4]], np.float32)
CONTEXT = np.array([[[0], [1]], [[2], [3]]])


@pytest.fixture(scope='module')
def variables():
    return random_variables(NETWORK, TOKENS, False, label=LABEL, context=CONTEXT)


def apply(variables, x, train=False, keys=None, network=NETWORK, **condition):
    return jax.jit(lambda *inputs: network.apply(*inputs[:2], train, *inputs[2:3], **inputs[3]))(
        variables, x, keys, condition
    )


def test_a_place_sees_all_earlier_places_and_no_other(variables):
    condition = {'label': LABEL[:1], 'context': CONTEXT[:1]}
    assert_causal(lambda x: NETWORK.apply(variables, x, False, **condition), WEIGHTS)


def test_decoding_equals_the_full_pass(variables):
    assert_decoding_equals_the_full_pass(NETWORK, variables, TOKENS, label=LABEL, context=CONTEXT)


def test_tokens_weights_and_binary_pixels_are_the_same_input():
    network = GatedPixelCNN((3, 3), 2, width=4, layers=1, output_width=4)
    bits = RANDOM.integers(0, 2, (2, 3, 3))
    variables = random_variables(network, bits, False)
    kinds = (bits, np.eye(2, dtype=np.float32)[bits], 2 * bits[..., None].astype(np.float32) - 1)
    by_table, by_weights, by_pixels = (apply(variables, x, network=network) for x in kinds)
    np.testing.assert_allclose(by_weights, by_table, atol=1e-6)
    np.testing.assert_allclose(by_pixels, by_table, atol=1e-6)


def test_conditions_reach_every_place_and_missing_labels_are_zeros():
    """Also checks that dropout acts in training only."""
    network, keys = NETWORK.clone(layers=1, dropout=0.5), jax.random.split(jax.random.key(0), 2)
    variables = random_variables(network, TOKENS, False, label=LABEL, context=CONTEXT)

    @jax.jit
    def outputs(variables):
        run = lambda train, keys, **condition: network.apply(variables, TOKENS, train, keys, **condition)
        return {
            'base': run(False, keys, label=LABEL, context=CONTEXT),
            'label': run(False, None, label=LABEL[:, ::-1], context=CONTEXT),
            'context': run(False, None, label=LABEL, context=3 - CONTEXT),
            'missing': run(False, None, context=CONTEXT),
            'zeros': run(False, None, label=jnp.zeros((2, 2)), context=CONTEXT),
            'dropped': run(True, keys, label=LABEL, context=CONTEXT),
        }

    found = outputs(variables)
    for name in ('label', 'context'):
        assert (found[name] != found['base']).any(-1).all(), name
    np.testing.assert_array_equal(found['missing'], found['zeros'])
    assert (np.abs(found['dropped'] - found['base']) > 1e-3).any()


def test_unknown_and_missing_conditions_are_refused():
    traced = lambda network, **condition: jax.eval_shape(
        lambda: network.init(jax.random.key(0), TOKENS, False, **condition)
    )
    with pytest.raises(ValueError, match='takes no label'):
        traced(NETWORK.clone(classes=0), label=LABEL, context=CONTEXT)
    with pytest.raises(ValueError, match='conditioned on a context'):
        traced(NETWORK, label=LABEL)
    with pytest.raises(ValueError, match='choose a divisor'):
        traced(NETWORK, context=np.zeros((2, 3, 5), int))


def test_the_layers_have_the_sizes_of_the_paper():
    """Figure 2: n x n over rows above as n // 2 + 1 rows, 1 x n as n // 2 + 1 columns, and 1x1 layers."""
    p, entries, out = 8, 5, 7
    network = GatedPixelCNN((4, 4), entries, width=p, layers=3, kernel_size=3, output_width=out)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 4, 4), int), False))
    one_by_one = (2 * p + 1) * 2 * p + (p + 1) * p  # from the vertical stack, and the output
    first = (3 * 7 * p + 1) * 2 * p + (3 * p + 1) * 2 * p + one_by_one
    later = (2 * 3 * p + 1) * 2 * p + (2 * p + 1) * 2 * p + one_by_one
    expected = entries * p + first + 2 * later + (p + 1) * out + (out + 1) * entries
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected
