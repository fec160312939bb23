"""Tests the state before the first step: initial variables depend on the name of a network only."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from genlab.training import parallel
from genlab.training.players import Player
from genlab.training.state import Network, State, create, initialize, not_finite

KEY = jax.random.key(3)


class Normed(nn.Module):
    """Has a dense layer and batch statistics."""

    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=True)(nn.Dense(3)(x))


def player(*networks):
    return Player(networks, (), None, {}, optax.sgd(0.1, momentum=0.9))


def equal(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def made(*names):
    x = jnp.ones((2, 4))
    return initialize({name: Network(Normed(), (x,)) for name in names}, KEY)


def test_the_initialisation_of_a_network_depends_on_its_name_only():
    few, many = made('decoder'), made('encoder', 'decoder', 'critic')
    assert equal(few['decoder'], many['decoder'])
    assert not equal(many['decoder']['params'], many['encoder']['params'])
    assert not equal(many['decoder']['params'], many['critic']['params'])
    again = initialize({'decoder': Network(Normed(), (jnp.ones((2, 4)),))}, jax.random.key(4))
    assert not equal(few['decoder']['params'], again['decoder']['params'])


def test_create_starts_at_step_zero_with_averages_equal_to_the_parameters():
    variables = made('encoder', 'decoder', 'tokenizer')
    state = create(variables, {'model': player('encoder', 'decoder')}, ('decoder',))
    assert state.step == 0 and state.step.dtype == jnp.int32
    assert set(state.params) == set(state.stats) == {'encoder', 'decoder', 'tokenizer'}
    assert set(state.average) == {'decoder'} and equal(state.average['decoder'], state.params['decoder'])
    assert set(state.stats['encoder']) == {'batch_stats'}
    assert set(state.optimizer) == {'model'}
    assert set(state.optimizer['model'][0].trace) == {'encoder', 'decoder'}  # of trained networks only
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


def test_averages_are_copies_so_that_the_state_can_be_donated():
    state = create(made('decoder'), {'model': player('decoder')}, ('decoder',))
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((state.params, state.average))]
    assert len(set(buffers)) == len(buffers)


def test_variables_fit_apply_and_are_averaged_where_requested():
    state = create(made('encoder', 'decoder'), {'model': player('encoder', 'decoder')}, ('decoder',))
    state = state.replace(average=jax.tree.map(lambda leaf: leaf + 1, state.average))
    raw, averaged = state.variables(), state.variables(averaged=True)
    assert set(raw) == set(averaged) == {'encoder', 'decoder'}
    assert (
        raw['decoder']['params'] is state.params['decoder']
        and averaged['decoder']['params'] is state.average['decoder']
    )
    assert averaged['encoder']['params'] is state.params['encoder']
    assert averaged['decoder']['batch_stats'] is state.stats['decoder']['batch_stats']
    x = jnp.ones((2, 4))
    assert not np.allclose(Normed().apply(raw['decoder'], x), Normed().apply(averaged['decoder'], x))


@pytest.mark.parametrize('name', ['pmap', 'fsdp'])
def test_leaves_that_are_not_finite_are_named_on_either_placement(name):
    weights = {'a': np.ones((128, 256), np.float32), 'b': np.ones((4,), np.float32)}
    weights['a'][-1, -1], count = np.inf, np.int32(7)
    placement = parallel.place(name)
    state = State(np.int32(3), {'net': weights}, {'net': {'count': count, 'mean': np.float32(np.nan)}}, {}, {})
    state = jax.device_put(state, placement.shardings(state))
    assert not_finite(state) == [".params['net']['a']", ".stats['net']['mean']"]
    assert not_finite(state.replace(params={}, stats={})) == []
