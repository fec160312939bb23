"""Joins functions that differ in numbers alone into one function over stacked arguments, by `jax.vmap`.

The functions are traced. Their programs (jaxprs) must be equal but for their numbers, which are literals and constants.
Those that differ become arrays that the trials are mapped over. So a setting may differ if it enters the program as a
number, whatever it is called. A setting that changes a shape, a branch or the state changes the program and is found.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

Tree = Any
Number = Literal | Var  # a literal, or the variable of a constant
Values = Mapping[int, jax.Array]  # id of a number of the first program -> its value in another one

# Primitives that call a program: the parameter that holds it. Their rules of differentiation are of no use any more.
CALLS = {
    'jit': 'jaxpr',
    'pjit': 'jaxpr',
    'closed_call': 'call_jaxpr',
    'custom_jvp_call': 'call_jaxpr',
    'custom_vjp_call': 'call_jaxpr',
    'custom_vjp_call_jaxpr': 'call_jaxpr',
    'checkpoint': 'jaxpr',
    'remat2': 'jaxpr',
}


class Differs(Exception):
    """The functions differ in more than numbers; the message says where."""


def join(functions: Sequence[Callable], shared: Tree, stacked: Tree) -> Tree:
    """Computes K functions at once.

    Args:
      functions: `(shared, own) -> tree of arrays`. All have the same program but for numbers.
      shared: arrays that all functions take.
      stacked: arrays [K, ...], of which function k takes row k.

    Returns:
      The results, stacked: arrays [K, ...].

    Raises:
      Differs: the programs differ in more than numbers.
    """
    own = jax.tree.map(lambda leaf: jax.eval_shape(lambda rows: rows[0], leaf), stacked)
    traced = [jax.make_jaxpr(function, return_shape=True)(shared, own) for function in functions]
    programs = [program for program, _ in traced]
    arguments = jax.tree.leaves(shared)

    def row(changed, own):
        return _evaluate(programs[0], changed, [*arguments, *jax.tree.leaves(own)])

    results = jax.vmap(row, axis_size=len(functions))(differing(programs), stacked)
    return jax.tree.unflatten(jax.tree.structure(traced[0][1]), results)


def skeleton(program: ClosedJaxpr) -> Any:
    """Returns a program without its numbers: nested tuples, equal for programs that can be joined."""
    return _skeleton(program.jaxpr)


def differing(programs: Sequence[ClosedJaxpr]) -> dict[int, jax.Array]:
    """Returns the numbers that differ between K programs: id of the number of the first program -> values [K, ...].

    Raises:
      Differs: the programs differ in more than numbers.
    """
    if any(skeleton(program) != skeleton(programs[0]) for program in programs[1:]):
        raise Differs('the programs differ in more than numbers')
    found: dict[int, jax.Array] = {}
    seen: dict[int, list[Any]] = {}
    for entries in zip(*map(_numbers, programs)):
        number, values = entries[0][0], [np.asarray(value) for _, value in entries]
        before = seen.setdefault(id(number), values)
        if not all(map(_same, before, values)):  # one function called twice, and two functions in another program
            raise Differs(f'a function is shared by one program only: its number {values[0]} is not')
        if not all(_same(values[0], value) for value in values[1:]):
            found[id(number)] = jnp.asarray(np.stack(values), number.aval.dtype)
    return found


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.tobytes() == other.tobytes()


def _skeleton(value: Any, functions: bool = False) -> Any:
    """Returns a program, or a parameter of one of its equations, without numbers and names.

    Args:
      value: a jaxpr, or any parameter.
      functions: whether functions among the parameters are left out, because they are never called.
    """
    if isinstance(value, ClosedJaxpr):
        return _skeleton(value.jaxpr)
    if isinstance(value, Jaxpr):
        known: dict[Any, int] = {}

        def name(atom: Any) -> Any:
            return known.setdefault(atom, len(known)) if isinstance(atom, Var) else 'number', atom.aval

        heads = [name(variable) for variable in (*value.constvars, *value.invars)]
        equations = [
            (
                equation.primitive.name,
                tuple(map(name, equation.invars)),
                _skeleton(equation.params, equation.primitive.name in CALLS),
                tuple(map(name, equation.outvars)),
            )
            for equation in value.eqns
        ]
        return 'program', len(value.constvars), heads, equations, [name(atom) for atom in value.outvars]
    if isinstance(value, Mapping):
        return {key: _skeleton(inner, functions) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_skeleton(inner, functions) for inner in value]
    if isinstance(value, (np.ndarray, jax.Array)):
        return 'array', value.shape, str(value.dtype), np.asarray(value).tobytes()
    if functions and not isinstance(value, (bool, int, float, str, type(None))):
        return 'function'
    return value


def _numbers(program: ClosedJaxpr) -> Iterator[tuple[Number, Any]]:
    """Yields all (number, value) of a program and of those within it, in the order of its text."""
    yield from zip(program.jaxpr.constvars, program.consts)
    for equation in program.jaxpr.eqns:
        for atom in equation.invars:
            if isinstance(atom, Literal):
                yield atom, atom.val
        for inner in _inner(equation.params):
            yield from _numbers(inner)
    for atom in program.jaxpr.outvars:
        if isinstance(atom, Literal):
            yield atom, atom.val


def _inner(value: Any) -> Iterator[ClosedJaxpr]:
    """Yields the programs among the parameters of an equation."""
    if isinstance(value, ClosedJaxpr):
        yield value
    elif isinstance(value, Jaxpr):
        yield ClosedJaxpr(value, [])
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _inner(inner)
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from _inner(inner)


def _evaluate(program: ClosedJaxpr, changed: Values, arguments: Sequence[Any]) -> list[Any]:
    """Evaluates a program in which some numbers are changed.

    Args:
      program: the first of the programs.
      changed: the numbers that differ.
      arguments: arrays.
    """
    values: dict[Var, Any] = {}

    def read(atom: Any) -> Any:
        if id(atom) in changed:
            return changed[id(atom)]
        return atom.val if isinstance(atom, Literal) else values[atom]

    for variable, constant in zip(program.jaxpr.constvars, program.consts):
        values[variable] = changed.get(id(variable), constant)
    values.update(zip(program.jaxpr.invars, arguments))
    for equation in program.jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        if any(id(inner) in changed for part in _inner(equation.params) for inner, _ in _numbers(part)):
            results = _apply(equation, changed, inputs)
        else:
            with equation.ctx.manager:
                results = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
            results = results if equation.primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results))
    return [read(atom) for atom in program.jaxpr.outvars]


def _apply(equation: Any, changed: Values, inputs: Sequence[Any]) -> list[Any]:
    """Applies an equation with changed numbers in its inner programs: they become inputs of its loops and branches.

    Args:
      equation: of a jaxpr.
      changed: the numbers that differ.
      inputs: values.
    """
    name, params = equation.primitive.name, equation.params
    if name in CALLS:
        return _evaluate(next(_inner(params[CALLS[name]])), changed, inputs)
    if name == 'scan':
        constants, carry = params['num_consts'], params['num_consts'] + params['num_carry']

        def body(state, rows):
            results = _evaluate(params['jaxpr'], changed, [*inputs[:constants], *state, *rows])
            return results[: params['num_carry']], results[params['num_carry'] :]

        last, rows = jax.lax.scan(
            body,
            inputs[constants:carry],
            inputs[carry:],
            length=params['length'],
            reverse=params['reverse'],
            unroll=params['unroll'],
        )
        return [*last, *rows]
    if name == 'while':
        first, second = params['cond_nconsts'], params['cond_nconsts'] + params['body_nconsts']
        return jax.lax.while_loop(
            lambda state: _evaluate(params['cond_jaxpr'], changed, [*inputs[:first], *state])[0],
            lambda state: _evaluate(params['body_jaxpr'], changed, [*inputs[first:second], *state]),
            list(inputs[second:]),
        )
    if name == 'cond':
        branches = [lambda *rest, branch=branch: _evaluate(branch, changed, rest) for branch in params['branches']]
        return jax.lax.switch(inputs[0], branches, *inputs[1:])
    raise Differs(f'a number within the primitive {name} differs')
