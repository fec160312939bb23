"""Search within a budget of steps: random trials, or successive halving (Jamieson & Talwalkar 2016, algorithm 1).

Halving trains all trials for a part of `train.steps`, drops the worse half by the first figure of the evaluations that
has a direction, and goes on with the others for twice as many steps, until the last ones reach `train.steps`.
"""

import hashlib
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from genlab.errors import ConfigError, UserError
from genlab.reporting import sweep as report
from genlab.run.files import write_json
from genlab.sweep import trials
from genlab.sweep.trials import Sweep, Trial

STEPS = '--config.train.steps='
RECORD = 'search.json'  # in the folder of a sweep: the search, and the ranks of each rung


class Search(NamedTuple):
    """What a search trains."""

    found: list[Trial]
    rungs: tuple[int, ...] = ()  # steps after which the worse half is dropped; () for none


def plan(found: Sequence[Trial], kind: str, budget: int) -> Search:
    """Returns the trials and the rungs of a search.

    Args:
      found: all trials of the sweep.
      kind: 'random', 'halving', 'optuna', or '' for none.
      budget: the most steps that all trials together may take.

    Raises:
      ConfigError: the budget is too small, or the trials cannot be compared.
    """
    if not kind:
        return Search(list(found))
    steps = found[0].steps
    if any(trial.call != found[0].call or 'train.steps' in trial.overrides for trial in found):
        raise ConfigError(f'--search={kind}: the sweep sets the length of trials: give all {STEPS}value')
    if kind == 'random':
        if budget < steps:
            raise ConfigError(f'--budget={budget}: a trial takes {steps} steps: give at least that')
        order = sorted(found, key=lambda trial: hashlib.sha256(trial.id.encode()).hexdigest())  # more budget only adds
        chosen = {trial.id for trial in order[: budget // steps]}
        return Search([trial for trial in found if trial.id in chosen])
    if not all(trial.evaluated for trial in found):
        raise ConfigError(f'--search={kind} compares evaluations: give --config.train.evaluate_every=end')
    if any(trial.stretched for trial in found):
        raise ConfigError(f'--search={kind}: a ramp() without steps lasts as long as the run: give it steps')
    if kind == 'optuna':
        if budget < steps:
            raise ConfigError(f'--budget={budget}: a trial takes {steps} steps: give at least that')
        return Search(list(found), parts(found[0], (4, 2)))
    for halvings in range((len(found) - 1).bit_length() + 1):
        rungs = [max((steps >> halving) // found[0].call, 1) * found[0].call for halving in range(halvings, 0, -1)]
        if cost(len(found), [*rungs, steps]) <= budget:
            return Search(list(found), tuple(rungs))
    least = cost(len(found), [*rungs, steps])
    raise ConfigError(f'--budget={budget}: halving {len(found)} trials takes at least {least} steps: give that')


def parts(trial: Trial, divisors: Sequence[int]) -> tuple[int, ...]:
    """Returns the steps of a trial divided by numbers, as whole calls; each once, and less than all steps."""
    rungs = [max(trial.steps // divisor // trial.call, 1) * trial.call for divisor in divisors]
    return tuple(steps for steps in dict.fromkeys(rungs) if steps < trial.steps)


def shortened(sweep: Sweep, found: Sequence[Trial], steps: int) -> tuple[Sweep, list[Trial]]:
    """Returns the sweep and its trials in a rung that ends at a step."""
    others = [word for word in sweep.arguments if not word.startswith(STEPS)]
    return sweep._replace(arguments=[*others, f'{STEPS}{steps}']), [trial._replace(steps=steps) for trial in found]


def cost(count: int, ends: Sequence[int]) -> int:
    """Returns the steps that a search takes.

    Args:
      count: of trials.
      ends: the steps at which each rung ends, in order.
    """
    alive = [math.ceil(count / 2**rung) for rung in range(len(ends))]
    return sum(number * (end - start) for number, start, end in zip(alive, [0, *ends], ends))


def ranks(folder: pathlib.Path, search: Search) -> dict[str, dict[str, float]]:
    """Returns steps -> id -> rank of the rungs that have ended; lower is better.

    Raises:
      ConfigError: the folder holds another search.
    """
    return dict(_record(folder, search)['ranks'])


def _record(folder: pathlib.Path, search: Search) -> dict[str, Any]:
    """Returns the record of a search, which is written if there is none."""
    own = {'rungs': list(search.rungs), 'trials': [trial.id for trial in search.found]}
    path = folder / RECORD
    if not path.exists():
        write_json(path, {**own, 'ranks': {}})
    content = dict(json.loads(path.read_text()))
    if {key: content.get(key) for key in own} != own:
        raise ConfigError(f'--workdir={folder}: it holds a search with other trials or rungs: name another folder')
    return content


def rank(folder: pathlib.Path, search: Search, steps: int, alive: Sequence[Trial]) -> None:
    """Records the ranks of trials at the end of a rung. A trial without a figure is the last."""
    known = trials.read(folder)['trials']
    entries = {trial.id: report.entry(folder / trial.id, trial.id, known[trial.id]) for trial in alive}
    figure = report.ranking(list(entries.values()))
    if not figure:
        raise UserError(f'--search=halving: no trial of {folder} has a figure with a better direction')
    order = sorted(alive, key=lambda trial: report.rank(figure, entries[trial.id].figures.get(figure)))
    found = {trial.id: number for number, trial in enumerate(order)}
    content = _record(folder, search)
    write_json(folder / RECORD, {**content, 'ranks': {**content['ranks'], str(steps): found}})


def kept(ranked: Mapping[str, float], alive: Sequence[Trial]) -> list[Trial]:
    """Returns the better half of the trials, rounded up, in their order."""
    best = sorted(ranked, key=lambda name: ranked[name])[: math.ceil(len(ranked) / 2)]
    return [trial for trial in alive if trial.id in best]
