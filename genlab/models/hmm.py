"""Hidden Markov models of sequences: Baum-Welch as a training step, samples, posteriors of states, exact likelihoods.

The algebra is in `genlab.classical.hmm` and `emissions`. The network `hmm` has the parameters; no gradient moves them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.classical import hmm
from genlab.classical.emissions import EMISSIONS
from genlab.conditioning import Condition
from genlab.config import counted
from genlab.data.source import Source
from genlab.errors import ConfigError, warn
from genlab.training.state import State


def settings(emission: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of a hidden Markov model, with changes."""
    return choices.filled(
        'config.model',
        dict(
            emission=emission,  # named: an entry of genlab.classical.emissions.EMISSIONS
            states=3,
            stationary=False,  # whether sequences start in the stationary distribution of the chain; else free
            parallel=False,  # scan in time as a tree: faster on accelerators for long sequences, slower on a CPU
            time_steps=counted('auto'),  # length of a sample: the longest sequence of the data
        ),
        changes,
    )


class HiddenMarkov(NamedTuple):
    """A model and how it is trained and sampled."""

    model: hmm.Model
    time_steps: int  # length of a sample
    microbatches: int  # parts of a batch in the E step
    axis: str | None = None  # mapped axis of the devices


def from_config(config: ConfigDict, axis: str | None) -> HiddenMarkov:
    """Returns the model of a config; see `settings`.

    Raises:
      ConfigError: the emission is unknown, or `config.model.dtype` is not float32.
    """
    model = config.model
    if model.dtype != 'float32':
        raise ConfigError(f'config.model.dtype={model.dtype!r}: sums over sequences need float32')
    emission = choices.bind(EMISSIONS, model.emission, 'config.model.emission')(model.states)
    chain = hmm.Model(model.states, emission, model.stationary, model.parallel)
    return HiddenMarkov(chain, model.time_steps, config.train.microbatches, axis)


def init(hidden: HiddenMarkov, batch: Batch, key: jax.Array) -> State:
    """Returns the state before the first step, with random parameters that suit the batch."""
    parameters = hmm.initialise(hidden.model, key, batch['x'], batch['length'])
    return State(jnp.zeros((), jnp.int32), {'hmm': parameters}, {'hmm': {}}, {}, {})


def start(state: State, source: Source, placement: Any, *, batch_size: int) -> State:
    """Warns if a batch is not a multiple of the whole training set; returns the state."""
    count = len(source)
    if batch_size % count and jax.process_index() == 0:
        warn(
            f'config.data.batch_size={batch_size} of {count} sequences: each iteration fits the sequences of its batch '
            f'alone: set it to a multiple of {count}; config.train.microbatches bounds the memory'
        )
    return state


def step(hidden: HiddenMarkov, state: State, batches: Batch, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
    """Does one Baum-Welch iteration over the batch of all devices.

    Returns:
      The state, and the negative log-likelihood before the iteration in nats: per sequence, and per time.
    """
    parameters = state.params['hmm']
    found = _sums(hidden, parameters, batches['x'][0], batches['length'][0])
    found = jax.lax.psum(found, hidden.axis) if hidden.axis else found
    metrics = {
        'hmm/nll': -found['log_likelihood'] / found['sequences'],
        'hmm/nll_per_time': -found['log_likelihood'] / found['observations'],
    }
    fitted = hmm.maximise(hidden.model, parameters, found)
    return state.replace(step=state.step + 1, params={'hmm': fitted}), metrics


def _sums(hidden: HiddenMarkov, parameters: hmm.Parameters, x: jax.Array, lengths: jax.Array) -> dict[str, Any]:
    """Does the E step on x [B, T, D] and lengths [B], in microbatches one after another."""
    parts = hidden.microbatches
    if parts == 1:
        return hmm.sums(hidden.model, parameters, x, lengths)

    def split(leaf: jax.Array) -> jax.Array:  # part j has examples j, j + parts, ...: sharded batches stay
        return leaf.reshape(len(leaf) // parts, parts, *leaf.shape[1:]).swapaxes(0, 1)

    def one(part: tuple[jax.Array, jax.Array]) -> dict[str, Any]:
        return hmm.sums(hidden.model, parameters, *part)

    rows = split(x), split(lengths)
    shapes = jax.eval_shape(one, jax.tree.map(lambda leaf: leaf[0], rows))
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, one(part)), None), zero, rows)[0]


def sample(hidden: HiddenMarkov, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Draws sequences of the length of the longest in the data: [N, T, D]."""
    parameters = variables['hmm']['params']
    return jax.vmap(lambda key: hmm.sample(hidden.model, parameters, key, hidden.time_steps)[1])(keys)


def encode(hidden: HiddenMarkov, variables: Variables, batch: Batch) -> jax.Array:
    """Returns the posterior of the states at every time: [B, T, K], 0 at padding."""
    return hmm.smooth(hidden.model, variables['hmm']['params'], batch['x'], batch['length']).posterior


def path(hidden: HiddenMarkov, variables: Variables, batch: Batch) -> jax.Array:
    """Returns the most probable path of states: int32 [B, T], -1 at padding."""
    return hmm.viterbi(hidden.model, variables['hmm']['params'], batch['x'], batch['length'])[0]


def decode(hidden: HiddenMarkov, variables: Variables, codes: jax.Array) -> jax.Array:
    """Returns the expected observations of probabilities of the states [B, T, K]: [B, T, D]."""
    return codes @ hidden.model.emission.mean(variables['hmm']['params']['emission'])


def exact(hidden: HiddenMarkov, variables: Variables, batch: Batch, keys: jax.Array) -> jax.Array:
    """Returns the exact log-likelihood of sequences, [B] in nats."""
    return hmm.log_likelihood(hidden.model, variables['hmm']['params'], batch['x'], batch['length'])


def measure(hidden: HiddenMarkov, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Returns `nll` of counts and symbols, or `negative_log_density`, per sequence and per time: [B] in nats."""
    name = 'nll' if hidden.model.emission.discrete else 'negative_log_density'
    nats = -exact(hidden, variables, batch, keys)
    return {name: nats, f'{name}_per_time': nats / batch['length']}
