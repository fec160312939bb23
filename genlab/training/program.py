"""What a phase compiles: data preparation, the experiment's steps and the sums of metrics, as one function.

The loop runs it, `--mode=plan` compiles it for devices that are not here, `--mode=describe` only takes its shapes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genlab import data
from genlab.config import phases
from genlab.errors import ConfigError
from genlab.experiment import Build, Experiment
from genlab.training import parallel, totals
from genlab.training.players import example_keys
from genlab.training.state import State


class Program(NamedTuple):
    """One phase of a run, ready to compile."""

    end: int  # the step at which it is over
    config: ConfigDict
    experiment: Experiment
    batches: data.Batches
    prepare: Callable  # (batch, keys [B]) -> batch; runs inside the step

    @property
    def calls(self) -> tuple[int, int]:
        """The steps of a call, and the batches of a step."""
        return self.config.train.steps_per_call, self.experiment.batches


def programs(config: ConfigDict, build: Build, placement: parallel.Placement, source: data.Source) -> list[Program]:
    """The phases of a config over one data source."""
    check(config, placement)
    return [
        Program(
            end,
            phase,
            build(phase, placement.axis),
            data.Batches(source, phase.data.batch_size, phase.seed),
            data.prepare_batch(phase.data, source, train=True),
        )
        for end, phase in phases(config)
    ]


def check(config: ConfigDict, placement: parallel.Placement) -> None:
    """Raises where the numbers of a config do not fit together."""
    train = config.train
    if train.on_nan not in ('stop', 'skip'):
        raise ConfigError(f"config.train.on_nan={train.on_nan!r}: choose 'stop' or 'skip'")
    if set(config.losses) != set(config.optimizer):
        raise ConfigError(
            f'config.losses has players {", ".join(config.losses)}, but config.optimizer has '
            f'{", ".join(config.optimizer)}: give each player both'
        )
    for end, phase in phases(config):
        if end % phase.train.steps_per_call:
            raise ConfigError(
                f'config.train.steps={end} is not a multiple of config.train.steps_per_call='
                f'{phase.train.steps_per_call}: change one of them'
            )
        parallel.process_rows(phase.data.batch_size, placement.devices, phase.train.microbatches)


def make_init(program: Program) -> Callable[[], State]:
    """A function that makes the state before the first step, of the first 64 examples and the seed."""
    rows = slice(0, min(program.config.data.batch_size, 64))
    batch = jax.tree.map(lambda leaf: leaf[0], program.batches(0, 1, rows))
    data.check(program.batches.source, batch)

    def init():
        data_key, key = jax.random.split(jax.random.key(program.config.seed))
        return program.experiment.init(program.prepare(batch, example_keys(data_key, batch['position'])), key)

    return init


def make_call(program: Program) -> Callable:
    """`(carry, batches, constants) -> carry`: `steps_per_call` steps.

    carry is (state, totals); batches have leaves [steps, turns, B, ...]; constants are (key data, resident set or None). With a
    resident set the batches hold `index` and `position` alone, and the examples are taken on the device."""

    def one(carry, batches, constants):
        key_data, resident = constants
        data_key, step_key = jax.random.split(jax.random.wrap_key_data(key_data))
        if resident is not None:
            batches = {
                **jax.tree.map(lambda values: values[batches['index']], resident),
                'position': batches['position'],
            }
        batches = _prepare_turns(program.prepare, batches, jax.random.fold_in(data_key, carry[0].step))
        return totals.accumulate(program.experiment.step)(carry, batches, step_key)

    def call(carry, batches, constants):
        if program.config.train.steps_per_call == 1:  # a loop of one would only cost: XLA's CPU loops run fewer threads
            return one(carry, jax.tree.map(lambda leaf: leaf[0], batches), constants)
        return jax.lax.scan(lambda carry, batches: (one(carry, batches, constants), None), carry, batches)[0]

    return call


def make_constants(program: Program):
    """(the key's data, the resident set or None): host arrays."""
    source, key = program.batches.source, jax.random.key_data(jax.random.key(program.config.seed))
    resident = source.rows(np.arange(len(source))) if program.config.data.resident else None
    return np.asarray(key), resident


def load(program: Program, first: int, count: int, rows: slice) -> dict[str, np.ndarray]:
    """This process's rows of `count` batches from `first` on, leaves [count, b, ...]: what a call takes before `put`."""
    if program.config.data.resident:
        index = program.batches.indices(first, count)[:, rows].astype(np.int32)
        position = np.arange(program.config.data.batch_size, dtype=np.int32)[rows]
        return {'index': index, 'position': np.broadcast_to(position, index.shape)}
    return program.batches(first, count, rows)


def fold(program: Program, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """[steps * turns, b, ...] -> [steps, turns, b, ...]"""
    return jax.tree.map(lambda leaf: leaf.reshape(*program.calls, *leaf.shape[1:]), batch)


def metric_names(program: Program, axis: str | None, state: State) -> list[str]:
    """The metrics of a step, found without running it. Raises if a loss weighs a term that is not offered."""

    def step(state, batch):
        batches = jax.tree.map(lambda leaf: jnp.stack([leaf] * program.experiment.batches), batch)
        key = jax.random.key(0)
        return program.experiment.step(state, _prepare_turns(program.prepare, batches, key), key)[1]

    batch = jax.tree.map(lambda leaf: leaf[0], program.batches(0, 1, slice(0, program.config.train.microbatches * 2)))
    if axis:  # the mean over devices needs its axis, here one of length 1
        step, batch = jax.vmap(step, (None, 0), 0, axis_name=axis), jax.tree.map(lambda leaf: leaf[None], batch)
    return list(jax.eval_shape(step, state, batch))


def _prepare_turns(prepare: Callable, batches, key: jax.Array):
    """Prepares batches with leaves [turns, B, ...], each example of each turn with a key of its own."""

    def one(turn, batch):
        return prepare(batch, example_keys(jax.random.fold_in(key, turn), batch['position']))

    turns = [one(turn, jax.tree.map(lambda leaf: leaf[turn], batches)) for turn in range(batches['position'].shape[0])]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *turns)
