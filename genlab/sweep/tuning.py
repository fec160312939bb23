"""Search by optuna (Akiba et al. 2019): it proposes the next trials of a sweep, and prunes those below the median.

A study is kept in optuna.log in the folder of the sweep. It holds which trials were asked for, their figures at each
rung, and how they ended, so the same command goes on. A proposal that the sweep does not have becomes the nearest trial
that has not run.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from genlab.errors import ConfigError, UserError
from genlab.reporting import sweep as report
from genlab.sweep import trials
from genlab.sweep.launchers import Status
from genlab.sweep.trials import Trial

JOURNAL = 'optuna.log'
STARTUP = 4  # finished trials before any is pruned
ID, FIGURE, SWEEP = 'id', 'figure', 'trials'  # attributes of a trial, and of the study


def check() -> Any:
    """Returns the module optuna. Raises ConfigError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise ConfigError("--search=optuna needs optuna, which is not installed: pip install -e '.[search]'") from None
    return optuna


class Tuner:
    """Asks for trials and tells how they ended.

    Args:
      folder: of the sweep.
      found: all trials of the sweep.
      budget: the most steps that all trials together may take.
      size: the most trials at a time.
    """

    def __init__(self, folder: pathlib.Path, found: Sequence[Trial], budget: int, size: int):
        self._optuna = optuna = check()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._folder, self._found, self._budget, self._size = folder, {trial.id: trial for trial in found}, budget, size
        self._values = {
            key: ordered([trial.overrides.get(key) for trial in found])
            for key in dict.fromkeys(key for trial in found for key in trial.overrides)
        }
        self._space = {
            key: optuna.distributions.IntDistribution(0, len(values) - 1)
            for key, values in self._values.items()
            if len(values) > 1
        }
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL)))
        self._study = optuna.create_study(
            storage=storage,
            study_name='sweep',
            direction='minimize',
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=0),
            load_if_exists=True,
        )
        self._study.sampler = optuna.samplers.TPESampler(seed=len(self._study.trials))
        if self._study.user_attrs.get(SWEEP, list(self._found)) != list(self._found):
            raise ConfigError(f'--workdir={folder}: it holds a search over other trials: name another folder')
        self._study.set_user_attr(SWEEP, list(self._found))

    def ask(self) -> list[Trial]:
        """Returns the next trials: those that have begun, else new ones within the budget; [] at the end."""
        if begun := self._open():
            return [self._found[name] for name in begun]
        asked = {trial.user_attrs[ID] for trial in self._study.trials if ID in trial.user_attrs}
        left = [trial for trial in self._found.values() if trial.id not in asked]
        steps = next(iter(self._found.values())).steps
        for _ in range(min(self._size, (self._budget - self.spent()) // steps, len(left))):
            proposal = self._study.ask(self._space)
            chosen = min(left, key=lambda trial: self._distance(proposal.params, trial))
            if proposal.params != self._point(chosen):
                self._study.tell(proposal, state=self._optuna.trial.TrialState.FAIL)
                self._study.enqueue_trial(self._point(chosen))
                proposal = self._study.ask(self._space)
            proposal.set_user_attr(ID, chosen.id)
            left.remove(chosen)
        return [self._found[name] for name in self._open()]

    def due(self, alive: Sequence[Trial], steps: int) -> list[Trial]:
        """Returns the trials that have not been reported at a step."""
        open = self._open()
        return [trial for trial in alive if steps not in open[trial.id].intermediate_values]

    def report(self, alive: Sequence[Trial], steps: int) -> list[Trial]:
        """Reports the figures of trials that have been trained to a step, and returns those that go on.

        A trial without a figure has failed. Before its last step, one whose figure is worse than the median of the
        finished trials at the same step is pruned.
        """
        known = trials.read(self._folder)['trials']
        entries = {trial.id: report.entry(self._folder / trial.id, trial.id, known[trial.id]) for trial in alive}
        figure = self._study.user_attrs.get(FIGURE) or report.ranking(list(entries.values()))
        if not figure:
            raise UserError(f'--search=optuna: no trial of {self._folder} has a figure with a better direction')
        self._study.set_user_attr(FIGURE, figure)
        states, going = self._optuna.trial.TrialState, []
        handles = {trial.id: self._handle(trial) for trial in alive}
        for trial in self.due(alive, steps):
            value = report.rank(figure, entries[trial.id].figures.get(figure))
            if value < float('inf') and known[trial.id]['state'] == 'done':  # a figure may be of an earlier rung
                handles[trial.id].report(value, steps)
        for trial in alive:
            value = self._open()[trial.id].intermediate_values.get(steps)
            if value is None:
                self._study.tell(handles[trial.id].number, state=states.FAIL)
            elif steps == trial.steps:
                self._study.tell(handles[trial.id].number, value)
            elif handles[trial.id].should_prune():
                self._study.tell(handles[trial.id].number, state=states.PRUNED)
            else:
                going.append(trial)
        return going

    def spent(self) -> int:
        """Returns the steps that all trials have taken."""
        return sum(max(trial.intermediate_values, default=0) for trial in self._study.trials)

    def ended(self) -> dict[str, Status]:
        """Returns id -> status of the trials that have ended."""
        states, known = self._optuna.trial.TrialState, trials.read(self._folder).get('trials', {})
        found = {}
        for trial in self._study.get_trials(states=(states.COMPLETE, states.PRUNED, states.FAIL)):
            if name := trial.user_attrs.get(ID):
                if trial.state == states.PRUNED:
                    reached = max(trial.intermediate_values)
                    found[name] = Status('dropped', f'after {reached} of {self._found[name].steps} steps')
                elif trial.state == states.FAIL:
                    past = known.get(name, {})
                    state = past['state'] if past.get('state') in ('failed', 'refused') else 'failed'
                    found[name] = Status(state, past.get('reason') or 'it has no figure')
                else:
                    found[name] = Status('done')
        return found

    def _open(self) -> dict[str, Any]:
        """Returns id -> optuna's trial of those that have been asked for and have not ended."""
        running = self._study.get_trials(states=(self._optuna.trial.TrialState.RUNNING,))
        return {trial.user_attrs[ID]: trial for trial in running if ID in trial.user_attrs}

    def _handle(self, trial: Trial) -> Any:
        return self._optuna.trial.Trial(self._study, self._open()[trial.id]._trial_id)

    def _point(self, trial: Trial) -> dict[str, int]:
        """Returns key -> number of the value of a trial among the values of its key."""
        return {key: self._values[key].index(trial.overrides.get(key)) for key in self._space}

    def _distance(self, point: dict[str, int], trial: Trial) -> float:
        """Returns how far a trial is from a proposal: 1 per key from one end of its values to the other."""
        own = self._point(trial)
        return sum(abs(own[key] - point[key]) / (len(self._values[key]) - 1) for key in self._space)


def ordered(values: Sequence[Any]) -> list[Any]:
    """Returns the distinct values of a key: numbers by size, others in their order."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in found)
    return sorted(found) if numbers else found
