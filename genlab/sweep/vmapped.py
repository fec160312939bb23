"""Trains several trials of a sweep as one program, by `jax.vmap` over their states.

    python -m genlab.sweep.vmapped --config=FILE --workdir=FOLDER --trials={"id": {"seed": 1}, ...} [--config.key=value]

FOLDER is <sweep>/vmapped/<name>. The trials are trained there by the loop of any run: their states are stacked into one
state, and one step trains all of them. At the end each trial gets its part as a run in <sweep>/<id>. Ordinary training
then has no step to do: it draws samples, evaluates and reports.

Trials may differ in what enters their program as a number: seeds, rates, weights (`genlab.training.lockstep`).
"""

import argparse
import contextlib
import functools
import json
import math
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from genlab import data, experiment, main, modes
from genlab.config import at
from genlab.errors import ConfigError, UserError, warn
from genlab.experiment import Build, Experiment
from genlab.run import restarts, sinks, stops, workdir
from genlab.run.files import lock, path_of, write_json
from genlab.run.logs import MetricLog, read_metrics
from genlab.run.platform import set_up_jax
from genlab.run.sinks import TensorBoard
from genlab.sweep import groups, spec, trials
from genlab.training import lockstep, loop, parallel
from genlab.training.checkpoint import Checkpoints
from genlab.training.program import Due, Program, batch_shapes, declared, make_init, make_key, programs, take_step
from genlab.training.state import State, all_finite

SHARED = ('experiment', 'placement', 'tensor', 'data', 'train', 'phases', 'checkpoint')  # what the loop itself reads
STOPPED = 'vmapped'  # the network whose statistics say which trials have stopped

Overrides = Mapping[str, Any]


class Batches(data.Batches):
    """The batches of several trials, one after the other along the rows. Trials with one seed share theirs."""

    _parts: tuple[data.Batches, ...]

    def __init__(self, parts: Sequence[data.Batches]):
        super().__init__(parts[0].source, sum(part.batch_size for part in parts), parts[0].seed)
        object.__setattr__(self, '_parts', tuple(parts))  # the class is frozen

    def __call__(self, first: int, count: int = 1, rows: slice = slice(None)) -> dict[str, np.ndarray]:
        return self._joined(lambda part: part(first, count), rows)

    def numbered(self, first: int, count: int = 1, rows: slice = slice(None)) -> dict[str, Any]:
        return self._joined(lambda part: part.numbered(first, count), rows)

    def _joined(self, read: Callable[[data.Batches], Any], rows: slice) -> Any:
        found = {part.seed: part for part in self._parts}
        read_once = {seed: read(part) for seed, part in found.items()}
        every = [read_once[part.seed] for part in self._parts]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1)[:, rows], *every)


def joined(parts: Sequence[Program]) -> Program:
    """Returns one phase that trains the trials of several programs. The metrics of trial k are named `k/...`.

    Its state is a State with stacked leaves. A trial whose numbers are not finite keeps its last state from then on,
    unless it skips such updates itself; the others go on.
    """
    first = parts[0]
    _check_start(first)
    config = first.config.copy_and_resolve_references()
    config.data.batch_size *= len(parts)
    with config.ignore_type():  # the finished runs are sampled and evaluated, and enter wandb
        config.train.update(on_nan='skip', sample_every=0, evaluate_every=0, wandb='')
    step = functools.partial(_step, parts)
    return Program(
        first.start,
        first.end,
        config,
        Experiment(
            functools.partial(_init, parts),
            step if first.experiment.lazy else functools.partial(step, due=frozenset()),
            batches=first.experiment.batches,
            lazy=first.experiment.lazy,
        ),
        Batches([part.batches for part in parts]),
        lambda batch, keys: batch,  # each trial prepares its own
        restart=first.restart,
    )


def _check_start(program: Program) -> None:
    """Raises ConfigError where the first state is completed on the host, trial by trial."""
    if program.experiment.start:
        raise ConfigError(
            f'--vmap: config.experiment={program.config.experiment!r} completes its first state from the data: run it '
            'without --vmap'
        )


def _init(parts: Sequence[Program], batch, key: jax.Array) -> State:
    """Returns the stacked state before the first step. Each trial uses its own batch and keys."""
    del batch, key
    state = lockstep.join([functools.partial(_one_init, part) for part in parts], (), ())
    stopped = {STOPPED: {'trials': {'step': jnp.full(len(parts), -1, jnp.int32)}}}
    return state.replace(step=jnp.zeros((), jnp.int32), stats={**state.stats, **stopped})


def _one_init(program: Program, shared, own) -> State:
    del shared, own
    return make_init(program)()


def _step(parts: Sequence[Program], state: State, batches, key: jax.Array, due: Due):
    """Takes a step of all trials. Each trial uses its own keys."""
    del key
    count, step = len(parts), state.step
    stopped = state.stats[STOPPED]['trials']['step']
    stats = {network: collections for network, collections in state.stats.items() if network != STOPPED}

    def split(leaf):  # [turns, K * B, ...] -> [K, turns, B, ...]
        return leaf.reshape(leaf.shape[0], count, -1, *leaf.shape[2:]).swapaxes(0, 1)

    own = (state.params, stats, state.optimizer, state.average), jax.tree.map(split, batches), stopped
    functions = [functools.partial(_one_step, part, due) for part in parts]
    (params, stats, optimizer, average), metrics, stopped = lockstep.join(functions, step, own)
    stats = {**stats, STOPPED: {'trials': {'step': stopped}}}
    rows = {f'{k}/{name}': values[k] for name, values in metrics.items() for k in range(count)}
    rows['skipped'] = jnp.zeros(())  # the loop does not end: a trial that has stopped leaves the others alone
    return State(step + 1, params, stats, optimizer, average), rows


def _one_step(program: Program, due: Due, step: jax.Array, own):
    """Takes a step of one trial, unless it has stopped: then its metrics are NaN."""
    parts, batches, stopped = own
    key_data = jax.random.key_data(jax.random.key(program.config.seed))  # a number of the program, as all settings
    after, metrics = take_step(program, due, State(step, *parts), batches, key_data)
    new = after.params, after.stats, after.optimizer, after.average
    if program.config.train.on_nan == 'skip':
        return new, metrics, stopped
    stopped = jnp.where((stopped < 0) & ~all_finite((new, metrics)), step, stopped)
    going = stopped < 0
    new = jax.tree.map(lambda after, before: jnp.where(going, after, before), new, parts)
    return new, {name: jnp.where(going, value, jnp.nan) for name, value in metrics.items()}, stopped


def part_of(state: State, number: int) -> tuple[State, int]:
    """Returns the state of one trial of a stacked state, and the step at which it has stopped; -1 if it has not."""
    stats = {network: collections for network, collections in state.stats.items() if network != STOPPED}
    params, stats, optimizer, average = jax.tree.map(
        lambda leaf: leaf[number], (state.params, stats, state.optimizer, state.average)
    )
    stopped = int(state.stats[STOPPED]['trials']['step'][number])
    step = state.step if stopped < 0 else jnp.full_like(state.step, stopped)
    return State(step, params, stats, optimizer, average), stopped


def fit(configs: Mapping[str, ConfigDict], build: Build, folder: pathlib.Path) -> None:
    """Trains trials together in a folder, and splits them into runs next to its parent.

    Args:
      configs: id -> config.
      build: of their experiment.
      folder: <sweep>/vmapped/<name>.

    Raises:
      ConfigError: the trials differ in more than numbers.
      UserError: a trial has stopped at numbers that are not finite, or its pictures, evaluation or report failed.
    """
    runs = [folder.parents[1] / name for name in configs]
    workdir.create(folder)
    with lock(folder):
        (folder / groups.FAILURES).unlink(missing_ok=True)
        for run, config in zip(runs, configs.values()):
            sinks.check(config)
            workdir.create(run)
            workdir.claim(run, config)
        with loop.Stop() as stop:
            placement = parallel.place('fsdp', jax.devices()[:1])
            sources: dict[str, data.Source] = {}
            schedules = [
                programs(config.copy_and_resolve_references(), build, placement, sources=sources)
                for config in configs.values()
            ]
            together = [joined(phases) for phases in zip(*schedules)]
            try:
                state = loop.follow(together[0].config, together, folder, placement, stop)
            except lockstep.Differs as error:
                raise ConfigError(f'--vmap: {error}: run them without --vmap') from None
        rows = read_metrics(folder)
        failures = {}
        for number, (run, config) in enumerate(zip(runs, configs.values())):
            try:
                own = own_metrics(rows, number, len(runs))
                split(folder, run, config.checkpoint.keep, own, *part_of(state, number))
                modes.train(config, build, run)
            except loop.Preempted:
                raise
            except UserError as error:
                warn(f'{run.name}: {error}')
                failures[run.name] = str(error)
        write_json(folder / groups.FAILURES, failures)
        if failures:
            raise UserError(f'{len(failures)} of {len(runs)} trials have failed: {", ".join(failures)}')
        epath.Path(folder / 'checkpoints').rmtree()  # the runs have them


def split(
    together: pathlib.Path, run: pathlib.Path, keep: int, rows: Sequence[Mapping], state: State, stopped: int
) -> None:
    """Writes the metrics and the last checkpoint of one trial into its folder, as if it had been trained alone.

    Args:
      together: the folder of all trials.
      run: the folder of the trial.
      keep: number of checkpoints to keep.
      rows: the metrics of the trial, each with its 'step'.
      state: of the trial.
      stopped: the step whose numbers were not finite; -1 for none.

    Raises:
      UserError: it has stopped.
    """
    step = int(state.step)
    if trials.newest(run) < step:
        with contextlib.suppress(FileNotFoundError):  # a restart of the group is a restart of each trial
            (run / restarts.RESTARTS).write_bytes((together / restarts.RESTARTS).read_bytes())
        with MetricLog(run, sinks=[TensorBoard(run / 'tensorboard')]) as log:
            log.truncate(-1)
            for row in rows:
                if row['step'] <= step:
                    log.write(row['step'], {name: value for name, value in row.items() if name != 'step'})
        if stopped >= 0:
            stops.record(run, stopped, f'its numbers are not finite at step {stopped}')
        with Checkpoints(run / 'checkpoints', keep, warn=warn) as checkpoints:
            checkpoints.save(step, state, {'totals': {}, 'since': step})
    if stopped >= 0:
        raise UserError(
            f'its numbers are not finite at step {stopped}, and it is saved as it was before: go on in its folder with '
            'a lower learning rate, or give --config.train.on_nan=skip to all trials'
        )


def own_metrics(rows: Sequence[Mapping[str, Any]], number: int, count: int) -> list[dict[str, float]]:
    """Returns the metrics of one trial from the metrics of all. Its seconds are an equal share.

    Args:
      rows: metric -> value, with the 'step'; metrics of trial k are named `k/...`.
      number: of the trial.
      count: of trials.
    """
    start, before, found = f'{number}/', 0, []
    for row in rows:
        own = {name.removeprefix(start): value for name, value in row.items() if name.startswith(start)}
        own = {name: math.nan if value is None else value for name, value in own.items() if name != 'any_skipped'}
        if 'skipped' in own:  # a count, not a mean
            own['skipped'] = round(own['skipped'] * (row['step'] - before))
        shares = {name: row[name] / count for name in ('images_per_second', 'seconds')}
        found.append({'step': row['step'], **own, 'steps_per_second': row['steps_per_second'], **shares})
        before = row['step']
    return found


def check(config_of: Callable[[Overrides], ConfigDict], found: Sequence[Overrides]) -> None:
    """Raises where trials cannot be trained as one program. Nothing is compiled, and no example is read.

    Args:
      config_of: overrides -> config.
      found: the overrides of all trials.

    Raises:
      ConfigError: overrides change the program; it names them.
    """
    keys = list(dict.fromkeys(key for trial in found for key in trial))
    if shared := [key for key in keys if key.partition('.')[0] in SHARED and _values(found, key) > 1]:
        raise ConfigError(f'--vmap: trials that train together share config.{shared[0]}: run them without --vmap')
    outline = functools.cache(lambda text: outlines(config_of(json.loads(text))))

    def changes(trial: Overrides) -> bool:
        return outline(_text(trial)) != outline(_text(found[0]))

    for trial in {_text({**one, 'seed': 0}): one for one in found}.values():
        if changes(trial):
            other = {key: value for key, value in trial.items() if found[0].get(key, ...) != value}
            guilty = {key: value for key, value in other.items() if changes({**found[0], key: value})} or other
            named = ', '.join(f'config.{key}={value!r}' for key, value in guilty.items())
            raise ConfigError(
                f'--vmap: {named} changes the program of the trials, not only its numbers: leave it out of the sweep, '
                'or run it without --vmap'
            )


def _text(overrides: Overrides) -> str:
    return json.dumps(overrides, sort_keys=True)


def _values(found: Sequence[Overrides], key: str) -> int:
    return len({repr(trial.get(key)) for trial in found})


def outlines(config: ConfigDict) -> list[Any]:
    """Returns the programs of a config without their numbers: of the first state and of the step, for each phase."""
    found = []
    for program in declared(config, experiment.load(config.experiment)):
        _check_start(program)
        init = make_init(program)
        start, state = jax.make_jaxpr(init, return_shape=True)()
        turns = program.experiment.batches
        step = functools.partial(take_step, program, frozenset(program.experiment.lazy))
        traced = jax.make_jaxpr(step)(state, batch_shapes(program, turns), make_key(program))
        tree = str(jax.tree.structure(state))
        shared = program.start, program.end, program.restart, turns, dict(program.experiment.lazy)
        found.append((tree, lockstep.skeleton(start), lockstep.skeleton(traced), shared))
    return found


def run(words: Sequence[str]) -> int:
    """Runs the command; the module's docstring says how it is called."""
    base = [word for word in words if word.startswith('--config.')]
    known = argparse.ArgumentParser('python -m genlab.sweep.vmapped', allow_abbrev=False)
    known.add_argument('--config', required=True)
    known.add_argument('--workdir', required=True, type=path_of)
    known.add_argument('--trials', required=True, type=json.loads)
    given = known.parse_args([word for word in words if word not in base])
    set_up_jax()
    path = main.locate(f'--config={given.config}').removeprefix('--config=')
    configs = {name: spec.trial_config(path, base, overrides) for name, overrides in given.trials.items()}
    build = experiment.load(at(next(iter(configs.values())), 'experiment'))
    fit(configs, build, given.workdir)
    return 0


if __name__ == '__main__':
    sys.exit(main.guarded(run, sys.argv[1:]))
