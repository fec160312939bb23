"""Tests that joined functions compute what each computes alone, and that other programs are refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.training import lockstep

NUMBERS = (0.5, 2.0, -1.5)


def literal(number, shared, own):
    return {'a': shared + number * own, 'b': jnp.float32(number)}  # the second result is a literal


def constant(number, shared, own):
    return own * np.array([number, 1.0], np.float32).sum() + np.full(3, number, np.float32)[1:].sum() * shared


def called(number, shared, own):
    return jax.nn.leaky_relu(own - 3 * shared, number) + jax.jit(lambda x: jnp.maximum(x, number))(own)


def scanned(number, shared, own):
    return jax.lax.scan(lambda carry, row: (carry * number + row, carry), shared, own * jnp.arange(4.0))


def looped(number, shared, own):
    return jax.lax.while_loop(lambda x: x[0] < 4 + number, lambda x: (x[0] + 1, x[1] * number), (shared, own))


def branched(number, shared, own):
    return jax.lax.cond(own > 1, lambda x: x * number, lambda x: x + number, own) + shared


def differentiated(number, shared, own):
    return jax.grad(lambda x: jnp.sum(jax.checkpoint(lambda y: jax.nn.silu(y * number))(x) ** 2))(own) + shared


def drawn(number, shared, own):
    return jax.random.normal(jax.random.key(int(10 * number + 20)), (2,)) * own + shared


@pytest.mark.parametrize(
    'function', [literal, constant, called, scanned, looped, branched, differentiated, drawn], ids=lambda f: f.__name__
)
def test_joined_functions_compute_what_each_computes(function):
    shared, own = jnp.float32(1.0), jnp.array([0.5, 1.5, 2.5])
    functions = [functools.partial(function, number) for number in NUMBERS]
    found = jax.jit(functools.partial(lockstep.join, functions))(shared, own)
    wanted = jax.jit(lambda: [function(shared, row) for function, row in zip(functions, own)])()
    for k, one in enumerate(wanted):
        other = jax.tree.map(lambda leaf: leaf[k], jax.device_get(found))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), other, one)


def shared_by_one(numbers, shared, own):
    """Calls one function twice where both numbers are equal, and two functions elsewhere."""
    known = {number: jax.jit(lambda x, number=number: x * number) for number in numbers}
    return known[numbers[0]](own) + known[numbers[1]](own)


@pytest.mark.parametrize(
    'functions',
    [
        (lambda shared, own: own + 1.0, lambda shared, own: own * 1.0),
        (lambda shared, own: own - shared, lambda shared, own: shared - own),
        (lambda shared, own: own + np.zeros(2), lambda shared, own: own + np.zeros(3)),
        (lambda shared, own: own + 1.0, lambda shared, own: own + 1.0 + 1.0),
        (lambda shared, own: jnp.zeros(2).at[0].add(own), lambda shared, own: jnp.zeros(2).at[1:].add(own)),
        (lambda shared, own: jax.lax.scan(lambda c, _: (c * 2.0, None), own, None, 2)[0], lambda shared, own: own * 4),
        (functools.partial(shared_by_one, (2.0, 2.0)), functools.partial(shared_by_one, (2.0, 3.0))),
    ],
)
def test_other_programs_are_refused(functions):
    with pytest.raises(lockstep.Differs):
        lockstep.join(functions, jnp.float32(1.0), jnp.ones(2))


def test_functions_of_nothing_are_joined():
    functions = [functools.partial(lambda number, shared, own: jnp.full(2, number), number) for number in NUMBERS]
    np.testing.assert_array_equal(lockstep.join(functions, (), ())[:, 0], NUMBERS)
