"""Tests the step against games computed by hand: order of players, batches, sizes of moves, and unchanged state.

The players here are quadratic or linear functions of plain arrays, so that numpy can compute every number."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genlab.config import ramp, schedule
from genlab.errors import ConfigError
from genlab.training.players import Player, batches_per_step, example_keys, make_step
from genlab.training.state import create

KEY = jax.random.key(7)


def player(network, terms, weights, rate=1.0, optimizer=None, stats=None):
    """Returns a player of one network whose terms are `terms(variables, batch, keys)`."""

    def objective(variables, batch, keys, step):
        return terms(variables, batch, keys), stats(variables, batch) if stats else {}

    return Player((network,), (network,), objective, weights, optimizer or optax.sgd(rate))


def pushed(network, by, weight=1.0, **kwargs):
    """Returns a player with loss network * by(batch, keys): SGD at rate 1 moves it by minus the mean of `by`."""
    return player(
        network,
        lambda variables, batch, keys: {'push': variables[network]['params'] * by(batch, keys)},
        {'push': weight},
        **kwargs,
    )


def begin(players, averaged=(), stats={}, **params):
    variables = {
        network: {'params': jnp.asarray(value, jnp.float32), **stats.get(network, {})}
        for network, value in params.items()
    }
    return create(variables, players, averaged)


def rounds(turns, size, seed=0):
    """Returns batches of one step: x float32 [turns, size], position int32 [turns, size]."""
    x = np.random.default_rng(seed).standard_normal((turns, size)).astype(np.float32)
    return {'x': x, 'position': np.broadcast_to(np.arange(size, dtype=np.int32), (turns, size))}


def noise(batch, keys):
    return jax.vmap(jax.random.normal)(keys)


def examples(batch, keys):
    return batch['x']


def bits(state):
    return jax.tree.map(lambda leaf: np.asarray(leaf).tobytes(), state)


def test_players_move_in_order_and_see_the_results_of_earlier_turns():
    def chase(variables, batch, keys):
        return {'distance': 0.5 * (variables['critic']['params'] - variables['generator']['params']) ** 2}

    def flee(variables, batch, keys):
        return {'sum': 0.5 * (variables['generator']['params'] + variables['critic']['params']) ** 2}

    players = {
        'critic': player('critic', chase, {'distance': 1.0}, 0.1),
        'generator': player('generator', flee, {'sum': 1.0}, 0.3),
    }
    for order in [('critic', 'critic', 'generator'), ('generator', 'critic')]:
        critic, generator, state = 2.0, -1.0, begin(players, critic=2.0, generator=-1.0)
        step = jax.jit(make_step(players, order))
        for _ in range(3):
            state, _ = step(state, rounds(batches_per_step(order), 4), KEY)
            for name in order:
                if name == 'critic':
                    critic -= 0.1 * (critic - generator)
                else:
                    generator -= 0.3 * (generator + critic)
        np.testing.assert_allclose(state.params['critic'], critic, rtol=1e-6)
        np.testing.assert_allclose(state.params['generator'], generator, rtol=1e-6)
        assert state.step == 3


def test_turn_i_of_every_player_sees_batch_i():
    players = {'a': pushed('a', examples), 'b': pushed('b', examples)}
    order = ('a', 'a', 'b', 'a')
    batches = rounds(batches_per_step(order), 4)
    assert batches['x'].shape[0] == 3
    state, metrics = make_step(players, order)(begin(players, a=0.0, b=0.0), batches, KEY)
    np.testing.assert_allclose(state.params['a'], -batches['x'].mean(1).sum(), rtol=1e-6)
    np.testing.assert_allclose(state.params['b'], -batches['x'][0].mean(), rtol=1e-6)


def test_players_on_the_same_turn_share_their_noise_and_no_other_turn_or_step_has_it():
    players = {'a': pushed('a', noise), 'b': pushed('b', noise)}
    first, _ = make_step(players, ('a', 'b'))(begin(players, a=0.0, b=0.0), rounds(1, 4), KEY)
    assert first.params['a'] == first.params['b'] != 0
    second, _ = make_step(players, ('a', 'b', 'a'))(begin(players, a=0.0, b=0.0), rounds(2, 4), KEY)
    other_turn = second.params['a'] - second.params['b']
    later, _ = make_step(players, ('a', 'b'))(
        begin(players, a=0.0, b=0.0).replace(step=jnp.int32(1)), rounds(1, 4), KEY
    )
    assert len({float(first.params['a']), float(other_turn), float(later.params['a'])}) == 3
    again, _ = make_step(players, ('b', 'a'))(begin(players, a=0.0, b=0.0), rounds(1, 4), KEY)
    assert again.params['a'] == first.params['a']  # independent of the order of players


def test_the_noise_of_an_example_depends_on_its_position_only():
    whole = jax.random.key_data(example_keys(KEY, jnp.arange(8)))
    np.testing.assert_array_equal(jax.random.key_data(example_keys(KEY, jnp.array([5, 2]))), whole[jnp.array([5, 2])])
    assert len({tuple(row) for row in np.asarray(whole).tolist()}) == 8

    players = {
        'a': player(
            'a', lambda variables, batch, keys: {'push': variables['a']['params'] * noise(batch, keys)}, {'push': 1.0}
        )
    }
    step, state = make_step(players, ('a',)), begin(players, a=np.zeros(4))
    positions = np.array([[4, 5, 6, 7]], np.int32)
    moved, _ = step(state, {'position': positions}, KEY)
    swapped, _ = step(state, {'position': positions[:, ::-1]}, KEY)
    np.testing.assert_array_equal(moved.params['a'], swapped.params['a'][::-1])


def test_terms_are_summed_with_their_weights():
    def menu(variables, batch, keys):
        u = variables['u']['params']
        return {'a': u * batch['x'], 'b': (u * 3.0).sum(), 'c': lambda: u * 5.0}

    players = {'p': player('u', menu, {'a': 2.0, 'b': 0.5, 'c': 1})}
    batches = rounds(1, 4)
    state, metrics = make_step(players, ('p',))(begin(players, u=2.0), batches, KEY)
    gradient = 2 * batches['x'].mean() + 0.5 * 3 + 5
    np.testing.assert_allclose(state.params['u'], 2 - gradient, rtol=1e-6)
    expected = {
        'p/a': 2 * batches['x'].mean(),
        'p/b': 6.0,
        'p/c': 10.0,
        'p/loss': 2 * gradient,
        'p/gradient_norm': abs(gradient),
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6, err_msg=name)


def test_a_weight_may_be_a_function_of_the_step():
    players = {'p': pushed('u', lambda batch, keys: jnp.ones(4), schedule(ramp(1.0, 3.0, 4, begin=1)))}
    step, state, moves = jax.jit(make_step(players, ('p',))), begin(players, u=0.0), []
    for _ in range(7):
        before = state.params['u']
        state, _ = step(state, rounds(1, 4), KEY)
        moves.append(float(before - state.params['u']))
    np.testing.assert_allclose(moves, [1, 1, 1.5, 2, 2.5, 3, 3], rtol=1e-6)


def test_a_term_given_as_a_function_is_traced_only_if_weighted():
    called = []

    def menu(variables, batch, keys):
        def dear():
            called.append(1)
            return variables['u']['params'] * 1.0

        return {'cheap': variables['u']['params'] * batch['x'], 'dear': dear}

    for weights, times in [({'cheap': 1.0}, 0), ({'cheap': 1.0, 'dear': 1.0}, 1), ({'dear': 0.0}, 1)]:
        called.clear()
        players = {'p': player('u', menu, weights)}
        jax.eval_shape(make_step(players, ('p',)), begin(players, u=0.0), rounds(1, 4), KEY)
        assert len(called) == times, weights


def flops(terms, weights):
    players = {'p': player('u', terms, weights)}
    lowered = jax.jit(make_step(players, ('p',))).lower(begin(players, u=np.ones((64, 64))), rounds(1, 4), KEY)
    return lowered.compile().cost_analysis()['flops']


def test_a_term_without_a_weight_costs_nothing_and_a_reported_one_no_gradient():
    def menu(variables, batch, keys):
        u = variables['u']['params']
        return {'cheap': u.sum() * batch['x'], 'dear': ((u @ u @ u) ** 2).sum()}

    def cheap_alone(variables, batch, keys):
        return {'cheap': menu(variables, batch, keys)['cheap']}

    product = 2 * 64**3
    alone = flops(cheap_alone, {'cheap': 1.0})
    assert flops(menu, {'cheap': 1.0}) == alone
    reported, paid = flops(menu, {'cheap': 1.0, 'dear': 0.0}), flops(menu, {'cheap': 1.0, 'dear': 1.0})
    assert alone + 2 * product <= reported < alone + 3 * product
    assert paid > alone + 5 * product


@pytest.mark.parametrize('value', [2.0, np.nan, np.inf])
def test_weight_zero_reports_only(value):
    def menu(variables, batch, keys):
        return {'push': variables['u']['params'] * batch['x'], 'seen': variables['u']['params'] * value}

    batches = rounds(1, 4)
    players = {'p': player('u', menu, {'push': 1.0, 'seen': 0.0})}
    state, metrics = make_step(players, ('p',))(begin(players, u=1.0), batches, KEY)
    np.testing.assert_array_equal(metrics['p/seen'], value)
    np.testing.assert_allclose(metrics['p/loss'], batches['x'].mean(), rtol=1e-6)
    np.testing.assert_allclose(state.params['u'], 1 - batches['x'].mean(), rtol=1e-6)


def test_a_player_with_reported_terms_only_does_not_change():
    players = {'p': pushed('u', examples, weight=0)}
    state, metrics = make_step(players, ('p',))(begin(players, u=1.0), rounds(1, 4), KEY)
    assert state.params['u'] == 1 and metrics['p/loss'] == 0 and metrics['p/push'] != 0


def test_a_weight_for_an_unknown_term_raises_with_the_known_ones():
    def menu(variables, batch, keys):
        return {'kl': variables['u']['params'], 'adversarial': variables['u']['params']}

    players = {'critic': player('u', menu, {'kl': 1.0, 'klx': 0.0})}
    with pytest.raises(ConfigError, match=r'config\.losses\.critic\.klx: .* offers adversarial, kl'):
        jax.eval_shape(make_step(players, ('critic',)), begin(players, u=0.0), rounds(1, 4), KEY)


def test_metrics_are_means_over_the_turns_of_their_player():
    players = {'a': pushed('a', examples, rate=0.0), 'b': pushed('b', examples, rate=0.0)}
    batches = rounds(3, 4)
    _, metrics = make_step(players, ('a', 'a', 'b', 'a'))(begin(players, a=2.0, b=3.0), batches, KEY)
    means = batches['x'].mean(1)
    assert set(metrics) == {f'{name}/{metric}' for name in 'ab' for metric in ('push', 'loss', 'gradient_norm')}
    np.testing.assert_allclose(metrics['a/push'], 2 * means.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics['a/gradient_norm'], np.abs(means).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics['b/loss'], 3 * means[0], rtol=1e-6)


def test_collections_come_from_the_turns_of_the_players_that_update_them():
    def counts(*networks):
        return lambda variables, batch: {
            network: {'seen': {'count': variables[network]['seen']['count'] + 1}} for network in networks
        }

    players = {
        'a': pushed('a', examples, stats=counts('a')),
        'b': pushed('b', examples, stats=counts('b', 'c'))._replace(updates=('b', 'c')),  # c is not trained
    }
    stats = {network: {'seen': {'count': jnp.int32(10)}, 'other': {'kept': jnp.float32(3)}} for network in 'abcd'}
    begun = begin(players, stats=stats, a=0.0, b=0.0, c=0.0, d=0.0)
    state, _ = make_step(players, ('a', 'a', 'a', 'b'))(begun, rounds(3, 4), KEY)
    assert [int(state.stats[network]['seen']['count']) for network in 'abcd'] == [13, 11, 11, 10]
    assert all(state.stats[network]['other']['kept'] == 3 for network in 'abcd')  # others do not change
    assert state.params['c'] == 0 and not any(
        'c' in str(path) for path, _ in jax.tree.leaves_with_path(state.optimizer)
    )
    foreign = {'a': pushed('a', examples, stats=counts('d'))}
    with pytest.raises(ValueError, match='player a returns collections of d: name them in its `updates`'):
        make_step(foreign, ('a',))(begun, rounds(1, 4), KEY)


def test_only_collections_of_means_are_averaged_over_devices():
    """Expects another collection that differs between devices to stay different, so that the battery finds it."""

    def stats(variables, batch):
        return {'a': {'batch_stats': {'mean': batch['x'].mean()}, 'scale': {'mean': batch['x'].mean()}}}

    players = {'a': pushed('a', examples, stats=stats)}
    zero = {'mean': jnp.float32(0)}
    state = begin(players, stats={'a': {'batch_stats': zero, 'scale': zero}}, a=0.0)
    step = make_step(players, ('a',), axis='batch')
    parts = jax.tree.map(lambda leaf: leaf.reshape(1, 4, 2).swapaxes(0, 1), rounds(1, 8))
    moved, _ = jax.vmap(step, (None, 0, None), axis_name='batch')(state, parts, KEY)
    np.testing.assert_allclose(moved.stats['a']['scale']['mean'], parts['x'].mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(moved.stats['a']['batch_stats']['mean'], [parts['x'].mean()] * 4, rtol=1e-5)


def test_an_untrained_network_is_used_and_never_changes():
    def menu(variables, batch, keys):
        return {'distance': 0.5 * (variables['prior']['params'] - variables['tokenizer']['params']) ** 2 * jnp.ones(4)}

    players = {'prior': player('prior', menu, {'distance': 1.0}, 0.5)}
    state = begin(players, prior=0.0, tokenizer=4.0)
    frozen = bits((state.params['tokenizer'], state.stats['tokenizer']))
    for _ in range(2):
        state, _ = make_step(players, ('prior',))(state, rounds(1, 4), KEY)
    assert bits((state.params['tokenizer'], state.stats['tokenizer'])) == frozen
    assert state.params['prior'] == 3.0
    assert set(state.optimizer) == {'prior'}


def regression(optimizer=None):
    """Returns a player with noise, statistics and a parameter vector; its loss is a mean over examples."""

    def menu(variables, batch, keys):
        w = variables['w']['params']
        return {'fit': (w[0] * batch['x'] + w[1] * noise(batch, keys) - 0.3) ** 2, 'shrink': 0.01 * (w**2).sum()}

    def stats(variables, batch):
        old = variables['w']['batch_stats']
        return {'w': {'batch_stats': {'mean': 0.9 * old['mean'] + 0.1 * batch['x'].mean(), 'count': old['count'] + 1}}}

    def build():
        players = {'p': player('w', menu, {'fit': 1.0, 'shrink': 1.0}, 0.1, optimizer, stats)}
        running = {'w': {'batch_stats': {'mean': jnp.float32(0), 'count': jnp.int32(0)}}}
        return players, begin(players, ('w',), running, w=[0.5, -1.0])

    return build


@pytest.mark.parametrize('microbatches', [2, 4])
def test_microbatches_give_the_numbers_of_the_whole_batch(microbatches):
    players, state = regression()()
    parted = jax.jit(make_step(players, ('p', 'p'), average={'w': 0.9}, microbatches=microbatches))
    whole = jax.jit(make_step(players, ('p', 'p'), average={'w': 0.9}))
    one, two = state, state
    for number in range(2):
        one, expected = whole(one, rounds(2, 8, number), KEY)
        two, metrics = parted(two, rounds(2, 8, number), KEY)
        for name in expected:
            np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(two.params['w'], one.params['w'], rtol=1e-6)
    np.testing.assert_allclose(two.average['w'], one.average['w'], rtol=1e-6)
    assert two.stats['w']['batch_stats']['count'] == 4 * microbatches  # statistics pass from part to part


def test_microbatches_share_one_gradient_buffer():
    size = 4 * 2**18

    def temporaries(microbatches):
        players = {
            'p': player(
                'u',
                lambda variables, batch, keys: {'fit': (jnp.tanh(variables['u']['params']).mean() * batch['x']) ** 2},
                {'fit': 1.0},
            )
        }
        step = jax.jit(make_step(players, ('p',), microbatches=microbatches))
        compiled = step.lower(begin(players, u=np.zeros(size // 4)), rounds(1, 16), KEY).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(16) < temporaries(2) + size


def test_a_turn_that_is_not_finite_leaves_its_player_only_unchanged():
    def stats(network):
        return lambda variables, batch: {
            network: {
                'batch_stats': {'mean': batch['x'].mean(), 'count': variables[network]['batch_stats']['count'] + 1}
            }
        }

    seen = {network: {'batch_stats': {'mean': jnp.float32(9), 'count': jnp.int32(0)}} for network in 'ab'}

    def build():
        players = {
            'a': pushed('a', examples, optimizer=optax.adam(0.1), stats=stats('a')),
            'b': pushed('b', lambda batch, keys: jnp.ones(4), optimizer=optax.adam(0.1), stats=stats('b')),
        }
        return players, begin(players, stats=seen, a=1.0, b=1.0)

    def a_part(state):
        return bits((state.params['a'], state.optimizer['a'], state.stats['a']))

    players, state = build()
    step = jax.jit(make_step(players, ('a', 'b'), skip_nonfinite=True))
    bad = rounds(1, 4)
    bad['x'][0, 2] = np.nan
    good, _ = step(state, rounds(1, 4), KEY)
    assert a_part(good) != a_part(state)
    skipped, metrics = step(good, bad, KEY)
    assert a_part(skipped) == a_part(good)
    assert np.isnan(metrics['a/loss']) and np.isfinite(metrics['b/loss'])
    assert skipped.params['b'] < good.params['b'] and skipped.stats['b']['batch_stats']['count'] == 2
    assert skipped.step == 2 and metrics['skipped'] == 1

    unguarded, _ = jax.jit(make_step(players, ('a', 'b')))(good, bad, KEY)
    assert np.isnan(unguarded.params['a'])


def test_an_infinite_gradient_of_a_finite_loss_is_skipped_too():
    players = {
        'p': player(
            'u',
            lambda variables, batch, keys: {'root': jnp.sqrt(jnp.abs(variables['u']['params']))},
            {'root': 1.0},
            optimizer=optax.adam(0.1),
        )
    }
    state = begin(players, u=[0.0, 1.0])
    moved, metrics = make_step(players, ('p',), skip_nonfinite=True)(state, rounds(1, 4), KEY)
    assert metrics['p/loss'] == 0.5 and not np.isfinite(metrics['p/gradient_norm'])
    assert bits((moved.params, moved.optimizer)) == bits((state.params, state.optimizer))


def test_a_lazy_term_is_computed_and_traced_on_its_steps_only():
    """Expects SGD to follow the other terms in other steps; collections of the term change on its steps only."""
    traced = []

    def objective(variables, batch, keys, step):
        def length():
            traced.append(step)
            count = variables['u']['running']['count'] + 1
            return variables['u']['params'] * 10.0, {'u': {'running': {'count': count}}}

        return {'push': variables['u']['params'] * batch['x'], 'length': length}, {}

    players = {'p': Player(('u',), ('u',), objective, {'push': 1.0, 'length': 2.0}, optax.sgd(1.0))}
    step = make_step(players, ('p',), lazy=('p/length',))
    start = begin(players, stats={'u': {'running': {'count': jnp.int32(0)}}}, u=1.0)
    batch = rounds(1, 4)
    between, metrics = step(start, batch, KEY)
    assert not traced and 'p/length' not in metrics and between.stats['u']['running']['count'] == 0
    due, metrics = step(start, batch, KEY, due=frozenset({'p/length'}))
    assert traced and metrics['p/length'] == 10 and due.stats['u']['running']['count'] == 1
    np.testing.assert_allclose(between.params['u'] - due.params['u'], 20.0, rtol=1e-6)


def test_an_average_may_take_a_function_of_the_step_as_its_decay():
    players = {'p': pushed('u', lambda batch, keys: jnp.ones(4))}
    state = begin(players, ('u',), u=0.0)
    step = make_step(players, ('p',), average={'u': lambda step: 0.25 * step})
    for mean in (-1.0, -1.75, -0.5 * 1.75 - 0.5 * 3):
        state, _ = step(state, rounds(1, 4), KEY)
        np.testing.assert_allclose(state.average['u'], mean)


def test_moving_averages_are_warmed_up_as_in_a_loop():
    players = {'p': pushed('u', examples), 'q': pushed('v', examples)}
    state = begin(players, ('u',), u=[1.0, 2.0], v=[0.0, 0.0])
    step = jax.jit(make_step(players, ('p', 'q'), average={'u': 0.5}))
    mean = np.array([1.0, 2.0])
    for number in range(12):
        state, _ = step(state, rounds(1, 2, number), KEY)
        kept = min(0.5, (1 + number) / (10 + number))
        mean = kept * mean + (1 - kept) * np.asarray(state.params['u'], np.float64)
        np.testing.assert_allclose(state.average['u'], mean, rtol=1e-5, atol=1e-6)
    assert set(state.average) == {'u'}
    assert np.abs(mean - state.params['u']).max() > 0.05


def by_device(batches, devices=4):
    """Splits [turns, B] into [devices, turns, B / devices]."""
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0], devices, -1).swapaxes(0, 1), batches)


@pytest.mark.parametrize('microbatches', [1, 2])
def test_four_devices_agree_with_one_and_with_each_other(microbatches):
    players, one = regression(optax.sgd(0.1, momentum=0.9))()
    single = jax.jit(make_step(players, ('p', 'p'), average={'w': 0.9}))
    step = make_step(
        players, ('p', 'p'), average={'w': 0.9}, axis='batch', microbatches=microbatches, skip_nonfinite=True
    )
    call = jax.pmap(step, axis_name='batch', in_axes=(None, 0, None), out_axes=None)
    many = one
    for number in range(3):
        one, expected = single(one, rounds(2, 8, number), KEY)
        many, metrics = call(many, by_device(rounds(2, 8, number)), KEY)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), many) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), one
    )
    for name in expected:
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-5, err_msg=name)
    for part in ('params', 'optimizer', 'average'):
        for got, wanted in zip(jax.tree.leaves(getattr(many, part)), jax.tree.leaves(getattr(one, part))):
            np.testing.assert_allclose(got, wanted, rtol=1e-5, err_msg=part)
    if microbatches == 1:
        np.testing.assert_allclose(
            many.stats['w']['batch_stats']['mean'], one.stats['w']['batch_stats']['mean'], rtol=1e-5
        )
    for leaf in jax.tree.leaves((many, metrics)):
        shards = [np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards]
        assert len(shards) == 4 and len(set(shards)) == 1


def test_a_step_that_is_not_finite_on_one_device_is_skipped_on_all():
    players, state = regression(optax.adam(0.1))()
    step = make_step(players, ('p',), average={'w': 0.9}, axis='batch', skip_nonfinite=True)
    batches = rounds(1, 8)
    batches['x'][0, 5] = np.nan
    moved, _ = jax.jit(jax.vmap(step, (None, 0, None), None, axis_name='batch'))(state, by_device(batches), KEY)
    assert bits((moved.params, moved.optimizer, moved.stats)) == bits((state.params, state.optimizer, state.stats))
