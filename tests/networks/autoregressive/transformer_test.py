"""Tests the causal transformer: what a place depends on, the cache, masks, positions, dropout and counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.networks.autoregressive import blocks
from genlab.networks.autoregressive.transformer import Transformer, dalle_attention, visible
from genlab.run.describe import count

SHAPE, PLACES, ENTRIES = (2, 3), 6, 5
SMALL = dict(shape=SHAPE, entries=ENTRIES, width=8, depth=3, heads=2)
NETWORKS = {
    'full': Transformer(**SMALL, positions='sequence', unrolled=True),
    'row and column': Transformer(**SMALL, attention=('row', 'column'), classes=3, words=7, length=2),
    'convolution': Transformer(
        **SMALL,
        attention=('convolution',),
        kernel=3,
        positions='rotary',
        context=(1, 2),
        context_entries=4,
        words=7,
        length=2,
    ),
}


def cases(network):
    """Returns examples by what differs from the first one: token j, or a part of the condition."""
    random = np.random.RandomState(0)
    base = {'x': random.randint(0, ENTRIES, SHAPE)}
    if network.classes:
        base['label'] = np.array([0.0, 1.0, 0.0], np.float32)
    if network.words:
        base['caption'] = np.array([3, 0])
    if network.context != (0, 0):
        base['context'] = np.array([[1, 2]])
    found = {'base': base}
    for j in range(PLACES):
        x = base['x'].copy().reshape(-1)
        x[j] = (x[j] + 1) % ENTRIES
        found[j] = {**base, 'x': x.reshape(SHAPE)}
    if network.classes:
        found['label'] = {**base, 'label': np.zeros(3, np.float32)}
    if network.words:
        found |= {f'caption {i}': {**base, 'caption': np.array(caption)} for i, caption in enumerate([[4, 0], [3, 5]])}
    if network.context != (0, 0):
        found['context'] = {**base, 'context': np.array([[1, 3]])}
    return found


@pytest.fixture(scope='module', params=NETWORKS)
def results(request):
    """Returns outputs of one network for all cases at once, by the full pass and by the cache."""
    network = NETWORKS[request.param]
    found = cases(network)
    batch = {name: jnp.asarray(np.stack([case[name] for case in found.values()])) for name in found['base']}
    x, size = batch.pop('x'), len(found)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), x, **batch))
    random = np.random.RandomState(1)
    variables = jax.tree.map(lambda leaf: jnp.asarray(0.4 * random.randn(*leaf.shape), jnp.float32), shapes)

    @jax.jit
    def run(variables):
        before = jnp.concatenate([jnp.full((size, 1), -1), x.reshape(size, -1)[:, :-1]], 1).T

        def step(cache, inputs):
            output, cache = network.apply(variables, cache, *inputs, method='advance')
            return cache, output

        cache = network.apply(variables, size, **batch, method='start')
        cached = jax.lax.scan(step, cache, (before, jnp.arange(PLACES)))[1]
        other = network.copy(unrolled=not network.unrolled) if network is NETWORKS['full'] else network
        method = 'joint' if network.words else '__call__'
        return (
            network.apply(variables, x, method=method, **batch),
            other.apply(variables, x, method=method, **batch),
            jnp.moveaxis(cached, 0, 1),
        )

    full, other, cached = jax.tree.map(np.asarray, run(variables))
    caption, full = full if network.words else (None, full)
    other = other[1] if network.words else other
    named = lambda outputs: dict(zip(found, outputs))
    return {
        'full': named(full.reshape(size, PLACES, ENTRIES)),
        'other': named(other.reshape(size, PLACES, ENTRIES)),
        'cached': named(cached),
        'caption': None if caption is None else named(caption),
    }


def changed(results, kind, case, atol=1e-6):
    """Returns at which places the outputs of a case differ from the first one."""
    return np.abs(results[kind][case] - results[kind]['base']).max(-1) > atol


def test_a_place_depends_on_all_tokens_before_it_and_on_no_other(results):
    for j in range(PLACES):
        np.testing.assert_array_equal(changed(results, 'full', j), np.arange(PLACES) > j)


def test_every_place_depends_on_the_whole_condition(results):
    for case in results['full']:
        if isinstance(case, str) and case != 'base':
            assert changed(results, 'full', case).all(), case


def test_a_caption_token_depends_on_what_is_before_it_and_never_on_the_grid(results):
    if results['caption'] is None:
        pytest.skip('no caption')
    for case in results['caption']:
        expected = {'caption 0': [False, True], 'label': [True, True], 'context': [True, True]}
        assert changed(results, 'caption', case).tolist() == expected.get(case, [False, False]), case


def test_the_cache_gives_the_outputs_of_the_full_pass(results):
    for case, outputs in results['cached'].items():
        np.testing.assert_allclose(outputs, results['full'][case], atol=1e-5)


def test_blocks_in_a_loop_and_unrolled_are_the_same(results):
    for case, outputs in results['other'].items():
        np.testing.assert_allclose(outputs, results['full'][case], atol=1e-5)


def test_masks_by_rows_and_columns():
    """Compares with the definitions in two dimensions, for a grid of 4 x 3 after a prefix of 2."""
    found = np.asarray(visible(np.arange(14), np.arange(14), 2, (4, 3), ('full', 'row', 'column', 'convolution'), 3))
    for query in range(14):
        for key in range(14):
            i, j = query - 2, key - 2
            if key > query or key < 2:
                assert (found[:, query, key] == (key <= query)).all()
                continue
            window = {i - 3 * down - right for down in (0, 1) for right in (-1, 0, 1)}
            expected = [True, j >= i - 3, i % 3 == j % 3, j in window]
            assert found[:, query, key].tolist() == expected, (i, j)


def test_masks_of_dalle():
    masks = dalle_attention(64)
    assert masks[:5] == ('row', 'column', 'row', 'row', 'row') and masks[-1] == 'convolution' and len(masks) == 64
    assert [masks.index('column'), masks.count('column'), masks[61]] == [1, 16, 'column']


def test_rotary_scores_depend_on_differences_of_rows_and_columns():
    angles = blocks.rotary_angles((3, 4), 2, 8)
    query, key = np.random.RandomState(0).randn(2, 1, 1, 1, 8).astype(np.float32)
    turned = [blocks.rotate(jnp.broadcast_to(part, (1, 14, 1, 8)), angles) for part in (query, key)]
    scores = np.einsum('bnhd,bmhd->nm', *turned)
    place = lambda row, column: 2 + 4 * row + column
    np.testing.assert_allclose(scores[place(2, 3), place(1, 1)], scores[place(1, 2), place(0, 0)], atol=1e-4)
    np.testing.assert_allclose(scores[place(0, 0), place(0, 0)], np.sum(query * key), atol=1e-4)
    np.testing.assert_allclose(scores[1, 0], scores[place(1, 1), place(0, 0)], atol=1e-4)  # the prefix: a diagonal
    others = [scores[place(*pair), place(0, 0)] for pair in ((1, 2), (2, 1), (1, 0), (0, 1), (0, 0))]
    assert np.abs(np.subtract.outer(others, others) + np.eye(5)).min() > 1e-3
    with pytest.raises(ValueError, match='multiple of 4'):
        blocks.rotary_angles((3, 4), 2, 6)


def test_dropout_has_noise_per_example_and_per_layer():
    block = blocks.Block(heads=1, ratio=1, dropout=0.5, depth=2, dtype=jnp.float32)
    x, layers = jnp.zeros((2, 1, 16)), [blocks.Row(jnp.asarray(n), jnp.asarray(0)) for n in range(2)]
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), x, layers[0]))
    # Scales and kernels of 0 and biases of 1: a branch returns ones, of which dropout keeps some.
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, float(len(leaf.shape) == 1)), shapes)
    run = jax.jit(lambda keys: [block.apply(variables, x, layer, keys=keys)[0] for layer in layers])
    keys = jax.random.split(jax.random.key(1), 2)
    (first, second), swapped = run(keys), run(keys[::-1])[0]
    np.testing.assert_array_equal(swapped[::-1], first)
    assert not np.allclose(first[0], first[1]) and not np.allclose(first, second)


def test_one_place_costs_a_small_part_of_a_pass():
    network = Transformer((28, 28), 2, width=64, depth=2, heads=4, unrolled=True)
    x, previous = jnp.zeros((1, 28, 28), jnp.int32), jnp.zeros(1, jnp.int32)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), x))
    cache = jax.eval_shape(lambda variables: network.apply(variables, 1, method='start'), variables)
    advance = lambda variables, cache, place: network.apply(variables, cache, previous, place, method='advance')
    flops = [
        jax.jit(function).lower(*inputs).cost_analysis()['flops']
        for function, *inputs in (
            (lambda variables: network.apply(variables, x), variables),
            (advance, variables, cache, 5),
        )
    ]
    assert flops[0] > 200 * flops[1] > 0


def test_counts():
    network = Transformer(
        (32, 32), 8192, 3968, 64, 62, words=16_384, length=256, attention=dalle_attention(64), positions='grid'
    )
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32), jnp.int32))
    width = 3968
    block = 12 * width**2 + 13 * width
    embeddings = width * (8192 + 16_384 + 256 + 256 + 1 + 32 + 32)
    outputs = (width + 1) * (8192 + 16_384)
    assert count(shapes) == 64 * block + 2 * width + embeddings + outputs == 12_292_836_992


@pytest.mark.parametrize(
    'changes, inputs, message',
    [
        ({'attention': ('row', 'rows')}, {}, 'none of full, row, column, convolution'),
        ({'positions': 'square'}, {}, 'none of sequence, grid, rotary'),
        ({}, {'label': jnp.zeros((1, 4))}, '4 class weights for a network of 0 classes'),
        ({}, {'caption': jnp.zeros((1, 2), jnp.int32)}, 'a caption of 2 tokens'),
        ({'context': (2, 2)}, {}, 'a context'),
        ({'heads': 3}, {}, '3 heads do not divide'),
        ({'shape': (2, 2)}, {}, 'tokens of shape'),
    ],
)
def test_mistakes_are_refused(changes, inputs, message):
    network = Transformer(**{**SMALL, **changes})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, *SHAPE), jnp.int32), **inputs))
