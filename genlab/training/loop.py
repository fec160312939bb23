"""The loop: one for every experiment and every placement."""

import contextlib
import pathlib
import signal
import time
from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from genlab import evaluation
from genlab.errors import PREEMPTED, ConfigError, UserError, warn
from genlab.experiment import Build
from genlab.reporting import run as report
from genlab.run.logs import MetricLog
from genlab.run.progress import Progress
from genlab.sampling import drawing
from genlab.training import parallel, totals
from genlab.training.checkpoint import Checkpoints
from genlab.training.program import (
    Pattern,
    Program,
    fold,
    load,
    make_call,
    make_constants,
    make_init,
    metric_names,
    pattern,
    patterns,
    programs,
    restart,
)
from genlab.training.state import State


class Preempted(UserError):
    """Asked to stop: what was done is saved, and the same command goes on."""

    exit_code = PREEMPTED


def fit(config: ConfigDict, build: Build, folder: pathlib.Path) -> None:
    """Trains `config` in `folder` from its newest checkpoint, or from the start, up to `config.train.steps`."""
    placement = parallel.place(config.placement)
    schedule = programs(config, build, placement)
    with (
        Stop() as stop,
        Checkpoints(folder / 'checkpoints', config.checkpoint.keep, warn=warn) as checkpoints,
        MetricLog(folder, enabled=jax.process_index() == 0) as log,
    ):
        loop = Loop(config, folder, placement, checkpoints, log, stop)
        loop.begin(schedule[0])
        for program in schedule:
            if loop.step < program.end:
                loop.run(program)
        loop.finish(schedule[-1])


class Loop:
    """A run in progress: where it is, and what happens between its steps."""

    def __init__(self, config, folder, placement, checkpoints, log, stop):
        self.config, self.folder, self.placement = config, folder, placement
        self.checkpoints, self.log, self.stop = checkpoints, log, stop
        self.main = jax.process_index() == 0

    def begin(self, program: Program) -> None:
        """Takes up the newest checkpoint, or makes the state before the first step."""
        init = make_init(program)
        restored = self.checkpoints.restore(parallel.template(self.placement, jax.eval_shape(init)))
        self.step, self.state, self.saved = restored or (0, self.fresh(program, init), None)
        self.lined = int(self.saved['since']) if self.saved else 0  # the step of the last line of the log
        self.sampled = {int(path.stem) for path in (self.folder / 'samples').glob('*.png') if path.stem.isdigit()}
        self.evaluated = evaluation.steps(self.folder)
        self.program, self.began = None, time.perf_counter()
        self.log.truncate(self.step)
        self.progress = Progress(
            self.config.train.steps,
            self.step,
            enabled=self.main,
            examples=program.config.data.batch_size * program.calls[1],
        )
        if restored:
            self.progress.note(f'going on from step {self.step}')

    def fresh(self, program: Program, init: Callable[[], State]) -> State:
        """The state before the first step."""
        state, start = parallel.initial(self.placement, init), program.experiment.start
        return start(state, program.batches.source, self.placement) if start else state

    def run(self, program: Program) -> None:
        """The steps of one phase."""
        self.program, (steps, turns) = program, program.calls
        if self.step == program.start:
            self.state = restart(program, self.state)
        if (program.end - self.step) % steps:
            raise ConfigError(
                f'config.train.steps_per_call={steps} does not divide the {program.end - self.step} steps left '
                f'from step {self.step}: take a divisor of them'
            )
        self.names = metric_names(program, self.placement.axis, self.state)
        self.totals = self.take_up_totals()
        zeros = totals.zero(self.names)  # made on the device, in one dispatch: there are three numbers to a metric
        self.fresh_totals = jax.jit(lambda: zeros, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, self.totals))
        rows = parallel.process_rows(program.config.data.batch_size, self.placement.devices)
        self.constants = parallel.replicate(self.placement, make_constants(program))
        calls = self.compile(fold(program, load(program, 0, steps * turns, rows)))
        self.clock = Clock(self.step)
        with contextlib.closing(self.stream(rows)) as stream:
            for batch in stream:
                batch = self.placement.put(fold(program, batch))
                call = calls[pattern(program, self.step)]
                self.state, self.totals = call((self.state, self.totals), batch, self.constants)
                self.step += steps
                self.between()

    def compile(self, batch) -> dict[Pattern, Callable]:
        """Compiles the phase's calls ahead of time for these shapes: one, or with lazy terms one per pattern."""
        arguments = (self.state, self.totals), self.placement.put(batch), self.constants

        def compiled(due: Pattern) -> Callable:
            call = make_call(self.program, due)
            return self.placement.compile(call, arguments[0]).lower(*arguments).compile()

        with self.progress.timed('compiling the step'):
            return {due: compiled(due) for due in patterns(self.program, self.step)}

    def stream(self, rows: slice):
        """The phase's batches from this step on, leaves [steps * turns, b, ...]."""
        steps, turns = self.program.calls
        first, count, end = self.step * turns, steps * turns, self.program.end * turns
        if self.program.config.data.resident:
            return (load(self.program, number, count, rows) for number in range(first, end, count))
        stream = self.program.batches.stream(first, count, end, rows, self.program.config.data.workers)
        return (batch for _, batch in stream)

    def between(self) -> None:
        """What is due after a call."""
        train, asked = self.program.config.train, self.stop.asked
        if self.due(train.log_every) or self.step == self.program.end:
            self.write_line()
            asked = parallel.agree(self.stop.asked)
        elif jax.process_count() > 1:
            asked = False  # processes stop together, at a line
        if self.due(train.sample_every):
            self.sample()
        if self.due(train.evaluate_every):
            self.evaluate()
        if asked or self.due(self.config.checkpoint.every):
            self.save()
        if asked:
            self.checkpoints.wait()
            raise Preempted(f'stopped at step {self.step}, saved in {self.folder}: the same command goes on from there')

    def pause(self):
        """Steps that were dispatched are waited for, and what follows does not count as theirs."""
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
        """The sums since the last line: those of the checkpoint if they are of the same metrics, otherwise none."""
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
            self.checkpoints.wait()
            kept = self.checkpoints.latest()
            raise UserError(
                f'{bad[1]} is not finite at step {bad[0]}; '
                f'{"no checkpoint yet" if kept is None else f"the last good checkpoint is step {kept}"}: '
                'lower the learning rate, clip (config.optimizer.*.clip), or set config.train.on_nan=skip'
            )
        return sums

    def write_line(self) -> None:
        """One line of metrics: their means since the last one."""
        sums = self.read_totals()
        rate, images_a_step = self.clock.lap(self.step), self.program.config.data.batch_size * self.program.calls[1]
        row = {
            **totals.means(sums),
            'steps_per_second': rate,
            'images_per_second': rate * images_a_step,
            'seconds': time.perf_counter() - self.began,
        }
        if self.config.train.on_nan == 'skip':
            row['skipped'] = int(sums['skipped'].sum)  # how many turns, not their mean
        with self.clock.pause():
            self.log.write(self.step, row)
            self.progress.update(self.step, row)
        self.lined, self.totals = self.step, self.fresh_totals()

    def save(self) -> None:
        """Starts a checkpoint of a state that is known to be sound."""
        with self.pause():
            sums = totals.to_plain(self.read_totals())
            self.checkpoints.save(self.step, self.state, {'totals': sums, 'since': self.lined})

    def sample(self) -> None:
        """Writes the picture of this step: samples or reconstructions, if the model has either."""
        program, variables = self.program, self.state.variables(averaged=True)
        with self.pause():
            picture = drawing.picture(
                program.experiment, self.placement, variables, program.config, program.batches.source
            )
            if picture is not None:
                self.log.picture(self.step, picture)
        self.sampled.add(self.step)

    def evaluate(self) -> None:
        """Judges the model of this step, and writes evaluation.json and the figures into the log."""
        self.progress.note(f'evaluating step {self.step} ...')
        with self.pause():
            judged = evaluation.evaluate(
                self.program.config, self.program.experiment, self.placement, self.state, self.progress.note
            )
        if self.main:
            evaluation.write(self.folder, self.step, judged)
        for alarm in judged.alarms:
            self.progress.note(f'alarm: {alarm}')
        self.log.write(self.step, {f'evaluation/{name}': value for name, value in evaluation.scalars(judged).items()})
        self.evaluated.add(self.step)

    def finish(self, program: Program) -> None:
        """Writes the last samples, evaluation and checkpoint, and the report."""
        if self.program is None:
            self.progress.note(f'nothing left to train: step {self.step} of {self.config.train.steps} is done')
            self.program, self.clock = program, Clock(self.step)
        else:
            self.save()
        if self.step not in self.sampled:
            self.sample()
        if self.config.train.evaluate_every and self.step not in self.evaluated:
            self.evaluate()
        self.checkpoints.wait()
        self.progress.close()
        if self.main:
            report.write(self.folder)


class Clock:
    """Steps a second since the last line, without the time spent on samples, evaluation and checkpoints."""

    def __init__(self, step: int):
        self.step, self.began, self.paused = step, time.perf_counter(), 0.0

    @contextlib.contextmanager
    def pause(self):
        began = time.perf_counter()
        yield
        self.paused += time.perf_counter() - began

    def lap(self, step: int) -> float:
        now = time.perf_counter()
        rate = (step - self.step) / max(now - self.began - self.paused, 1e-9)
        self.step, self.began, self.paused = step, now, 0.0
        return rate


class Stop:
    """Notes SIGTERM and SIGINT while inside, so that the step in hand is finished; a second SIGINT interrupts at once."""

    def __enter__(self):
        self.asked = False
        self.before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
