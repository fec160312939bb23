"""Players and the one step that serves them all: turns, gradients, one mean over devices, weighted terms, averages.

A player owns some networks, an objective and an optimizer. Its objective returns named terms; the config weights some
of them. A term without a weight costs nothing; a weight without a term is an error. A term is an array [B], or a scalar
where it is a property of the batch (under pmap: the mean over the devices' parts). An expensive term is a function
without arguments that returns the array, or the array and new state collections; it is called only if the term has a
weight.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from genlab.errors import ConfigError, meant
from genlab.noise import fold_in
from genlab.training.state import State

Schedule = Callable[[jax.Array], jax.Array] | float
Tree = Any
# (variables, batch, keys [B], step) -> ({term: [B] or [] or () -> either}, {network: {collection: statistics}})
Objective = Callable[[Mapping[str, Tree], Mapping[str, jax.Array], jax.Array, jax.Array], tuple[dict, dict]]


# Collections that are means over examples are averaged over devices. Every other collection (codebook, scale, chains,
# ...) must come out equal on all devices: its network first gathers what it needs from all of them.
MEANS = ('batch_stats',)


class Player(NamedTuple):
    """One player of the game: what it changes, and why."""

    trains: tuple[str, ...]  # networks whose parameters it moves; its optimizer holds their moments
    updates: tuple[str, ...]  # networks whose state collections its turn writes
    objective: Objective
    weights: Mapping[str, Schedule]  # term -> its weight, a number or a function of the step; 0 reports the term only
    optimizer: optax.GradientTransformation


def example_keys(key: jax.Array, position: jax.Array) -> jax.Array:
    """Returns one key per example from its position [B] in the global batch: noise does not depend on the devices."""
    return fold_in(key, position)


def make_step(
    players: Mapping[str, Player],
    order: tuple[str, ...],
    *,
    average: Mapping[str, Schedule] = {},
    axis: str | None = None,
    microbatches: int = 1,
    skip_nonfinite: bool = False,
    lazy: Collection[str] = (),
) -> Callable[..., tuple[State, dict[str, jax.Array]]]:
    """Returns the training step: one round, in which the players take turns in `order`.

    Args:
      players: by name. Their names are those of `config.losses`.
      order: the turns of a round, e.g. ('critic',) * 5 + ('generator',). Turn i of a player sees batch i and noise i of
        the round. Players on the same turn then share their fakes, and the compiler computes them once.
      average: network -> decay of the moving average of its parameters. A number is warmed up: min(decay, (1 + t) /
        (10 + t)). A function of the step is taken as it is.
      axis: the name of the device axis under pmap, None under jit.
      microbatches: parts of a batch; their gradients are averaged before the optimizer moves.
      skip_nonfinite: leave a player as it was on a turn whose loss or gradient is not finite.
      lazy: terms, as 'player/term', that only some steps compute.

    Returns:
      `step(state, batches, key, due=frozenset()) -> (state, metrics)`. Batches have leaves [turns, B, ...], of which
      `position` [turns, B] is the index in the global batch. `due` has the lazy terms that this step computes. Metrics
      are scalars, means over turns: `player/term`, `player/loss` (the weighted sum) and `player/gradient_norm`; with
      skip_nonfinite also `skipped`, the number of turns without an update.
    """

    def step(state: State, batches: Mapping[str, jax.Array], key: jax.Array, due: frozenset[str] = frozenset()):
        key = fold_in(key, state.step)
        turns: Counter[str] = Counter()
        rows: dict[str, list[dict[str, jax.Array]]] = {}
        for name in order:
            turn, player = turns[name], _without(players[name], name, {*lazy} - due)
            batch = jax.tree.map(lambda leaf: leaf[turn], batches)
            keys = example_keys(fold_in(key, turn), batch['position'])
            state, metrics = take_turn(state, name, player, batch, keys, axis, microbatches, skip_nonfinite)
            rows.setdefault(name, []).append(metrics)
            turns[name] += 1
        metrics = {
            f'{name}/{term}': sum(row[term] for row in rows[name]) / len(rows[name])
            for name in rows
            for term in rows[name][0]
            if term != 'skipped'
        }
        if skip_nonfinite:
            metrics['skipped'] = sum(row['skipped'] for name in rows for row in rows[name])
        return state.replace(step=state.step + 1, average=move_averages(state, average)), metrics

    return step


def check_terms(players: Mapping[str, Player], state: State, batch: Mapping[str, jax.Array], keys: jax.Array) -> None:
    """Raises ConfigError where a player weighs a term that it does not offer. Takes no gradient.

    Args:
      players: by name.
      state: before the first step.
      batch: leaves [B, ...], prepared.
      keys: one per example, [B].
    """
    for name, player in players.items():
        terms, _ = player.objective(state.variables(), batch, keys, state.step)
        _check_offered(name, terms, player.weights)


def _without(player: Player, name: str, terms: Collection[str]) -> Player:
    """Returns the player without the weights of some terms, given as 'player/term'."""
    weights = {term: weight for term, weight in player.weights.items() if f'{name}/{term}' not in terms}
    return player._replace(weights=weights)


def batches_per_step(order: tuple[str, ...]) -> int:
    """Returns the batches that a round reads: one per turn of the player with the most turns."""
    return max(Counter(order).values())


def take_turn(state: State, name: str, player: Player, batch, keys, axis, microbatches, skip_nonfinite):
    """Moves the networks of one player once. Returns the state and the metrics of this turn, scalars."""
    own = {network: state.params[network] for network in player.trains}
    old_stats = {network: state.stats[network] for network in player.updates}
    weights = {term: weight(state.step) if callable(weight) else weight for term, weight in player.weights.items()}
    (stats, metrics), gradients = _gradients(state, name, player, weights, own, old_stats, batch, keys, microbatches)
    gradients, metrics, stats = _agree(gradients, metrics, stats, axis)
    metrics['gradient_norm'] = optax.tree.norm(gradients)
    updates, moments = player.optimizer.update(gradients, state.optimizer[name], own)
    new = (optax.apply_updates(own, updates), moments, stats)
    if skip_nonfinite:
        finite = jnp.isfinite(metrics['loss']) & jnp.isfinite(metrics['gradient_norm'])
        old = (own, state.optimizer[name], old_stats)
        new = jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, old)
        metrics['skipped'] = 1 - finite.astype(jnp.float32)
    params, moments, stats = new
    return state.replace(
        params={**state.params, **params}, stats={**state.stats, **stats}, optimizer={**state.optimizer, name: moments}
    ), metrics


def _gradients(state, name, player, weights, own, stats, batch, keys, microbatches):
    """Returns ((collections, metrics), gradients) of the weighted loss, averaged over the microbatches."""

    def loss(own, stats, batch, keys):
        current = state.replace(params={**state.params, **own}, stats={**state.stats, **stats})
        terms, collections = player.objective(current.variables(), batch, keys, state.step)
        metrics, extra = _weigh(name, terms, weights)
        for new_stats in (collections, *extra):
            if unknown := sorted({*new_stats} - {*stats}):
                raise ValueError(
                    f'player {name} returns collections of {", ".join(unknown)}: name them in its `updates`'
                )
            stats = {network: {**stats[network], **new_stats.get(network, {})} for network in stats}
        return metrics['loss'], (stats, metrics)

    differentiate = jax.grad(loss, has_aux=True)
    if microbatches == 1:
        gradients, aux = differentiate(own, stats, batch, keys)
        return aux, gradients

    def part(carry, batch_and_keys):
        stats, sums = carry
        gradients, (stats, metrics) = differentiate(own, stats, *batch_and_keys)
        return (stats, jax.tree.map(jnp.add, sums, (gradients, metrics))), None

    # A running sum: separate gradients of all parts would take more memory than the smaller parts save.
    parts = jax.tree.map(lambda leaf: _split(leaf, microbatches), (batch, keys))
    gradients, (_, metrics) = jax.eval_shape(differentiate, own, stats, *jax.tree.map(lambda leaf: leaf[0], parts))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (gradients, metrics))
    (stats, sums), _ = jax.lax.scan(part, (stats, zeros), parts)
    gradients, metrics = jax.tree.map(lambda leaf: leaf / microbatches, sums)
    return (stats, metrics), gradients


def _split(leaf: jax.Array, parts: int) -> jax.Array:
    """Splits [B, ...] to [parts, B / parts, ...]. Part j has examples j, j + parts, ...: sharded batches stay."""
    return leaf.reshape(leaf.shape[0] // parts, parts, *leaf.shape[1:]).swapaxes(0, 1)


def _weigh(
    name: str, terms: Mapping[str, Any], weights: Mapping[str, Any]
) -> tuple[dict[str, jax.Array], list[Mapping[str, Tree]]]:
    """Averages terms over examples and sums them with their weights: the one place where that happens.

    A term with weight 0 is reported and stays out of the sum: 0 times it would cost its gradient, and 0 times infinity
    is NaN.

    Returns:
      The metrics, scalars, and the collections that terms return in addition to their value.
    """
    _check_offered(name, terms, weights)
    metrics, collections = {}, []
    for term in weights:
        value = terms[term]() if callable(terms[term]) else terms[term]
        if isinstance(value, tuple):
            value, new_stats = value
            collections.append(new_stats)
        metrics[term] = jnp.mean(value.astype(jnp.float32))
    summed = [term for term, weight in weights.items() if not (isinstance(weight, (int, float)) and weight == 0)]
    loss = jnp.asarray(sum(weights[term] * metrics[term] for term in summed), jnp.float32)
    return {**metrics, 'loss': loss}, collections


def _check_offered(name: str, terms: Collection[str], weights: Collection[str]) -> None:
    """Raises where a player weighs a term that its objective does not offer."""
    for term in weights:
        if term not in terms:
            raise ConfigError(
                f'config.losses.{name}.{term}: {name} offers no such term; it offers '
                f'{", ".join(sorted(terms))}{meant(term, terms)}'
            )


def _agree(gradients: Tree, metrics: Tree, stats: Tree, axis: str | None) -> tuple[Tree, Tree, Tree]:
    """Averages gradients, metrics and the collections in MEANS over devices: the one place where devices agree.

    Without it, diverged copies would go unnoticed: pmap does not check that outputs are replicated. Other collections
    are left alone.
    """
    if axis is None:
        return gradients, metrics, stats
    gradients, metrics = _mean((gradients, metrics), axis)
    stats = {
        network: {
            collection: _mean(tree, axis) if collection in MEANS else tree for collection, tree in collections.items()
        }
        for network, collections in stats.items()
    }
    return gradients, metrics, stats


def _mean(tree: Tree, axis: str) -> Tree:
    return jax.tree.map(
        lambda mean, leaf: mean.astype(leaf.dtype), jax.lax.pmean(tree, axis), tree
    )  # counts stay integers


def move_averages(state: State, decays: Mapping[str, Schedule]) -> dict[str, Tree]:
    """Returns the moving averages after this round. A number is warmed up, so early averages follow the parameters."""
    step = state.step.astype(jnp.float32)
    moved = {}
    for network, decay in decays.items():
        kept = decay(step) if callable(decay) else jnp.minimum(decay, (1 + step) / (10 + step))
        moved[network] = jax.tree.map(
            lambda mean, value: mean + (1 - kept) * (value - mean), state.average[network], state.params[network]
        )
    return {**state.average, **moved}
