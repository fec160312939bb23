"""Runs the missing trials of a sweep, follows them, and writes the record and the report."""

import collections
import contextlib
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from genlab.errors import PREEMPTED, ConfigError, UserError, warn
from genlab.reporting import sweep as report
from genlab.run import terminal
from genlab.run.files import lock
from genlab.sweep import groups, search, trials, tuning
from genlab.sweep.launchers import FINAL, Job, Launcher, Status
from genlab.sweep.trials import Sweep, Trial

TICK = 0.1  # seconds after which a signal is noticed
CODES = {'refused': 2, 'failed': 1, 'stopped': PREEMPTED}  # of the sweep, the first that holds for a trial


def run(
    sweep: Sweep,
    found: Sequence[Trial],
    launcher: Launcher,
    rungs: Sequence[int] = (),
    budget: int = 0,
    parallel: int = 1,
) -> int:
    """Runs what is missing of a sweep to its end, or until a signal; returns the exit code.

    Args:
      sweep: what the trials share.
      found: all trials.
      launcher: where they run.
      rungs: of a search, the steps after which the worse trials are dropped.
      budget: of a search by optuna, the most steps of all trials together; 0 for successive halving.
      parallel: trials that optuna is asked for at a time.
    """
    folder = sweep.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'--workdir={folder}: cannot write there ({error.strerror}): name another folder') from None
    with lock(folder):
        if budget:
            states = tune(sweep, tuning.Tuner(folder, found, budget, parallel), launcher, rungs)
            found = [trial for trial in found if trial.id in states]
        else:
            trials.record(sweep, found)
            states = halve(sweep, found, launcher, rungs)
            alive = [trial for trial in found if trial.id not in states]
            if not any(status.state == 'stopped' for status in states.values()):
                states |= train(sweep, alive, launcher)
        terminal.say(table(folder, found, states))
        try:
            terminal.show(f'{report.write(folder)} shows the sweep')
        except Exception as error:  # the runs are what counts
            warn(f'no report: {type(error).__name__}: {error}')
    return next((code for state, code in CODES.items() if any(entry.state == state for entry in states.values())), 0)


def train(sweep: Sweep, found: Sequence[Trial], launcher: Launcher) -> dict[str, Status]:
    """Runs the missing trials; returns id -> how each has ended. The arguments are as for `run`."""
    folder = sweep.folder
    left = missing(folder, found)
    states = {trial.id: Status('done') for trial in found if trial not in left}
    trials.note(folder, states)
    terminal.say(f'{folder}: {len(found)} trials, {len(left)} of them to run\n')
    if left:
        launched = jobs(sweep, found, left)
        for job in launched:
            groups.note(job)
        ended = follow(folder, launcher, launched)
        for job in launched:
            states |= groups.outcomes(job, ended[job.id])
        trials.note(folder, states)
    return states


def halve(sweep: Sweep, found: Sequence[Trial], launcher: Launcher, rungs: Sequence[int]) -> dict[str, Status]:
    """Runs the rungs of successive halving; returns how the trials that were dropped have ended.

    If a signal stops it, the remaining trials are `stopped`. The arguments are as for `run`.
    """
    plan, alive, folder = search.Search(list(found), tuple(rungs)), list(found), sweep.folder
    states: dict[str, Status] = {}
    for steps in rungs:
        if str(steps) not in search.ranks(folder, plan):
            ended = train(*search.shortened(sweep, alive, steps), launcher)
            if any(status.state == 'stopped' for status in ended.values()):
                return states | {trial.id: Status('stopped') for trial in alive}
            search.rank(folder, plan, steps, alive)
        kept = search.kept(search.ranks(folder, plan)[str(steps)], alive)
        past = trials.read(folder)['trials']
        for trial in alive:
            if trial not in kept:
                bad = past[trial.id]['state'] in ('failed', 'refused')
                reason = past[trial.id]['reason'] if bad else f'after {steps} of {trial.steps} steps'
                states[trial.id] = Status(past[trial.id]['state'] if bad else 'dropped', reason)
        trials.note(folder, {name: (status.state, status.reason) for name, status in states.items()})
        alive = kept
    return states


def tune(sweep: Sweep, tuner: tuning.Tuner, launcher: Launcher, rungs: Sequence[int]) -> dict[str, Status]:
    """Trains what a tuner asks for, until its budget is used up; returns how those trials have ended.

    Args:
      sweep: what the trials share.
      tuner: asks for trials, and drops some of them at a rung.
      launcher: where they run.
      rungs: the steps after which trials may be dropped.
    """
    while alive := tuner.ask():
        trials.record(sweep, alive)
        for steps in (*rungs, alive[0].steps):
            if due := tuner.due(alive, steps):
                short = search.shortened(sweep, due, steps) if steps < due[0].steps else (sweep, due)
                ended = train(*short, launcher)
                if any(status.state == 'stopped' for status in ended.values()):
                    return tuner.ended() | {trial.id: Status('stopped') for trial in alive}
            alive = tuner.report(alive, steps)
            if not alive:
                break
    trials.note(sweep.folder, tuner.ended())
    return tuner.ended()


def missing(folder: pathlib.Path, found: Sequence[Trial]) -> list[Trial]:
    """Returns the trials whose folders are not complete, and those that have failed."""
    past = trials.read(folder).get('trials', {})
    bad = ('failed', 'refused')
    return [
        trial
        for trial in found
        if past.get(trial.id, {}).get('state') in bad or not trials.complete(folder / trial.id, trial)
    ]


def jobs(sweep: Sweep, found: Sequence[Trial], left: Sequence[Trial]) -> list[Job]:
    """Returns the missing trials as they are launched, alone or in groups.

    Args:
      sweep: what the trials share.
      found: all trials.
      left: those that are missing.
    """
    folder = sweep.folder
    return [
        groups.job(sweep, group)
        if len(group) > 1
        else Job(group[0].id, folder / group[0].id, trials.commands(sweep, group[0]))
        for group in groups.plan(folder, found, left, sweep.layout.vmap)
    ]


def follow(
    folder: pathlib.Path,
    launcher: Launcher,
    submitted: Sequence[Job],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Status]:
    """Submits jobs and polls until all have ended. SIGINT and SIGTERM ask them to stop."""
    known = {job.id: Status('missing') for job in submitted}
    with signals() as asked:
        launcher.submit(submitted)
        passed = launcher.interval
        while True:
            while asked:
                terminal.say(f'genlab: {asked.popleft()}: asking the trials to stop; they save first ...\n')
                launcher.cancel()
                passed = launcher.interval
            if passed >= launcher.interval:
                passed = 0.0
                polled = poll(launcher, known)  # an earlier rung of a search may have submitted more
                known |= announce(folder, submitted, known, {name: polled[name] for name in known})
                if all(status.state in FINAL for status in known.values()):
                    return known
            sleep(TICK)
            passed += TICK


def poll(launcher: Launcher, known: Mapping[str, Status]) -> Mapping[str, Status]:
    """Polls a launcher. A scheduler that does not answer for a moment changes nothing."""
    try:
        return launcher.poll()
    except ConfigError:
        raise
    except UserError as error:
        warn(f'{error}; asking again')
        return known


def announce(
    folder: pathlib.Path, submitted: Sequence[Job], old: Mapping[str, Status], new: Mapping[str, Status]
) -> Mapping[str, Status]:
    """Prints one line per change and writes the changes into the record; returns `new`."""
    changed = {name: status for name, status in new.items() if status != old.get(name)}
    if changed:
        trials.note(
            folder,
            {name: changed[job.id] for job in submitted if job.id in changed for name in job.members or (job.id,)},
        )
    ended = sum(status.state in FINAL for status in new.values())
    for name, status in changed.items():
        reason = f': {status.reason}' if status.reason else ''
        if status.state != 'waiting' or reason:
            terminal.say(f'[{ended}/{len(new)}] {name}  {status.state}{reason}\n')
    return new


@contextlib.contextmanager
def signals() -> Iterator[collections.deque[str]]:
    """Collects the names of the signals that ask to stop."""
    asked: collections.deque[str] = collections.deque()
    note = lambda number, frame: asked.append(signal.Signals(number).name)
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def table(folder: pathlib.Path, found: Sequence[Trial], states: Mapping[str, Status]) -> str:
    """Returns one line per trial: its state, its steps, and why it has ended."""
    rows = [
        (trial.id, states[trial.id].state, f'{max(trials.newest(folder / trial.id), 0):,}/{trial.steps:,}')
        for trial in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return ''.join(
        f'{name:{widths[0]}}  {state:{widths[1]}}  {steps:>{widths[2]}} steps  {states[name].reason}'.rstrip() + '\n'
        for name, state, steps in rows
    )
