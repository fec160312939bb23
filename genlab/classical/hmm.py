"""Hidden Markov models: likelihood, smoothing, Viterbi paths, Baum-Welch, sampling and the choice of the states.

A chain of states z_1, z_2, ... with p(z_1) = start and p(z_t | z_{t-1}) = transition emits x_t from p(x_t | z_t)
(Rabiner 1989; Bishop 2006, section 13.2; Zucchini and MacDonald 2009).

    model = Model(3, Poisson(3), stationary=True)
    parameters = initialise(model, key, x, lengths)
    parameters, log_likelihoods = fit(model, parameters, x, lengths, steps=100)

All functions are pure and work in the dtype of x (float32 or float64). Sequences are padded to one length: x is
[B, T, D], and only the first `lengths[b]` observations of sequence b count. The rest is padding, with any values.

The forward pass keeps p(z_t | x_1..t), normalised at each time. The backward pass follows Rauch, Tung and Striebel: it
needs probabilities p(z_t | z_{t+1}, x_1..t) alone, which lie in [0, 1]. Sums over states are products with the
transition matrix, and no step of a recursion takes a logarithm. This loses nothing as long as no state is predicted
with a probability near underflow. Otherwise both passes are repeated in logarithms, with log-sum-exp over pairs of
states, which is several times slower. Either way the result is exact up to rounding, however sharp the emissions.

Both passes are recursions in time (`lax.scan`), or with `parallel` products of K x K matrices in a tree of depth log2 T
(`lax.associative_scan`; Sarkka and Garcia-Fernandez 2021). A scan does the least arithmetic; the tree is faster where
time is long and an accelerator has room.

Letters in shapes: B sequences of T times and D values, K states.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp, xlogy

from genlab.classical.emissions import Emission, above_zero, einsum, normalise, where_any

Parameters = dict[str, Any]  # 'start' [K]; 'transition' [K, K], row: from, column: to; 'emission': a dict of arrays
Result = TypeVar('Result')
INNER = 8  # iterations of the M step of a stationary chain


class Model(NamedTuple):
    """The settings of a model; its numbers are the `Parameters`."""

    states: int
    emission: Emission
    stationary: bool = False  # whether a sequence starts in the stationary distribution; else `start` is free
    parallel: bool = False  # whether to use associative scans in time


class Smoothed(NamedTuple):
    """What the observations of one sequence say about its states."""

    log_likelihood: jax.Array  # [], log p(x)
    posterior: jax.Array  # [T, K], p(z_t | x); 0 at padding
    pairs: jax.Array  # [K, K], expected number of transitions from row to column


def initialise(model: Model, key: jax.Array, x: jax.Array, lengths: jax.Array) -> Parameters:
    """Returns random parameters before the first iteration: emissions suit the data.

    Args:
      model: its settings.
      key: key of the random numbers.
      x: sequences [B, T, D].
      lengths: int [B].
    """
    key, own = jax.random.split(key)
    x, lengths = jnp.asarray(x), jnp.asarray(lengths)
    weight = known(x, lengths).astype(x.dtype)
    noise = jax.random.uniform(own, (model.states, model.states), x.dtype, 0.5, 1.5)
    transition = normalise(noise)
    start = jnp.full(model.states, 1 / model.states, x.dtype)
    return {
        'start': stationary(transition) if model.stationary else start,
        'transition': transition,
        'emission': model.emission.initialise(key, x.reshape(-1, x.shape[-1]), weight.reshape(-1)),
    }


def known(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """Returns which times of sequences x [B, T, D] are not padding: bool [B, T]."""
    return jnp.arange(x.shape[1])[None] < lengths[:, None]


# Inference.


def log_likelihood(model: Model, parameters: Parameters, x: jax.Array, lengths: jax.Array) -> jax.Array:
    """Returns log p(x) of sequences x [B, T, D] with lengths [B], in nats: [B]."""
    log_emission = _log_emission(model, parameters, x)

    def run(exact: bool) -> tuple[jax.Array, jax.Array]:
        return jax.vmap(lambda *own: _forward(model, parameters, *own, exact=exact)[2:])(log_emission, lengths)

    return _checked(model, run)


def smooth(model: Model, parameters: Parameters, x: jax.Array, lengths: jax.Array) -> Smoothed:
    """Returns the posterior of the states of sequences x [B, T, D] with lengths [B]; every leaf gets an axis [B]."""
    log_emission = _log_emission(model, parameters, x)

    def run(exact: bool) -> tuple[Smoothed, jax.Array]:
        return jax.vmap(partial(forward_backward, model, parameters, exact=exact))(log_emission, lengths)

    return _checked(model, run)


def _checked(model: Model, run: Callable[[bool], tuple[Result, jax.Array]]) -> Result:
    """Returns the result of the quick recursions if they are accurate, else of the exact ones.

    run: whether to be exact -> (result, whether nothing was lost [B]).
    """
    if model.parallel:
        return run(True)[0]
    quick, safe = run(False)
    return jax.lax.cond(safe.all(), lambda: quick, lambda: run(True)[0])


def _log_emission(model: Model, parameters: Parameters, x: jax.Array) -> jax.Array:
    """Returns log p(x_t | state) of sequences x [B, T, D]: [B, T, K]."""
    flat = x.reshape(-1, x.shape[-1])
    return model.emission.log_prob(parameters['emission'], flat).reshape(*x.shape[:2], model.states)


def forward(
    model: Model, parameters: Parameters, log_emission: jax.Array, length: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Filters one sequence in logarithms (Rabiner 1989, equations 19 and 20, normalised at each time).

    Args:
      model: whose `parallel` chooses the recursion or the tree.
      parameters: parameters of the model.
      log_emission: log p(x_t | state), [T, K].
      length: int [].

    Returns:
      log p(z_t | x_1..t) [T, K], log p(z_t | x_1..t-1) [T, K], and log p(x) []. The first two mean nothing at padding.
    """
    transition, log_start = parameters['transition'], jnp.log(parameters['start'])
    log_transition, real = jnp.log(transition), jnp.arange(len(log_emission)) < length

    def step(predicted: jax.Array, emission: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        joint = predicted + emission
        filtered = joint - _finite(_log_sum(joint))
        return _log_sum(filtered[:, None] + log_transition), (filtered, predicted)

    if model.parallel:
        first = jnp.broadcast_to(log_start[None] + log_emission[:1], transition.shape)  # from any state
        steps = log_transition[None] + log_emission[1:, None]
        products = jax.lax.associative_scan(_log_product, jnp.concatenate([first[None], steps]))
        filtered = products[:, 0] - _finite(logsumexp(products[:, 0], -1))[:, None]
        predicted = logsumexp(filtered[:-1, :, None] + log_transition[None], 1)
        predicted = jnp.concatenate([log_start[None], predicted])
    else:
        _, (filtered, predicted) = jax.lax.scan(step, log_start, log_emission)
    surprise = jnp.where(real, logsumexp(predicted + log_emission, -1), 0)
    return filtered, predicted, surprise.sum()


def forward_scaled(
    parameters: Parameters, log_emission: jax.Array, length: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Filters one sequence by products (Rabiner 1989, section V.A). Emissions are relative to the best state's.

    Args:
      parameters, log_emission, length: as of `forward`.

    Returns:
      p(z_t | x_1..t) [T, K], p(z_t | x_1..t-1) [T, K], log p(x) [], and whether nothing was lost, bool []. The first
      two mean nothing at padding.
    """
    transition, real = parameters['transition'], jnp.arange(len(log_emission)) < length
    top = _finite(log_emission.max(-1))
    relative = jnp.exp(log_emission - top[:, None])

    def step(predicted: jax.Array, relative: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        joint = predicted * relative
        total = joint.sum()
        filtered = joint / above_zero(total)
        return einsum('i,ij->j', filtered, transition), (filtered, predicted, total)

    _, (filtered, predicted, total) = jax.lax.scan(step, parameters['start'], relative)
    surprise = jnp.where(real, jnp.log(total) + top, 0)
    # What underflows is below the smallest number `tiny`: negligible in a sum of tiny^0.8 or more.
    enough = predicted > jnp.finfo(transition.dtype).tiny ** 0.8
    return filtered, predicted, surprise.sum(), (enough | ~real[:, None])[1:].all()


def _forward(
    model: Model, parameters: Parameters, log_emission: jax.Array, length: jax.Array, *, exact: bool
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Filters by `forward` or `forward_scaled`; the former loses nothing."""
    if exact:
        return *forward(model, parameters, log_emission, length), jnp.asarray(True)
    return forward_scaled(parameters, log_emission, length)


def _log_product(left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns log(exp(left) @ exp(right)) for [..., K, K], up to a constant per matrix that keeps numbers small."""
    product = logsumexp(left[..., :, :, None] + right[..., None, :, :], -2)
    return product - _finite(product.max((-2, -1), keepdims=True))


def forward_backward(
    model: Model, parameters: Parameters, log_emission: jax.Array, length: jax.Array, *, exact: bool = True
) -> tuple[Smoothed, jax.Array]:
    """Smooths one sequence; see `forward` for the arguments. Without `exact`, it uses products, which may underflow.

    From back to front, p(z_t = i | x) = sum_j p(z_t = i | z_{t+1} = j, x_1..t) p(z_{t+1} = j | x) (Sarkka 2013,
    theorem 8.1, for discrete states). The terms of the sum are the probabilities of pairs.

    Returns:
      The result, and whether nothing was lost, bool [].
    """
    filtered, predicted, log_likelihood, safe = _forward(model, parameters, log_emission, length, exact=exact)
    inside = jnp.arange(1, len(filtered)) < length  # whether time t + 1 is not padding
    backward = _backward_tree if model.parallel else _backward_exact if exact else _backward
    posterior, pairs = backward(parameters['transition'], filtered, predicted, inside)
    real = jnp.arange(len(filtered)) < length
    return Smoothed(log_likelihood, jnp.where(real[:, None], posterior, 0), pairs), safe


def _backward(
    transition: jax.Array, filtered: jax.Array, predicted: jax.Array, inside: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Smooths from back to front by products with the transition matrix.

    Args:
      transition: [K, K].
      filtered: p(z_t | x_1..t), [T, K].
      predicted: p(z_t | x_1..t-1), [T, K].
      inside: whether time t + 1 is not padding, bool [T - 1].

    Returns:
      p(z_t | x) [T, K], which means nothing at padding, and the expected numbers of transitions [K, K].
    """

    def step(later: jax.Array, time: tuple) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        filtered, predicted, inside = time
        ratio = later / predicted
        now = jnp.where(inside, filtered * einsum('j,ij->i', ratio, transition), filtered)
        return now, (now, ratio)

    times = filtered[:-1], above_zero(predicted[1:]), inside
    _, (posterior, ratios) = jax.lax.scan(step, filtered[-1], times, reverse=True)
    pairs = transition * einsum('ti,tj->ij', jnp.where(inside[:, None], filtered[:-1], 0), ratios)
    return jnp.concatenate([posterior, filtered[-1:]]), pairs


def _backward_exact(
    transition: jax.Array, filtered: jax.Array, predicted: jax.Array, inside: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Does what `_backward` does with the logarithms of `forward`, where probabilities underflow and ratios do not."""
    final = jnp.exp(filtered)

    def step(carry: tuple[jax.Array, jax.Array], time: tuple) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        later, pairs = carry
        filtered, predicted, final, inside = time
        pair = _previous(transition, filtered, predicted) * later[None]
        now = jnp.where(inside, pair.sum(1), final)
        return (now, pairs + jnp.where(inside, pair, 0)), now

    times = filtered[:-1], predicted[1:], final[:-1], inside
    (_, pairs), posterior = jax.lax.scan(step, (final[-1], jnp.zeros_like(transition)), times, reverse=True)
    return jnp.concatenate([posterior, final[-1:]]), pairs


def _backward_tree(
    transition: jax.Array, filtered: jax.Array, predicted: jax.Array, inside: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Does what `_backward_exact` does, as a tree of products."""
    final = jnp.exp(filtered)
    steps = _previous(transition[None], filtered[:-1], predicted[1:])
    restart = jnp.broadcast_to(final[:, :, None], (*final.shape, len(transition)))  # to `final`, from any state
    kept = jnp.concatenate([jnp.where(inside[:, None, None], steps, restart[:-1]), restart[-1:]])
    join = lambda later, now: einsum('...ij,...jk->...ik', now, later)
    posterior = jax.lax.associative_scan(join, kept, reverse=True)[..., 0]
    return posterior, einsum('t,tij,tj->ij', inside.astype(final.dtype), steps, posterior[1:])


def _previous(transition: jax.Array, filtered: jax.Array, predicted: jax.Array) -> jax.Array:
    """Returns p(z_t | z_{t+1}, x_1..t), [..., K, K] with columns of sum 1, of what time t knows and predicts."""
    return jnp.exp(filtered[..., :, None] + jnp.log(transition) - _finite(predicted)[..., None, :])


def viterbi(model: Model, parameters: Parameters, x: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds the most probable path of states (Rabiner 1989, equations 32 to 35).

    Args:
      model, parameters: the model.
      x: sequences [B, T, D].
      lengths: int [B].

    Returns:
      Paths int32 [B, T], -1 at padding, and log p(path, x) in nats [B].
    """
    log_emission = _log_emission(model, parameters, x)
    return jax.vmap(partial(best_path, parameters))(log_emission, lengths)


def best_path(parameters: Parameters, log_emission: jax.Array, length: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds the most probable path of one sequence; see `viterbi` and, for the arguments, `forward`."""
    log_start, log_transition = jnp.log(parameters['start']), jnp.log(parameters['transition'])
    real = jnp.arange(len(log_emission)) < length

    def step(carry: tuple, time: tuple[jax.Array, jax.Array]) -> tuple[tuple, jax.Array]:
        best, shift = carry
        emission, inside = time
        arriving = best[:, None] + log_transition
        score = arriving.max(0) + emission
        top = _finite(score.max())  # kept separate, so that differences keep their digits
        moved = jnp.where(inside, score - top, best), shift + jnp.where(inside, top, 0)
        return moved, jnp.where(inside, arriving.argmax(0), jnp.arange(len(best))).astype(jnp.int32)

    start = log_start + log_emission[0], jnp.zeros((), log_emission.dtype)
    (best, shift), origins = jax.lax.scan(step, start, (log_emission[1:], real[1:]))
    last = best.argmax().astype(jnp.int32)
    _, before = jax.lax.scan(lambda state, origin: (origin[state], origin[state]), last, origins, reverse=True)
    path = jnp.concatenate([before, last[None]])
    return jnp.where(real, path, -1), jnp.where(length > 0, best.max() + shift, 0)


# Baum-Welch.


def sums(model: Model, parameters: Parameters, x: jax.Array, lengths: jax.Array) -> dict[str, Any]:
    """Does the E step on sequences x [B, T, D] with lengths [B], and sums over them.

    Returns:
      'sequences' [] and 'observations' [], their numbers; 'log_likelihood' []; 'start' [K]; 'transition' [K, K]; and
      'emission', its sums. Sums over parts of a data set add up.
    """
    found = smooth(model, parameters, x, lengths)
    flat = x.reshape(-1, x.shape[-1]), found.posterior.reshape(-1, model.states)
    return {
        'sequences': (lengths > 0).sum().astype(x.dtype),
        'observations': lengths.sum().astype(x.dtype),
        'log_likelihood': found.log_likelihood.sum(),
        'start': found.posterior[:, 0].sum(0),
        'transition': found.pairs.sum(0),
        'emission': model.emission.sums(parameters['emission'], *flat),
    }


def maximise(model: Model, parameters: Parameters, sums: dict[str, Any]) -> Parameters:
    """Does the M step (Bishop 2006, equations 13.18 to 13.20).

    Args:
      model: its settings.
      parameters: that the sums were made with.
      sums: sums over all sequences.
    """
    old, pairs = parameters['transition'], sums['transition']
    if model.stationary:
        transition = _stationary_transition(old, sums['start'], pairs)
        start = stationary(transition)
    else:
        transition = where_any(pairs.sum(-1), normalise(pairs), old)
        start = where_any(sums['sequences'], normalise(sums['start']), parameters['start'])
    emission = model.emission.maximise(parameters['emission'], sums['emission'])
    return {'start': start, 'transition': transition, 'emission': emission}


def stationary(transition: jax.Array) -> jax.Array:
    """Returns the stationary distribution [K] of a transition matrix [K, K] with one recurrent class.

    It solves d (I - G + U) = 1, where U is a matrix of ones (Zucchini and MacDonald 2009, chapter 1, exercise 8).
    """
    size = len(transition)
    matrix = jnp.eye(size, dtype=transition.dtype) - transition + 1
    return jnp.maximum(jnp.linalg.solve(matrix.T, jnp.ones(size, transition.dtype)), 0)  # rounded, 0 may be negative


def _stationary_transition(old: jax.Array, start: jax.Array, pairs: jax.Array) -> jax.Array:
    """Returns the transition matrix that maximises sum start log d(G) + sum pairs log G, d the stationary distribution.

    There is no closed form. At a maximum each row of G is proportional to pairs + G * gradient of the first sum, where
    a constant per row is free. It is chosen such that nothing is negative, and the equation is iterated (the growth
    transform of Gopalakrishnan et al. 1991). The best iterate, the old matrix included, is kept: the likelihood never
    falls.

    Args:
      old: the transition matrix of the E step [K, K].
      start: expected number of sequences that start in each state [K].
      pairs: expected numbers of transitions [K, K].
    """

    def of_start(transition: jax.Array) -> jax.Array:
        return xlogy(start, above_zero(stationary(transition))).sum()

    def value(transition: jax.Array) -> jax.Array:
        return of_start(transition) + xlogy(pairs, transition).sum()

    def step(_: jax.Array, carry: tuple) -> tuple:
        transition, best, highest = carry
        gradient = jax.grad(of_start)(transition)
        weight = pairs + transition * (gradient - gradient.min(-1, keepdims=True))
        transition = where_any(weight.sum(-1), normalise(weight), transition)
        reached = value(transition)
        better = reached > highest
        return transition, jnp.where(better, transition, best), jnp.where(better, reached, highest)

    return jax.lax.fori_loop(0, INNER, step, (old, old, value(old)))[1]


def fit(
    model: Model, parameters: Parameters, x: jax.Array, lengths: jax.Array, steps: int
) -> tuple[Parameters, jax.Array]:
    """Does Baum-Welch iterations on all sequences at once (Baum et al. 1970).

    Args:
      model, parameters: the model before the first iteration.
      x: sequences [B, T, D].
      lengths: int [B].
      steps: number of iterations.

    Returns:
      The parameters, and the log-likelihood of all sequences before each iteration, [steps]. It never falls.
    """

    def step(parameters: Parameters, _: None) -> tuple[Parameters, jax.Array]:
        found = sums(model, parameters, x, lengths)
        return maximise(model, parameters, found), found['log_likelihood']

    return jax.lax.scan(step, parameters, None, steps)


# Sampling, and the number of states.


def sample(model: Model, parameters: Parameters, key: jax.Array, times: int) -> tuple[jax.Array, jax.Array]:
    """Draws a sequence: states int [times] and observations [times, D]."""
    chain, own = jax.random.split(key)
    log_start, log_transition = jnp.log(parameters['start']), jnp.log(parameters['transition'])

    def step(logits: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = jax.random.categorical(key, logits)
        return log_transition[state], state

    _, states = jax.lax.scan(step, log_start, jax.random.split(chain, times))
    return states, model.emission.sample(parameters['emission'], own, states)


def cross_validate(
    make: Callable[[int], Model],
    key: jax.Array,
    x: jax.Array,
    lengths: jax.Array,
    states: Sequence[int],
    *,
    folds: int = 5,
    steps: int = 50,
) -> dict[int, float]:
    """Estimates for each number of states how well a model predicts sequences that it was not fitted to.

    Sequences are assigned to the folds at random. For each fold a model is fitted to the others; all folds are fitted
    together. One long sequence has to be cut before.

    Args:
      make: number of states -> model.
      key: key of the folds and the initial parameters.
      x: sequences [B, T, D].
      lengths: int [B].
      states: the numbers of states to compare.
      folds: at most B.
      steps: Baum-Welch iterations per model.

    Returns:
      Number of states -> held-out log-likelihood in nats per observation. Choose the highest.

    Raises:
      ValueError: there are fewer sequences than folds, or fewer than two folds.
    """
    if not 2 <= folds <= len(x):
        raise ValueError(f'folds={folds} of {len(x)} sequences: choose 2 to {len(x)}; cut a long sequence into parts')
    assigned = jax.random.permutation(jax.random.fold_in(key, 0), jnp.arange(len(x)) % folds)
    found = {}
    for number in states:
        model = make(number)

        def held_out(fold: jax.Array, model: Model = model) -> jax.Array:
            inside, outside = jnp.where(assigned == fold, 0, lengths), jnp.where(assigned == fold, lengths, 0)
            parameters = initialise(model, jax.random.fold_in(key, 1), x, inside)
            return log_likelihood(model, fit(model, parameters, x, inside, steps)[0], x, outside).sum()

        found[number] = float(jax.jit(jax.vmap(held_out))(jnp.arange(folds)).sum() / lengths.sum())
    return found


def _log_sum(values: jax.Array) -> jax.Array:
    """Returns log sum exp over the first axis; -inf where all values are. Faster than logsumexp inside of a scan."""
    top = _finite(values.max(0))
    return top + jnp.log(jnp.exp(values - top[None] if values.ndim > 1 else values - top).sum(0))


def _finite(values: jax.Array) -> jax.Array:
    """Replaces -inf by 0: what is subtracted from -inf must be finite."""
    return jnp.where(values == -jnp.inf, 0, values)
