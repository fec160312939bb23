"""Boltzmann machines, full and restricted: free energies, Gibbs sampling, exact sums, annealed importance sampling.

A machine gives states v [B, D] of its visible units the probability p(v) = exp(-F(v)) / Z. F is the free energy, in
nats, and Z the partition function. A `Machine` holds the functions of one kind of machine, and its parameters are a
separate tuple of arrays. What works for every kind takes a `Machine`: `gibbs` and `annealed_log_weights`.

`restricted`: p(v, h) = m(v) m(h) exp(v W h + b v + a h) / Z, where m is the base measure of the units. Binary units are
0 or 1 with m = 1. Gaussian units have m(u) = exp(-u^2 / 2), a unit variance given the other layer.
`full`: p(s) = exp(s W s / 2 + b s) / Z for s in {0, 1}^N, with a symmetric W of zero diagonal. The last units may be
hidden.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genlab.noise import normal, stream, uniform

EXACT = jax.lax.Precision.HIGHEST  # of products: accelerators would round their operands, and F is a large sum
ENUMERATED = 20  # most binary units that a sum runs over
BLOCK = 12  # binary units whose states are summed at once; larger sums go block by block


class Restricted(NamedTuple):
    """Parameters of a restricted machine."""

    weights: jax.Array  # W [D, H]
    visible: jax.Array  # b [D]
    hidden: jax.Array  # a [H]


class Full(NamedTuple):
    """Parameters of a full machine of N units, the visible ones first."""

    pairs: jax.Array  # [N (N - 1) / 2], the weights W_ij above the diagonal, row by row
    bias: jax.Array  # b [N]


class Units(NamedTuple):
    """A kind of unit: an exponential family with natural parameter `field`, the input of the unit."""

    log_base: Callable[[jax.Array], jax.Array]  # states -> log m, elementwise
    cumulant: Callable[[jax.Array], jax.Array]  # field -> log of the sum or integral of m(u) exp(u field)
    mean: Callable[[jax.Array], jax.Array]  # field -> E[u]
    draw: Callable[..., jax.Array]  # (field [B, D], keys [B], name, number) -> states [B, D]


def _draw_binary(field: jax.Array, keys: jax.Array, name: str, number: Any) -> jax.Array:
    return (uniform(keys, field.shape[1:], name, number) < jax.nn.sigmoid(field)).astype(field.dtype)


def _draw_gaussian(field: jax.Array, keys: jax.Array, name: str, number: Any) -> jax.Array:
    return field + normal(keys, field.shape[1:], name, number)


BINARY = Units(jnp.zeros_like, jax.nn.softplus, jax.nn.sigmoid, _draw_binary)
GAUSSIAN = Units(
    lambda states: -jnp.square(states) / 2,
    lambda field: jnp.square(field) / 2 + math.log(2 * math.pi) / 2,
    lambda field: field,
    _draw_gaussian,
)
UNITS = {'binary': BINARY, 'gaussian': GAUSSIAN}


class Machine(NamedTuple):
    """The functions of one kind of machine. All but `step` are differentiable in the parameters."""

    free_energy: Callable[[Any, jax.Array], jax.Array]  # (parameters, v [B, D]) -> F [B], nats
    # (parameters, v [B, D], keys [B], number, kept) -> v [B, D]: one Gibbs step, which leaves p(v) invariant. Units
    # where `kept` bool [B, D] is set stay as they are; None: all units are drawn. `number` separates the draws.
    step: Callable[..., jax.Array]
    # (parameters, base [D]) -> parameters of the machine of independent units with these visible biases
    independent: Callable[[Any, jax.Array], Any]
    log_independent: Callable[[Any], jax.Array]  # parameters of independent units -> log Z
    log_partition: Callable[[Any], jax.Array] | None = None  # parameters -> log Z, exact; None if there are many units


# Restricted machines.


def restricted(
    visible: Units = BINARY, hidden: Units = BINARY, sizes: tuple[int, int] = (0, 0), means: bool = False
) -> Machine:
    """Returns the functions of a restricted machine, whose parameters are `Restricted`.

    Args:
        visible: kind of the visible units.
        hidden: kind of the hidden units.
        sizes: numbers D and H of units. `log_partition` is there if one layer is binary with at most ENUMERATED units.
        means: whether a step ends with the means of the visible units instead of draws (Hinton and Salakhutdinov 2006).
            It then leaves p(v) only approximately invariant.
    """
    few = [units is BINARY and 0 < size <= ENUMERATED for units, size in zip((visible, hidden), sizes)]
    return Machine(
        partial(restricted_free_energy, visible, hidden),
        partial(restricted_step, visible, hidden, means),
        lambda parameters, base: Restricted(*map(jnp.zeros_like, parameters))._replace(visible=base),
        lambda parameters: visible.cumulant(parameters.visible).sum() + hidden.cumulant(parameters.hidden).sum(),
        partial(restricted_log_partition, visible, hidden) if any(few) else None,
    )


def hidden_field(parameters: Restricted, v: jax.Array) -> jax.Array:
    """Returns the inputs v W + a of the hidden units, [B, H]. v: [B, D]."""
    return jnp.matmul(v, parameters.weights, precision=EXACT) + parameters.hidden[None]


def visible_field(parameters: Restricted, h: jax.Array) -> jax.Array:
    """Returns the inputs h W^T + b of the visible units, [B, D]. h: [B, H]."""
    return jnp.matmul(h, parameters.weights.T, precision=EXACT) + parameters.visible[None]


def restricted_free_energy(visible: Units, hidden: Units, parameters: Restricted, v: jax.Array) -> jax.Array:
    """Computes F(v) = -log m(v) - b v - sum_j A(v W_j + a_j), where A is the cumulant of the hidden units.

    For binary units A is softplus (Hinton 2010, section 16, equation 23).

    Args:
        visible: kind of the visible units.
        hidden: kind of the hidden units.
        parameters: parameters of the machine.
        v: states [B, D]. Values between 0 and 1 of binary units are taken as they are.

    Returns:
        Free energies [B], nats.
    """
    below = visible.log_base(v) + v * parameters.visible[None]
    return -below.sum(1) - hidden.cumulant(hidden_field(parameters, v)).sum(1)


def restricted_step(
    visible: Units,
    hidden: Units,
    means: bool,
    parameters: Restricted,
    v: jax.Array,
    keys: jax.Array,
    number: Any = 0,
    kept: jax.Array | None = None,
) -> jax.Array:
    """Does one step of block Gibbs sampling: h given v, then v given h. See `Machine.step` and `restricted`."""
    h = hidden.draw(hidden_field(parameters, v), keys, 'hidden units', number)
    field = visible_field(parameters, h)
    drawn = visible.mean(field) if means else visible.draw(field, keys, 'visible units', number)
    return drawn if kept is None else jnp.where(kept, v, drawn)


def restricted_log_partition(visible: Units, hidden: Units, parameters: Restricted) -> jax.Array:
    """Computes log Z exactly by a sum over the states of the smaller binary layer; the other layer is summed out."""
    one = partial(restricted_free_energy, visible, hidden, parameters)
    # The same machine seen from its hidden layer.
    other = Restricted(parameters.weights.T, parameters.hidden, parameters.visible)
    sides = [(len(parameters.visible), one)] if visible is BINARY else []
    sides += [(len(parameters.hidden), partial(restricted_free_energy, hidden, visible, other))] * (hidden is BINARY)
    size, free_energy = min(sides, key=lambda side: side[0])
    return log_sum(lambda states: -free_energy(states), size)


# Full machines.


def full(units: int, hidden: int = 0) -> Machine:
    """Returns the functions of a full machine of binary units, whose parameters are `Full`.

    The hidden units are drawn jointly, by enumeration, and the visible ones one after the other.

    Args:
        units: number N of units.
        hidden: number H of the units, the last ones, that are hidden; at most ENUMERATED.
    """
    return Machine(
        partial(full_free_energy, hidden),
        partial(full_step, hidden),
        lambda parameters, base: Full(
            jnp.zeros_like(parameters.pairs), jnp.concatenate([base, jnp.zeros(hidden, base.dtype)])
        ),
        lambda parameters: jax.nn.softplus(parameters.bias).sum(),
        full_log_partition if units <= ENUMERATED else None,
    )


def symmetric(pairs: jax.Array, units: int) -> jax.Array:
    """Returns the symmetric matrix [N, N] of zero diagonal. pairs: [N (N - 1) / 2]; units: N."""
    rows, columns = np.triu_indices(units, 1)
    upper = jnp.zeros((units, units), pairs.dtype).at[rows, columns].set(pairs)
    return upper + upper.T


def full_energy(parameters: Full, s: jax.Array) -> jax.Array:
    """Computes E(s) = -s W s / 2 - b s (Ackley, Hinton and Sejnowski 1985, equation 1): states [B, N] -> [B], nats."""
    weights = symmetric(parameters.pairs, len(parameters.bias))
    field = jnp.matmul(s, weights, precision=EXACT) / 2 + parameters.bias[None]
    return -(field * s).sum(1)


def full_free_energy(hidden: int, parameters: Full, v: jax.Array) -> jax.Array:
    """Computes F(v) = -log sum_h exp(-E(v, h)).

    Args:
        hidden: number H of hidden units.
        parameters: parameters of the machine.
        v: states of the visible units, [B, N - H].

    Returns:
        Free energies [B], nats.
    """
    clamped = jnp.concatenate([v, jnp.zeros((len(v), hidden), v.dtype)], 1)
    return full_energy(parameters, clamped) - jax.nn.logsumexp(_hidden_logits(hidden, parameters, v), axis=1)


def full_step(
    hidden: int,
    parameters: Full,
    v: jax.Array,
    keys: jax.Array,
    number: Any = 0,
    kept: jax.Array | None = None,
) -> jax.Array:
    """Does one step of Gibbs sampling: h given v, then each visible unit given all others. See `Machine.step`."""
    count = v.shape[1]
    chosen = jax.vmap(jax.random.categorical)(
        stream(keys, 'hidden units', number), _hidden_logits(hidden, parameters, v)
    )
    h = jnp.asarray(states_of(hidden), v.dtype)[chosen]
    weights = symmetric(parameters.pairs, len(parameters.bias))
    outside = jnp.matmul(h, weights[count:, :count], precision=EXACT) + parameters.bias[None, :count]
    draws, within = uniform(keys, (count,), 'visible units', number), weights[:count, :count]

    def one(unit: jax.Array, v: jax.Array) -> jax.Array:
        field = jnp.matmul(v, within[:, unit], precision=EXACT) + outside[:, unit]
        drawn = (draws[:, unit] < jax.nn.sigmoid(field)).astype(v.dtype)
        return v.at[:, unit].set(drawn if kept is None else jnp.where(kept[:, unit], v[:, unit], drawn))

    return jax.lax.fori_loop(0, count, one, v)


def full_log_partition(parameters: Full) -> jax.Array:
    """Computes log Z exactly by a sum over the states of all units."""
    return log_sum(lambda states: -full_energy(parameters, states), len(parameters.bias))


def _hidden_logits(hidden: int, parameters: Full, v: jax.Array) -> jax.Array:
    """Returns what each state of the hidden units adds to -E(v, 0): [B, 2^H]."""
    count, weights = v.shape[1], symmetric(parameters.pairs, len(parameters.bias))
    states = jnp.asarray(states_of(hidden), v.dtype)
    among = jnp.matmul(states, weights[count:, count:], precision=EXACT)
    alone = ((among / 2 + parameters.bias[None, count:]) * states).sum(1)
    field = jnp.matmul(v, weights[:count, count:], precision=EXACT)
    return jnp.matmul(field, states.T, precision=EXACT) + alone[None]


# Every machine.


def gibbs(
    machine: Machine, parameters: Any, v: jax.Array, keys: jax.Array, steps: int, kept: jax.Array | None = None
) -> jax.Array:
    """Does several steps of Gibbs sampling.

    Args:
        machine: the kind of machine.
        parameters: parameters of the machine.
        v: states [B, D] to start from.
        keys: one key per chain [B]; step i takes draw i of its streams.
        steps: number of steps.
        kept: bool [B, D], units that stay as they are; None for none.

    Returns:
        States [B, D].
    """
    return jax.lax.fori_loop(0, steps, lambda number, v: machine.step(parameters, v, keys, number, kept), v)


def temperatures(count: int) -> np.ndarray:
    """Returns `count` + 1 inverse temperatures from 0 to 1, denser towards 1: float32.

    Of every 145 steps, 5 lie below 0.5, 40 between 0.5 and 0.9, and 100 above (Salakhutdinov and Murray 2008, section
    5).
    """
    return np.interp(np.linspace(0, 1, count + 1), np.array([0, 5, 45, 145]) / 145, [0, 0.5, 0.9, 1]).astype(np.float32)


def annealed_log_weights(
    machine: Machine, parameters: Any, base: jax.Array, keys: jax.Array, betas: np.ndarray
) -> jax.Array:
    """Runs annealed importance sampling (Neal 2001; Salakhutdinov and Murray 2008, section 4.1).

    Each run starts with a draw from independent units. It does one Gibbs step per inverse temperature, whose machine
    has the parameters (1 - beta) * independent + beta * parameters. The weight of a run is an unbiased estimate of Z,
    so the log of the mean weight underestimates log Z on average.

    Args:
        machine: the kind of machine.
        parameters: parameters of the machine.
        base: biases [D] of the independent visible units, such as the log odds of the frequencies in the training set.
        keys: one key per run [R].
        betas: inverse temperatures [K + 1], from 0 to 1.

    Returns:
        Logs of the weights [R], nats.
    """
    start = machine.independent(parameters, base)

    def at(beta: jax.Array) -> Any:
        return jax.tree.map(lambda one, other: (1 - beta) * one + beta * other, start, parameters)

    def anneal(carry: tuple[jax.Array, jax.Array], now: tuple[jax.Array, jax.Array, jax.Array]):
        v, log_weights = carry
        number, before, beta = now
        log_weights += machine.free_energy(at(before), v) - machine.free_energy(at(beta), v)
        return (machine.step(at(beta), v, keys, number), log_weights), None

    steps = len(betas) - 1
    v = machine.step(start, jnp.zeros((keys.shape[0], len(base)), base.dtype), keys, steps)  # an exact draw
    log_weights = jnp.full(keys.shape, machine.log_independent(start))
    levels = jnp.asarray(betas, base.dtype)
    return jax.lax.scan(anneal, (v, log_weights), (jnp.arange(steps), levels[:-1], levels[1:]))[0][1]


# Enumeration.


def states_of(units: int) -> np.ndarray:
    """Returns all states of binary units, float32 [2^units, units]; the first unit changes slowest."""
    return (np.arange(2**units)[:, None] >> np.arange(units)[::-1] & 1).astype(np.float32)


def log_sum(log_weight: Callable[[jax.Array], jax.Array], units: int) -> jax.Array:
    """Computes the log of the sum of exp(log_weight) over all states of binary units, nats.

    Memory holds 2^BLOCK states at a time, for gradients too.

    Args:
        log_weight: states [S, units] -> [S].
        units: number of units, at most ENUMERATED.

    Raises:
        ValueError: there are more units.
    """
    if units > ENUMERATED:
        raise ValueError(f'a sum over the states of {units} binary units: at most {ENUMERATED} are enumerated')
    low = min(units, BLOCK)
    inner = jnp.asarray(states_of(low))

    @jax.checkpoint
    def block(outer: jax.Array) -> jax.Array:
        repeated = jnp.broadcast_to(outer[None], (len(inner), len(outer)))
        return jax.nn.logsumexp(log_weight(jnp.concatenate([repeated, inner], 1)))

    return jax.nn.logsumexp(jax.lax.map(block, jnp.asarray(states_of(units - low))))


def probabilities(log_weight: Callable[[jax.Array], jax.Array], units: int) -> tuple[jax.Array, jax.Array]:
    """Returns all states of binary units [S, units] and their probabilities [S], for exact expectations.

    Args:
        log_weight: states [S, units] -> log-probabilities [S] up to a constant.
        units: number of units, at most ENUMERATED; all states are in memory.
    """
    states = jnp.asarray(states_of(units))
    return states, jax.nn.softmax(log_weight(states))
