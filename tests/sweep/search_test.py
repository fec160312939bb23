"""Tests of the search within a budget, with a shell script in place of the training."""

import json
import sys

import pytest

from genlab.errors import ConfigError
from genlab.sweep import __main__ as command
from genlab.sweep import run, search, trials, tuning
from genlab.sweep.launchers.local import Local
from genlab.sweep.trials import Command, Sweep, Trial

# Trains to step $2; a later step has a better figure, and trial 4 crashes.
TRAIN = """
case "$1" in *seed-4) exit 1;; esac
echo $2 >> "$1/runs"
rm -rf "$1/checkpoints"; mkdir -p "$1/checkpoints/$2"
echo "{\\"step\\": $2, \\"figures\\": {\\"squared_error\\": $3}}" > "$1/evaluation.json"
echo "{\\"step\\": $2, \\"model/loss\\": 0.7}" > "$1/metrics.jsonl"
echo done > "$1/report.html"
"""
FOUND = [Trial(f'seed-{seed}', {'seed': seed}, 80, True, {'seed': 0}, 10) for seed in range(5)]
ERRORS = [0.5, 0.1, 0.4, 0.2, 0.0]


def test_the_plan_of_a_search_fits_its_budget():
    assert search.plan(FOUND, '', 0) == (FOUND, ())
    for budget, rungs in ((400, ()), (399, (40,)), (320, (40,)), (319, (20, 40)), (240, (20, 40)), (239, (10, 20, 40))):
        assert search.plan(FOUND, 'halving', budget).rungs == rungs
    assert search.cost(5, [40, 80]) == 5 * 40 + 3 * 40 and search.cost(5, [20, 40, 80]) == 5 * 20 + 3 * 20 + 2 * 40
    chosen = [{trial.id for trial in search.plan(FOUND, 'random', 80 * count + 79).found} for count in range(1, 6)]
    assert [len(ids) for ids in chosen] == [1, 2, 3, 4, 5] and all(a < b for a, b in zip(chosen, chosen[1:]))


@pytest.mark.parametrize(
    'kind, budget, changes, line',
    [
        ('random', 79, {}, 'a trial takes 80 steps'),
        ('halving', 100, {}, 'halving 5 trials takes at least 160 steps'),
        ('halving', 400, {'evaluated': False}, 'evaluate_every=end'),
        ('halving', 400, {'stretched': True}, 'give it steps'),
        ('halving', 400, {'overrides': {'train.steps': 80}}, 'sets the length'),
        ('random', 400, {'call': 20}, 'sets the length'),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(kind, budget, changes, line):
    with pytest.raises(ConfigError, match=line):
        search.plan([*FOUND, FOUND[0]._replace(**changes)][1:], kind, budget)


def test_halving_drops_the_worse_half_and_goes_on(tmp_path, monkeypatch, capsys):
    def fake(sweep, trial):
        assert sweep.arguments == [
            '--config.seed=1',
            *([f'--config.train.steps={trial.steps}'] if trial.steps < 80 else []),
        ]
        error = str(ERRORS[int(trial.id[-1])])
        return [Command(['bash', '-c', TRAIN, 'train', str(sweep.folder / trial.id), str(trial.steps), error], {})]

    launcher = lambda: Local(2, 0, 0.0)
    sweep = Sweep('x.py', 'seed', ['--config.seed=1'], tmp_path)
    go = lambda: run.run(sweep, FOUND, launcher(), (20, 40))
    monkeypatch.setattr(trials, 'commands', fake)
    runs = lambda: [
        (tmp_path / trial.id / 'runs').read_text().split() if (tmp_path / trial.id / 'runs').exists() else []
        for trial in FOUND
    ]
    assert go() == 1  # the crash
    assert '[2/2] seed-' in capsys.readouterr().err
    wanted = [['20'], ['20', '40', '80'], ['20', '40'], ['20', '40', '80'], []]
    assert runs() == wanted
    states = {name: (trial['state'], trial['reason']) for name, trial in trials.read(tmp_path)['trials'].items()}
    assert [state for state, _ in states.values()] == ['dropped', 'done', 'dropped', 'done', 'failed']
    assert states['seed-0'][1] == 'after 20 of 80 steps' and states['seed-2'][1] == 'after 40 of 80 steps'
    assert 'dropped' in (tmp_path / 'report.html').read_text()
    assert go() == 1 and runs() == wanted  # ranks are kept, and nothing runs twice
    (tmp_path / 'seed-3/report.html').unlink()
    assert go() == 1 and runs()[3] == ['20', '40', '80', '80'] and runs()[:3] == wanted[:3]
    assert json.loads((tmp_path / 'search.json').read_text())['ranks']['40'] == {'seed-1': 0, 'seed-3': 1, 'seed-2': 2}
    with pytest.raises(ConfigError, match='other trials or rungs'):
        search.ranks(tmp_path, search.Search(FOUND, (40,)))


def test_a_search_by_optuna_without_the_package_is_refused(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'optuna', None)
    words = ['--config=configs/gan.py', '--sweep=seed', '--search=optuna', '--budget=9']
    assert command.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "genlab: --search=optuna needs optuna, which is not installed: pip install -e '.[search]'"


def test_optuna_is_asked_for_trials_of_the_sweep_within_a_budget(tmp_path, monkeypatch, capsys):
    """A grid with a best corner. The script of a trial writes a figure that is better near it, at each rung."""
    pytest.importorskip('optuna')
    grid = [Trial(f'a-{a}-b-{b}', {'a': a / 10, 'b': b}, 80, True, {}, 10) for a in range(5) for b in ('x', 'y', 'z')]
    crashing = 'a-4-b-z'

    def fake(sweep, trial):
        error = 1 + 10 * trial.overrides['a'] + 2 * 'xyz'.index(trial.overrides['b']) + 1 / trial.steps
        code = TRAIN.replace('*seed-4', f'*{crashing}')
        return [Command(['bash', '-c', code, 'train', str(sweep.folder / trial.id), str(trial.steps), str(error)], {})]

    monkeypatch.setattr(trials, 'commands', fake)
    found, rungs = search.plan(grid, 'optuna', 800)
    assert rungs == (20, 40)
    runs = lambda: {
        trial.id: (tmp_path / trial.id / 'runs').read_text().split()
        for trial in grid
        if (tmp_path / trial.id / 'runs').exists()
    }

    def go():
        return run.run(Sweep('x.py', 'a,b', [], tmp_path), found, Local(2, 0, 0.0), rungs, 800, 2)

    wave = [0]

    class Killed(Exception):
        pass

    report = tuning.Tuner.report

    def stop(tuner, alive, steps):
        wave[0] += 1
        if wave[0] == 5:
            raise Killed
        return report(tuner, alive, steps)

    monkeypatch.setattr(tuning.Tuner, 'report', stop)
    with pytest.raises(Killed):
        go()
    before = runs()
    assert go() in (0, 1)
    after = runs()
    assert all(after[name][: len(steps)] == steps for name, steps in before.items())
    assert all(steps == ['20', '40', '80'][: len(steps)] for steps in after.values())  # nothing runs twice
    states = {name: trial['state'] for name, trial in trials.read(tmp_path)['trials'].items()}
    pruned = [name for name, state in states.items() if state == 'dropped']
    assert pruned and all(len(after[name]) < 3 for name in pruned)
    assert {name for name, state in states.items() if state == 'failed'} <= {crashing}
    total = sum(int(steps[-1]) for steps in after.values())
    assert 800 - 80 < total <= 800 or len(states) == len(grid)
    assert go() in (0, 1) and runs() == after
    with pytest.raises(ConfigError, match='a search over other trials'):
        tuning.Tuner(tmp_path, found[1:], 800, 2)
