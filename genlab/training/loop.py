"""The loop: one for every experiment and every placement."""

import contextlib
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NoReturn, cast

import jax
from ml_collections import ConfigDict

from genlab import data, evaluation
from genlab.config import at
from genlab.errors import PREEMPTED, ConfigError, UserError, warn, warn_once
from genlab.evaluation.metrics.toy import modes
from genlab.experiment import Build
from genlab.reporting import run as report
from genlab.run import record, restarts, sinks, stops, workdir
from genlab.run.better import improves
from genlab.run.files import write_json
from genlab.run.logs import MetricLog
from genlab.run.progress import Progress
from genlab.sampling import drawing
from genlab.training import parallel, totals
from genlab.training.checkpoint import Best, Checkpoints
from genlab.training.program import (
    Pattern,
    Program,
    check_states,
    fold,
    load,
    make_call,
    make_constants,
    make_init,
    metric_names,
    outline,
    pattern,
    patterns,
    programs,
    restart,
)
from genlab.training.state import State, not_finite

SKIPS = 100  # with on_nan='skip', steps in a row without an update that end a run


class Preempted(UserError):
    """The run was asked to stop. Its work is saved, and the same command continues it."""

    exit_code = PREEMPTED


def fit(config: ConfigDict, build: Build, folder: pathlib.Path) -> None:
    """Trains up to `config.train.steps`, from the newest checkpoint in `folder` or from the start."""
    with Stop() as stop:  # data may take minutes to load
        placement = parallel.place(config.placement, tensor=config.tensor)
        known = workdir.with_facts(folder, config)
        schedule = programs(known, build, placement)
        claim_data(folder, config, schedule)
        check_states(schedule)
        if jax.process_index() == 0:
            notes = [data.untrained(program.config, program.batches.source) for program in schedule]
            for note in filter(None, dict.fromkeys(notes)):
                warn(note)
        if jax.process_index() == 0 and (facts := data.missing(known.model)):
            filled = schedule[0].config.model
            write_json(folder / workdir.FACTS, {f'model.{key}': at(filled, key) for key in facts})
        follow(config, schedule, folder, placement, stop)


def follow(
    config: ConfigDict, schedule: list[Program], folder: pathlib.Path, placement: parallel.Placement, stop: 'Stop'
) -> State:
    """Trains through all phases, from the newest checkpoint in `folder` or from the start; returns the last state.

    Args:
      config: config of the run.
      schedule: its phases.
      folder: folder of the run.
      placement: placement of the state over the devices.
      stop: whether a signal asked to stop.
    """
    with (
        Checkpoints(folder / 'checkpoints', config.checkpoint.keep, warn=warn) as checkpoints,
        MetricLog(folder, enabled=jax.process_index() == 0, sinks=open_sinks(config, folder)) as log,
    ):
        try:
            loop = Loop(config, schedule[0], folder, placement, checkpoints, log, stop)
            trained = loop.step < config.train.steps
            for program in schedule:
                if loop.step < program.end:
                    loop.run(program)
            loop.finish(schedule[-1], trained)
            return loop.state
        except KeyboardInterrupt:
            with stop.during('the checkpoint', whole=True):
                checkpoints.wait()
            kept = checkpoints.latest()
            saved = 'no checkpoint yet' if kept is None else f'the last checkpoint is step {kept}'
            raise Preempted(f'interrupted; {saved}: the same command continues from there') from None


def open_sinks(config: ConfigDict, folder: pathlib.Path) -> list[sinks.Sink]:
    """Opens the sinks of a run on the first process. If it cannot, all processes stop."""
    found: list[sinks.Sink] = []
    error: UserError | None = None
    try:
        if jax.process_index() == 0:
            found = sinks.of_run(config, folder)
    except UserError as fault:
        error = fault
    if parallel.agree(error is not None):
        raise error or ConfigError(
            f'config.train.wandb={config.train.wandb!r}: wandb does not start in the first process'
        )
    return found


def claim_data(folder: pathlib.Path, config: ConfigDict, schedule: list[Program]) -> None:
    """Compares the data with those of the run and records them. If one process refuses them, all stop."""
    first, error = schedule[0], None
    try:
        same = first.config.data == config.data  # a phase may read other data
        source = first.batches.source if same else data.load(config.data)
        record.claim(folder, config, source, write=jax.process_index() == 0)
    except UserError as fault:
        error = fault
    if parallel.agree(error is not None):
        raise error or ConfigError(f'--workdir={folder}: another process has other data than the run')


class Loop:
    """A run in progress: its state, and what happens between its steps.

    Args:
      config: config of the run. What a phase may change is read from its program instead.
      program: the first phase.
      folder: folder of the run.
      placement: placement of the state over the devices.
      checkpoints: the newest one is restored; without any the state before the first step is made.
      log: log of metrics and pictures.
      stop: whether a signal asked to stop.
    """

    def __init__(
        self,
        config: ConfigDict,
        program: Program,
        folder: pathlib.Path,
        placement: parallel.Placement,
        checkpoints: Checkpoints,
        log: MetricLog,
        stop: 'Stop',
    ):
        self.config, self.program, self.folder, self.placement = config, program, folder, placement
        self.checkpoints, self.log, self.stop = checkpoints, log, stop
        self.main = jax.process_index() == 0
        self.steps = 'the step' if jax.process_count() == 1 else 'the steps to the next line of the log'
        self.step: int = 0
        self.state: State
        self.failures: dict[tuple[str, str], tuple[str, int]] = {}  # what failed without stopping: see `attempt`
        self.fault = ''  # why the log cannot be written, which ends the run
        self.stuck = 0  # steps in a row that skipped an update, by whole lines
        self.result: evaluation.Evaluation | None = None  # of this step, until `keep_best` has read it
        self.saved: dict[str, Any] | None = None  # sums of metrics since the last line, from the checkpoint
        init = make_init(program)
        restored = checkpoints.restore(parallel.template(placement, outline(init)))
        if restored:
            self.step, self.state, self.saved = restored
        else:
            self.state = self.fresh(program, init)
        self.lined = int(self.saved['since']) if self.saved else 0  # the step of the last line of the log
        self.sampled = {int(path.stem) for path in (folder / 'samples').glob('*.png') if path.stem.isdigit()}
        self.evaluated = evaluation.steps(folder)
        self.began, self.clock = time.perf_counter(), Clock(self.step)
        if self.main and self.lined and not (folder / 'metrics.jsonl').exists():
            warn(f'{folder / "metrics.jsonl"} is missing: the curve begins at step {self.step}')
        lost = log.truncate(self.step) - self.step
        if self.main and self.step < config.train.steps and (restored or lost):
            restarts.note(folder, lost)
        self.progress = Progress(
            config.train.steps,
            self.step,
            enabled=self.main,
            examples=program.config.data.batch_size * program.calls[1],
        )
        if restored:
            self.progress.note(f'continuing from step {self.step}')

    def fresh(self, program: Program, init: Callable[[], State]) -> State:
        """Returns the state before the first step."""
        state, start = parallel.initial(self.placement, init), program.experiment.start
        return start(state, program.batches.source, self.placement) if start else state

    def run(self, program: Program) -> None:
        """Runs the steps of one phase."""
        self.program, (steps, turns) = program, program.calls
        if self.step == program.start:
            self.state = restart(program, self.state)
        if (program.end - self.step) % steps:
            raise ConfigError(
                f'config.train.steps_per_call={steps} does not divide the {program.end - self.step} steps left '
                f'from step {self.step}: take a divisor of them'
            )
        self.names = metric_names(program, self.placement, self.state)
        self.totals = self.take_up_totals()
        zeros = totals.zero(self.names)  # made on the device in one dispatch: there are three numbers per metric
        self.fresh_totals = jax.jit(lambda: zeros, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, self.totals))
        rows = parallel.process_rows(program.config.data.batch_size, self.placement.parts)
        if parallel.agree(self.stop.asked):  # while the data were loaded
            self.save()
            self.leave()
        self.constants = parallel.replicate(self.placement, make_constants(program))
        calls = self.compile(fold(program, load(program, 0, steps * turns, rows)))
        self.clock, throttle = Clock(self.step), parallel.Throttle()
        self.stop.busy = self.steps
        with contextlib.closing(self.stream(rows)) as stream:
            for batch in stream:
                batch = self.placement.put(fold(program, batch))
                call = calls[pattern(program, self.step)]
                self.state, self.totals = call((self.state, self.totals), batch, self.constants)
                self.step += steps
                throttle(self.state.step)
                self.between()

    def compile(self, batch) -> dict[Pattern, Callable]:
        """Compiles the phase's calls ahead of time for these shapes: one, or with lazy terms one per pattern."""
        arguments = (self.state, self.totals), self.placement.put(batch), self.constants

        def compiled(due: Pattern) -> Callable:
            call = make_call(self.program, due)
            return self.placement.compile(call, arguments[0]).lower(*arguments).compile()

        with self.progress.timed('compiling the step'):
            return {due: compiled(due) for due in patterns(self.program, self.step)}

    def stream(self, rows: slice) -> Generator[Any, None, None]:
        """Yields the phase's batches from this step on, leaves [steps * turns, b, ...]."""
        steps, turns = self.program.calls
        first, count, end = self.step * turns, steps * turns, self.program.end * turns
        if self.program.config.data.resident:
            for number in range(first, end, count):
                yield load(self.program, number, count, rows)
            return
        workers = self.program.config.data.workers
        with contextlib.closing(self.program.batches.stream(first, count, end, rows, workers)) as stream:
            for _, batch in stream:
                yield batch

    def between(self) -> None:
        """Does what is due after a call."""
        train, asked = self.program.config.train, self.stop.asked
        if self.due(train.log_every) or self.step == self.program.end:
            self.write_line()
            asked = parallel.agree(bool(self.stop.asked or self.fault))
        elif jax.process_count() > 1:
            asked = False  # processes stop together, when a line is written
        if asked or self.due(self.config.checkpoint.every):
            self.save()
        if self.step < self.config.train.steps:  # else `finish` saves before it samples and evaluates
            if self.due(train.sample_every):
                self.attempt('samples', self.sample)
            if self.due(train.evaluate_every):
                self.attempt('evaluation', self.evaluate)
                self.keep_best()
        if asked:
            self.leave()

    def leave(self) -> None:
        """Stops the run after a save, because a signal asked for it."""
        self.wait()
        if self.fault:
            raise UserError(f'{self.fault}; stopped, step {self.step} is saved: make room, and run the same command')
        raise Preempted(f'stopped at step {self.step}, saved in {self.folder}: the same command continues from there')

    def wait(self) -> None:
        """Waits until all checkpoints are on disk."""
        with self.stop.during('the checkpoint', whole=True):
            self.checkpoints.wait()

    def attempt(self, name: str, function: Callable[[], object]) -> None:
        """Calls a function whose failure must not stop training: it becomes one line, and `finish` raises.

        A failure that repeats at later steps, such as a full disk, is printed once and counted.
        """
        try:
            with self.stop.during(f'the {name} of step {self.step}'):
                function()
        except Exception as error:
            text = ' '.join(str(error).split())[:300]
            reason = text if isinstance(error, UserError) else f'{type(error).__name__}: {text}'
            kind = name, str(error.errno) if isinstance(error, OSError) else reason  # paths differ from step to step
            line, count = self.failures.get(kind, (f'{name} of step {self.step}: {reason}', 0))
            self.failures[kind] = line, count + 1
            if not count:
                warn(f'{line}{"; training continues" if self.step < self.config.train.steps else ""}')

    def pause(self) -> contextlib.AbstractContextManager:
        """Waits for dispatched steps. The time inside the returned context does not count as theirs."""
        jax.block_until_ready(self.state)
        return self.clock.pause()

    def due(self, every: int | str) -> bool:
        """Returns whether the last call crossed a multiple of `every` steps; never for 0 and 'end'."""
        if isinstance(every, str):
            if every != 'end':
                raise ConfigError(f"config.train: every {every!r} steps: give a number of steps, or 'end'")
            return False
        return every > 0 and self.step // every > (self.step - self.program.calls[0]) // every

    def take_up_totals(self):
        """Returns the sums of metrics since the last line: the checkpoint's if the metrics are the same, else zeros."""
        sums = totals.zero(self.names)
        if self.saved and set(self.saved['totals']) == set(sums):
            sums = totals.from_plain(self.saved['totals'])
        self.saved = None
        return parallel.replicate(self.placement, sums)

    def read_totals(self):
        """Returns the sums on the host. Stops the run at a number that is not finite, unless on_nan='skip'."""
        sums = parallel.to_host(self.totals)
        bad = totals.first_bad(sums)
        if bad and self.config.train.on_nan == 'stop':
            self.give_up(f'{bad[1]} is not finite at step {bad[0]}', bad[0])
        return sums

    def give_up(self, reason: str, step: int) -> NoReturn:
        """Ends a run whose numbers are not finite. The folder records it, and then allows what the message advises."""
        self.checkpoints.wait()
        kept = self.checkpoints.latest()
        if self.main:
            stops.record(self.folder, step, reason)
        good = 'no checkpoint yet' if kept is None else f'the last good checkpoint is step {kept}'
        raise UserError(
            f'{reason}; {good}: continue in the same folder with a lower config.optimizer.*.learning_rate, with '
            'config.optimizer.*.clip, or with config.train.on_nan=skip'
        )

    def write_line(self) -> None:
        """Writes one line of metrics: their means since the last line."""
        sums = self.read_totals()
        rate, images = self.clock.lap(self.step), self.program.config.data.batch_size * self.program.calls[1]
        means = totals.means(sums)
        speed = {
            'steps_per_second': rate,
            'images_per_second': rate * images,
            'seconds': time.perf_counter() - self.began,
        }
        if self.config.train.on_nan == 'skip':
            means['skipped'] = int(sums['skipped'].sum)  # a count, not a mean
            self.stuck = self.stuck + self.step - self.lined if means.pop('any_skipped') == 1 else 0
        with self.clock.pause():
            if not self.written(lambda: self.log.write(self.step, {**means, **speed})):
                return  # the sums stay for the checkpoint
            self.progress.update(self.step, means)  # it shows its own speed
        if self.stuck >= SKIPS:
            self.give_up(f'each of the last {self.stuck} steps skipped an update that was not finite', self.step)
        self.lined, self.totals = self.step, self.fresh_totals()

    def written(self, write: Callable[[], object]) -> bool:
        """Returns whether the log could be written. If not, the run saves and ends."""
        try:
            write()
        except OSError as error:
            self.fault = f'{self.folder / "metrics.jsonl"} cannot be written ({error.strerror})'
            return False
        return True

    def save(self) -> None:
        """Starts writing a checkpoint, after a check that all metrics so far and the state are finite."""
        with self.pause(), self.stop.during('the checkpoint', whole=True):
            sums = totals.to_plain(self.read_totals())
            if bad := not_finite(self.state):
                self.give_up(f'state{bad[0]} is not finite at step {self.step}', self.step)
            self.written(self.log.settle)  # before the checkpoint: a run that continues repeats no earlier line
            self.checkpoints.save(self.step, self.state, {'totals': sums, 'since': self.lined})

    def sample(self) -> None:
        """Writes a picture of this step: samples, or reconstructions of a model that cannot sample.

        Where the modes of the data are known, the log gets how many the samples cover.
        """
        program, variables = self.program, self.state.variables(averaged=True)
        source = program.batches.source
        with self.pause():
            shown = drawing.show(program.experiment, self.placement, variables, program.config, source)
            if shown.picture is not None:
                self.log.picture(self.step, shown.picture)
            if shown.samples is not None and source.centres is not None:
                covered = modes(shown.samples, source)
                self.log.write(self.step, {f'samples/{name}': value for name, value in covered.items()})
        self.sampled.add(self.step)

    def evaluate(self) -> None:
        """Evaluates this step, and writes evaluation.json and its figures into the log."""
        self.progress.note(f'evaluating step {self.step} ...')
        with self.pause():
            result = evaluation.evaluate(
                self.program.config, self.program.experiment, self.placement, self.state, self.progress.note
            )
        self.result = result
        if self.main:
            evaluation.write(self.folder, self.step, result)
        for alarm in result.alarms:
            self.progress.note(f'alarm: {alarm}')
        self.log.write(self.step, {f'evaluation/{name}': value for name, value in evaluation.scalars(result).items()})
        self.evaluated.add(self.step)

    def keep_best(self) -> None:
        """Saves the step and records it as the best, if its evaluation is the best so far by `config.checkpoint.best`.

        All processes have to find it so. An evaluation that failed has no result.
        """
        result, self.result = self.result, None
        best = self.better(result) if result else None
        if parallel.agree(best is None) or best is None:
            return
        if self.checkpoints.latest() != self.step:
            self.save()
        with self.stop.during('the checkpoint', whole=True):
            self.checkpoints.record_best(best)
        self.progress.note(f'the best {best.figure} so far, {best.value:.4g}: checkpoint {best.step}')

    def better(self, result: evaluation.Evaluation) -> Best | None:
        """Returns this step with the figure of `config.checkpoint.best`, if no step was better; else None.

        Figures under another protocol do not compare: the first one after a change counts as the best.
        """
        figure = self.config.checkpoint.best
        if not figure:
            return None
        value, before = result.figures.get(figure), self.checkpoints.best()
        if not isinstance(value, (int, float)) and self.main:
            found = 'is not a number' if figure in result.figures else 'is not among the figures of this model'
            warn_once(f'config.checkpoint.best={figure!r} {found}: no checkpoint is kept for it')
        protocol = next((part['id'] for part in result.protocol.values() if figure in part['figures']), '')
        comparable = before is not None and (before.figure, before.protocol) == (figure, protocol)
        if not improves(figure, value, before.value if before and comparable else None):
            return None
        return Best(self.step, figure, cast(float, value), protocol)

    def finish(self, program: Program, trained: bool) -> None:
        """Writes the last checkpoint, samples and evaluation, and the report.

        Args:
          program: the last phase.
          trained: whether this process ran any step.

        Raises:
          UserError: a picture, an evaluation or the report failed on the way.
        """
        self.program = program
        if trained:
            self.save()
        else:
            self.progress.note(f'nothing left to train: step {self.step} of {self.config.train.steps} is done')
        self.wait()
        if self.step not in self.sampled:
            self.attempt('samples', self.sample)
        if program.config.train.evaluate_every and self.step not in self.evaluated:
            if parallel.agree(self.stop.asked):
                self.leave()
            self.attempt('evaluation', self.evaluate)
            self.keep_best()
        self.progress.close()
        if self.main:
            self.attempt('report', self.report)
        if self.failures:
            lines = [
                f'{line}{f" (and {count - 1} more)" if count > 1 else ""}' for line, count in self.failures.values()
            ]
            raise UserError(f'trained and saved, but these failed: {"; ".join(lines)}')

    def report(self) -> None:
        """Writes the report, last of all files: this says that the run is complete."""
        self.log.settle()
        report.write(self.folder)


class Clock:
    """Measures steps per second since the last line, without the time of samples, evaluation and checkpoints."""

    def __init__(self, step: int):
        self.step, self.began, self.paused = step, time.perf_counter(), 0.0

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.paused += time.perf_counter() - began

    def lap(self, step: int) -> float:
        now = time.perf_counter()
        rate = (step - self.step) / max(now - self.began - self.paused, 1e-9)
        self.step, self.began, self.paused = step, now, 0.0
        return rate


class Stop:
    """Catches SIGTERM, SIGINT and SIGHUP, so that work in progress is finished; a second SIGINT interrupts at once.

    It does not interrupt the writing of a checkpoint, which takes seconds and keeps the work.
    """

    def __enter__(self):
        self.asked = False
        self.busy, self.whole = 'the preparation', False  # what a signal has to wait for; whether in any case
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: the run outlives its terminal
            numbers.append(signal.SIGHUP)
        self.before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *exception):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def during(self, work: str, whole: bool = False) -> Iterator[None]:
        """Names the work in progress; `whole` protects it from a second SIGINT too."""
        before = self.busy, self.whole
        self.busy, self.whole = work, whole
        try:
            yield
        finally:
            self.busy, self.whole = before

    def _note(self, number, frame):
        if self.asked and number == signal.SIGINT and not self.whole:
            raise KeyboardInterrupt
        self.asked = True
        try:
            line = f'genlab: {signal.Signals(number).name}: finishing {self.busy} ...'
            print('\n' + line if sys.stderr.isatty() else line, file=sys.stderr, flush=True)  # after a line of progress
        except RuntimeError:  # the signal came while this stream was being written
            pass
        except OSError:  # the terminal is gone: later lines must not fail
            for stream in (sys.stdout, sys.stderr):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
