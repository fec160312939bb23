"""What a phase compiles: data preparation, the experiment's steps and the sums of metrics, as one function.

The loop runs it, `--mode=plan` compiles it for devices that are not here, `--mode=describe` only takes its shapes."""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genlab import conditioning, data
from genlab.config import Phase, at, periods, phases
from genlab.data.batches import gathered
from genlab.data.load import SPLITS
from genlab.errors import ConfigError, choose
from genlab.evaluation.evaluators import PARTS
from genlab.evaluation.features.extractors import KINDS
from genlab.evaluation.metrics.codes import METHODS
from genlab.experiment import Build, Experiment
from genlab.noise import fold_in
from genlab.run.better import BETTER
from genlab.sampling import rejection
from genlab.training import parallel, totals
from genlab.training.players import example_keys
from genlab.training.state import State, all_finite


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """One phase of a run, ready to compile."""

    start: int  # its first step
    end: int  # the step after its last one
    config: ConfigDict
    experiment: Experiment
    batches: data.Batches
    prepare: Callable  # (batch, keys [B]) -> batch; runs inside the step
    restart: tuple[str, ...] = ()  # players whose optimizers restart with the phase
    _steps: dict = dataclasses.field(default_factory=dict, init=False, repr=False)

    @property
    def calls(self) -> tuple[int, int]:
        """The steps per call, and the batches per step."""
        return self.config.train.steps_per_call, self.experiment.batches

    def step(self, due: 'Due') -> Callable:
        """Returns the experiment's step with these lazy terms: always the same object, so it is traced once."""
        if due not in self._steps:
            self._steps[due] = jax.jit(_step(self, due), inline=True)
        return self._steps[due]


Due = frozenset[str]  # the lazy terms, 'player/term', that a step computes
Pattern = tuple[Due, ...]  # those of each step of a call


def programs(
    config: ConfigDict,
    build: Build,
    placement: parallel.Placement,
    declared: bool = False,
    sources: dict[str, data.Source] | None = None,
) -> list[Program]:
    """Returns one program per phase.

    Settings of the model that are facts of the data, and are left to it, come from the training set.

    Args:
      config: the config of the run.
      build: build function of its experiment.
      placement: where the programs run.
      declared: whether only shapes matter: the training set is declared instead of loaded, and facts that need its
        examples count as 1.
      sources: data that other programs have loaded already. Data that are loaded here are added.

    Raises:
      ConfigError: numbers of the config do not fit together, or do not fit the data.
    """
    schedule = [*phases(config)]
    check(config, schedule, placement)
    load = data.declared if declared else data.load
    sources = {} if sources is None else sources

    def source(of: ConfigDict) -> data.Source:  # one for phases that differ in batches and random transforms alone
        key = repr(sorted((name, value) for name, value in of.items() if name not in data.BATCHING))
        if key not in sources:
            sources[key] = load(of)
        return sources[key]

    def program(phase: Phase) -> Program:
        of = phase.config.data
        data.resolve(phase.config, source(of), measure=not declared)
        with _sizes():
            experiment = build(phase.config, placement.axis)
        rejection.check(phase.config, experiment)
        conditioning.check(experiment.conditions, source(of))
        return Program(
            phase.start,
            phase.end,
            phase.config,
            experiment,
            data.Batches(source(of), of.batch_size, phase.config.seed),
            data.prepare_batch(of, source(of), train=True),
            restart=phase.restart,
        )

    return [program(phase) for phase in schedule]


def declared(config: ConfigDict, build: Build, sources: dict[str, data.Source] | None = None) -> list[Program]:
    """Returns the programs of a config for one device, of which only shapes matter. No example is read.

    Args:
      config: of a run. It stays as it is.
      build: of its experiment.
      sources: see `programs`.

    Raises:
      ConfigError: a choice is unknown or has no such option, or numbers of the config do not fit together.
    """
    placement = parallel.place(config.placement, jax.devices()[:1])
    return programs(config.copy_and_resolve_references(), build, placement, declared=True, sources=sources)


def check_first_step(schedule: Sequence[Program], first: State | None = None) -> None:
    """Raises where training would be refused at its first step, after all that `programs` checks. Compiles nothing.

    Args:
      schedule: of `declared`.
      first: the shapes of the first state, where they are known.

    Raises:
      ConfigError: a network refuses its sizes, a phase changes the tree of the state, the config names an average of an
        unknown network, or weighs a term that is not offered.
    """
    states = [first or outline(make_init(schedule[0])), *(outline(make_init(program)) for program in schedule[1:])]
    _check_states(states)
    for program, state in zip(schedule, states):
        if check := program.experiment.check:

            def offered(state, batch, keys, program=program, check=check):
                check(state, program.prepare(batch, keys), keys)

            size = program.config.data.batch_size
            keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size))
            jax.eval_shape(offered, state, batch_shapes(program), keys)


def check_states(schedule: Sequence[Program]) -> None:
    """Raises ConfigError if a phase changes the tree of the state, or the shape of a leaf."""
    if len(schedule) > 1:
        _check_states([outline(make_init(program)) for program in schedule])


def _check_states(states: Sequence[State]) -> None:
    """Raises where the states of the phases differ."""
    first, *later = states
    for number, state in enumerate(later, 1):
        _expect_same(first, state, f'config.phases[{number}]')


def _expect_same(first: State, other: State, where: str) -> None:
    """Raises ConfigError if the states of two phases differ in a leaf or a shape."""

    def leaves(state):
        return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(state)}

    one, two = leaves(first), leaves(other)
    for path in sorted({*one} ^ {*two}):
        raise ConfigError(
            f'{where}: the state {"gains" if path in two else "loses"} {path}: keep networks and optimizers'
        )
    for path, leaf in one.items():
        if (leaf.shape, leaf.dtype) != (two[path].shape, two[path].dtype):
            raise ConfigError(f'{where}: state{path} changes from {leaf.shape} to {two[path].shape}: keep its shape')


# Whole numbers of a config and the least value that each may have.
LEAST = {
    'seed': 0,
    'data.batch_size': 1,
    'data.resolution': 1,
    'data.workers': 0,
    'train.steps': 1,
    'train.steps_per_call': 1,
    'train.microbatches': 1,
    'train.log_every': 1,
    'sample.count': 1,
    'sample.chunk': 1,
    'sample.steps': 1,
    'sample.candidates': 1,
    'evaluate.count': 1,
    'evaluate.seed': 0,
    'train.heartbeat': 1,
    'evaluate.reference_count': 1,
    'evaluate.importance': 0,
    'evaluate.importance_chunk': 1,
    'evaluate.exact': 0,
    'evaluate.annealed': 0,
    'evaluate.temperatures': 1,
    'explore.pairs': 1,
    'explore.steps': 2,
    'explore.dimensions': 1,
    'explore.examples': 1,
    'explore.inversions': 0,
    'explore.inversion_steps': 0,
    'checkpoint.every': 0,
    'checkpoint.keep': 1,
}
SEEDS = 2**32  # larger seeds would be cut off
SIZES = ('latent_size', 'features', 'heads', 'states', 'components')  # sizes of a model, at any depth
DTYPES = dict.fromkeys(('float32', 'bfloat16', 'float16'))  # that networks may compute in


# Names of a config that are looked up only when training is over, and what they may be.
NAMES: dict[str, Mapping] = {
    'evaluate.parts': PARTS,
    'evaluate.maps': METHODS,
    'evaluate.features': dict.fromkeys(KINDS),
    'evaluate.reference': dict.fromkeys(SPLITS),
}


def check(config: ConfigDict, schedule: Sequence[Phase], placement: parallel.Placement) -> None:
    """Raises ConfigError if a number of a config is out of its range, or if numbers contradict each other."""
    train = config.train
    for of in (config, *(phase.config for phase in schedule)):
        _check_values(of)
    if train.on_nan not in ('stop', 'skip'):
        raise ConfigError(f"config.train.on_nan={train.on_nan!r}: choose 'stop' or 'skip'")
    if set(config.losses) != set(config.optimizer):
        raise ConfigError(
            f'config.losses has players {", ".join(config.losses)}, but config.optimizer has '
            f'{", ".join(config.optimizer)}: give each player both'
        )
    if best := config.checkpoint.best:
        choose(BETTER, best, 'config.checkpoint.best')
        if not any(of.train.evaluate_every for of in (config, *(phase.config for phase in schedule))):
            raise ConfigError(
                f'config.checkpoint.best={best!r} needs evaluations in training: set config.train.evaluate_every'
            )
    for player in train.order:
        choose(config.losses, player, 'config.train.order')
    for phase in schedule:
        steps = phase.config.train.steps_per_call
        if phase.end % steps:
            raise ConfigError(
                f'config.train.steps={phase.end} is not a multiple of config.train.steps_per_call={steps}: '
                'change one of them'
            )
        for term, every in periods(phase.config).items():
            if every % steps:
                raise ConfigError(
                    f'config.losses.{term.replace("/", ".")}.every={every} is not a multiple of '
                    f'config.train.steps_per_call={steps}: change one of them'
                )
        parallel.process_rows(phase.config.data.batch_size, placement.parts, phase.config.train.microbatches)


def _check_values(config: ConfigDict) -> None:
    """Raises ConfigError if a single value of the config is out of its range."""
    for key, least in LEAST.items():
        value = at(config, key)
        if value is not None and (not isinstance(value, int) or value < least):
            raise ConfigError(f'config.{key}={value!r}: give a whole number, at least {least}')
    for key in ('seed', 'evaluate.seed'):
        if at(config, key) >= SEEDS:
            raise ConfigError(f'config.{key}={at(config, key)}: give a number below {SEEDS}')
    for key in ('train.sample_every', 'train.evaluate_every'):
        value = at(config, key)
        if value != 'end' and (not isinstance(value, int) or value < 0):
            raise ConfigError(f"config.{key}={value!r}: give a number of steps, 'end', or 0")
    if not config.explore.reach > 0:
        raise ConfigError(f'config.explore.reach={config.explore.reach}: give a number above 0')
    for part in ('losses', 'optimizer'):
        for player, value in config[part].items():
            if not isinstance(value, ConfigDict):
                raise ConfigError(f'config.{part}.{player}={value!r}: give names and values')
    _check_sizes(config.model)
    choose(DTYPES, config.model.dtype, 'config.model.dtype')
    for key, known in NAMES.items():
        value = at(config, key)
        for name in value if isinstance(value, tuple) else (value,):
            choose(known, name, f'config.{key}')


def _check_sizes(model: ConfigDict, where: str = 'config.model') -> None:
    """Raises ConfigError if a size of the model, at any depth, is not a whole number of at least 1."""
    for key, value in model.items():
        if isinstance(value, ConfigDict):
            _check_sizes(value, f'{where}.{key}')
        elif key in SIZES and not all(
            isinstance(size, int) and size >= 1 for size in (value if isinstance(value, tuple) else (value,))
        ):
            raise ConfigError(f'{where}.{key}={value!r}: give whole numbers, at least 1')


def make_init(program: Program) -> Callable[[], State]:
    """Returns a function that makes the state before the first step from the first 64 examples and the seed."""
    rows = slice(0, min(program.config.data.batch_size, 64))
    batch = jax.tree.map(lambda leaf: leaf[0], program.batches(0, 1, rows))
    data.check(program.batches.source, batch)

    def init():
        data_key, key = jax.random.split(jax.random.key(program.config.seed))
        return program.experiment.init(program.prepare(batch, example_keys(data_key, batch['position'])), key)

    return init


def outline(init: Callable[[], State]) -> State:
    """Returns the shapes of the state before the first step, given the function of `make_init`.

    Raises:
      ConfigError: a network refuses its sizes, such as a resolution that is not a power of two.
    """
    with _sizes():
        return jax.eval_shape(init)


@contextlib.contextmanager
def _sizes():
    """Turns the error of a network that refuses its sizes into a ConfigError."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f'config.model or config.data: {" ".join(str(error).split())}') from error


def restart(program: Program, state: State) -> State:
    """Returns the state at the start of a phase: the optimizers of `program.restart` forget their moments."""
    if not program.restart:
        return state
    init = make_init(program)
    fresh = jax.jit(
        lambda: {player: init().optimizer[player] for player in program.restart},
        out_shardings={
            player: jax.tree.map(lambda leaf: leaf.sharding, state.optimizer[player]) for player in program.restart
        },
    )()
    return state.replace(optimizer={**state.optimizer, **fresh})


def pattern(program: Program, first: int) -> Pattern:
    """Returns the lazy terms that each step of the call from step `first` on computes."""
    lazy = program.experiment.lazy.items()
    return tuple(
        frozenset(term for term, every in lazy if step % every == 0)
        for step in range(first, first + program.config.train.steps_per_call)
    )


def patterns(program: Program, first: int) -> list[Pattern]:
    """Returns the distinct patterns of the phase's calls from step `first` on, in order of appearance."""
    period = math.lcm(*program.experiment.lazy.values(), program.config.train.steps_per_call)
    last = min(program.end, first + period)
    return [*dict.fromkeys(pattern(program, step) for step in range(first, last, program.config.train.steps_per_call))]


def make_call(program: Program, due: Pattern | None = None) -> Callable:
    """Returns `(carry, batches, constants) -> carry`: the `steps_per_call` steps of one call.

    carry is (state, totals); batches have leaves [steps, turns, B, ...]; constants are (key data, resident set or
    None). With a resident set, `Batches.numbered` gives the batches, and the examples are gathered on the device.

    Args:
      program: the phase.
      due: the lazy terms of each step; None for those of a call from step 0 on.
    """
    due = pattern(program, 0) if due is None else due

    def one(carry, batches, constants, due):
        key_data, resident = constants
        if resident is not None:
            batches = gathered(resident, batches)
        return totals.accumulate(functools.partial(take_step, program, due))(carry, batches, key_data)

    def call(carry, batches, constants):
        first = 0
        for now, run in itertools.groupby(due):
            count = len([*run])
            part = jax.tree.map(lambda leaf: leaf[first : first + count], batches)
            if count == 1:  # a loop of one would only cost: XLA's CPU loops run fewer threads
                carry = one(carry, jax.tree.map(lambda leaf: leaf[0], part), constants, now)
            else:
                carry = jax.lax.scan(lambda carry, batch: (one(carry, batch, constants, now), None), carry, part)[0]
            first += count
        return carry

    return call


def take_step(program: Program, due: Due, state: State, batches, key_data: jax.Array) -> tuple[State, dict]:
    """Prepares batches with leaves [turns, B, ...] and takes one training step; returns the state and the metrics.

    Args:
      program: the phase.
      due: the lazy terms that the step computes.
      state: before the step.
      batches: as they are read.
      key_data: data of the seed's key.
    """
    data_key, step_key = jax.random.split(jax.random.wrap_key_data(key_data))
    batches = _prepare_turns(program.prepare, batches, fold_in(data_key, state.step))
    return program.step(due)(state, batches, step_key)


def _step(program: Program, due: Due) -> Callable:
    """Returns the experiment's step with these lazy terms.

    Players count the updates that they skip. With on_nan='skip', any other step is skipped as a whole if a metric or
    the new state is not finite. The metric `any_skipped` is 1 for a step that skipped an update, else 0."""
    experiment = program.experiment
    step: Callable = experiment.step
    if experiment.lazy:
        step = functools.partial(step, due=due)
    if program.config.train.on_nan != 'skip':
        return step

    def guarded(state, batches, key):
        after, metrics = step(state, batches, key)
        if 'skipped' in metrics:
            return after, {**metrics, 'any_skipped': (metrics['skipped'] > 0).astype(jnp.float32)}
        finite = all_finite((after, metrics))
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
        skipped = 1 - finite.astype(jnp.float32)
        return kept.replace(step=after.step), {**metrics, 'skipped': skipped, 'any_skipped': skipped}

    return guarded


def make_constants(program: Program):
    """Returns (the key's data, the resident set or None), host arrays."""
    return make_key(program), program.batches.whole() if program.config.data.resident else None


def make_key(program: Program) -> np.ndarray:
    """Returns the data of the seed's key, a host array."""
    return np.asarray(jax.random.key_data(jax.random.key(program.config.seed)))


def load(program: Program, first: int, count: int, rows: slice) -> dict[str, Any]:
    """Loads this process's rows of `count` batches from `first` on, leaves [count, b, ...], for `fold` and `put`."""
    if program.config.data.resident:
        return program.batches.numbered(first, count, rows)
    return program.batches(first, count, rows)


def fold(program: Program, batch: dict[str, Any]) -> dict[str, Any]:
    """Splits the first axis: [steps * turns, b, ...] -> [steps, turns, b, ...]."""
    return jax.tree.map(lambda leaf: leaf.reshape(*program.calls, *leaf.shape[1:]), batch)


def metric_names(program: Program, placement: parallel.Placement, state: State) -> list[str]:
    """Returns the metrics of a step, found without running it. Raises if a loss has a weight for an unknown term.

    Shapes and shardings are those of a compiled call, so `make_call` finds the step traced already."""
    due = frozenset(program.experiment.lazy)  # all of them: a metric that is missing from a step is not counted

    def step(state, batches, key_data):
        key = jax.random.wrap_key_data(key_data)
        batches = jax.tree.map(lambda leaf: leaf[0], batches)
        return program.step(due)(state, _prepare_turns(program.prepare, batches, key), key)[1]

    batches = batch_shapes(program, 1, program.experiment.batches)
    return list(placement.outline(step, state, batches, make_key(program)))


def batch_shapes(program: Program, *axes: int) -> dict[str, Any]:
    """Returns the shapes and types of batches as they are read: leaves [*axes, B, ...]."""
    size, row = program.config.data.batch_size, program.batches(0, 1, slice(0, 1))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*axes, size, *leaf.shape[2:]), leaf.dtype), row)


def _prepare_turns(prepare: Callable, batches, key: jax.Array):
    """Prepares batches with leaves [turns, B, ...], each example of each turn with a key of its own."""

    def one(turn, batch):
        return prepare(batch, example_keys(fold_in(key, turn), batch['position']))

    turns = [one(turn, jax.tree.map(lambda leaf: leaf[turn], batches)) for turn in range(batches['position'].shape[0])]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *turns)
