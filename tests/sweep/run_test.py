"""Tests of whole sweeps with a shell script in place of the training, and one, marked slow, with real trainings."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from genlab.run.logs import read_metrics
from genlab.sweep import __main__ as command
from genlab.sweep import groups, run, trials
from genlab.sweep.launchers.local import Local
from genlab.sweep.trials import Command, Layout, Sweep, Trial
from support.runs import ROOT

# Writes what a run writes, and exits with a code that lies in its folder, once.
TRAIN = """
echo start >> "$1/runs"
trap 'exit 42' TERM
if [ -e "$1/sleep" ]; then rm "$1/sleep"; touch "$1/sleeps"; for n in $(seq 2000); do sleep 0.02; done; fi
if [ -e "$1/code" ]; then code=$(cat "$1/code"); rm "$1/code"; exit $code; fi
mkdir -p "$1/checkpoints/10"
echo '{"step": 10, "figures": {"high_quality": 0.5}}' > "$1/evaluation.json"
echo '{"step": 10, "generator/adversarial": 0.7, "seconds": 3}' > "$1/metrics.jsonl"
echo done > "$1/report.html"
if [ -e "$1/late" ]; then rm "$1/late"; exit 1; fi
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Returns a function that runs a sweep of three trials, and its folder."""
    found = [Trial(f'seed-{seed}', {'seed': seed}, 10, True, {'seed': 0}) for seed in range(3)]

    def fake(sweep, trial):
        return [Command(['bash', '-c', TRAIN, 'train', str(sweep.folder / trial.id)], {})]

    monkeypatch.setattr(trials, 'commands', fake)
    monkeypatch.setattr(command, 'checked', lambda *arguments: found)

    def go(retries=0, some=found):
        launcher = Local(2, retries, 0.0)
        return run.run(Sweep('configs/gan.py', 'seed', [], tmp_path), some, launcher)

    for trial in found:
        (tmp_path / trial.id).mkdir()
    return go, tmp_path


def runs(folder):
    return [len(path.read_text().split()) if path.exists() else 0 for path in sorted(folder.glob('seed-?/runs'))]


def states(folder):
    return [trial['state'] for trial in trials.read(folder)['trials'].values()]


def test_a_sweep_runs_what_is_missing(sweep, capsys):
    go, folder = sweep
    assert go() == 0
    assert runs(folder) == [1, 1, 1] and states(folder) == ['done'] * 3
    assert 'seed-1' in (folder / 'report.html').read_text()
    assert go() == 0 and runs(folder) == [1, 1, 1]
    (folder / 'seed-1/report.html').unlink()
    (folder / 'seed-2/evaluation.json').write_text('{"step": 9}')
    assert go() == 0 and runs(folder) == [1, 2, 2]
    time.sleep(0.01)
    (folder / 'seed-0/metrics.jsonl').touch()  # newer than the report
    (folder / 'seed-1/checkpoints/10').rename(folder / 'seed-1/checkpoints/9')
    assert go() == 0 and runs(folder) == [2, 3, 2]
    assert 'seed-2  done  10/10 steps' in capsys.readouterr().err


def test_exit_codes_of_a_sweep(sweep, capsys):
    go, folder = sweep
    (folder / 'seed-0/code').write_text('1')
    assert go() == 1 and states(folder) == ['failed', 'done', 'done']
    (folder / 'seed-0/late').touch()  # trained and saved, but a picture failed
    assert go() == 1 and states(folder)[0] == 'failed' and (folder / 'seed-0/report.html').exists()
    (folder / 'seed-1/report.html').unlink()
    (folder / 'seed-1/code').write_text('2')
    assert go() == 2 and states(folder) == ['done', 'refused', 'done'] and runs(folder)[0] == 3
    (folder / 'seed-2/report.html').unlink()
    (folder / 'seed-2/code').write_text('42')
    assert go() == 0 and states(folder) == ['done'] * 3
    assert 'seed-0  failed: exit code 1' in capsys.readouterr().err


def test_a_signal_stops_the_trials_and_the_same_command_goes_on(sweep, capsys):
    go, folder = sweep
    for seed in range(2):
        (folder / f'seed-{seed}/sleep').touch()

    def stop():
        while not all((folder / f'seed-{seed}/sleeps').exists() for seed in range(2)):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    before = signal.getsignal(signal.SIGTERM)
    assert go() == 42
    assert states(folder) == ['stopped'] * 3 and signal.getsignal(signal.SIGTERM) is before
    assert 'SIGTERM: asking the trials to stop' in capsys.readouterr().err
    assert go() == 0 and runs(folder) == [2, 2, 1]


def test_the_command_prints_what_would_run_and_refuses_another_sweep(sweep, capsys):
    go, folder = sweep
    assert go() == 0
    (folder / 'seed-1/report.html').unlink()
    capsys.readouterr()
    words = ['--sweep=seed', f'--workdir={folder}', '--dry-run']
    assert command.main(['--config=configs/gan.py', *words]) == 0
    out, error = capsys.readouterr()
    (job,) = run.jobs(Sweep('', '', [], folder), [], [Trial('seed-1', {}, 10, True, {})])
    assert out == job.commands[0].shell() + '\n'
    assert '1 of 3 trials would run' in error and runs(folder) == [1, 1, 1]
    for more, line in (
        (['--config=configs/dcgan.py'], "holds a sweep with config 'configs/gan.py', not 'configs/dcgan.py'"),
        (['--config=configs/gan.py', '--config.train.steps=4'], 'holds a sweep with arguments'),
        (['--config=configs/gan.py', '--config.train.steps', '4'], 'write --config.train.steps=value'),
        (['--config=configs/gan.py', '--launcher=jobset'], '--launcher=jobset needs --image'),
    ):
        assert command.main([*more, *words]) == 2
        assert line in capsys.readouterr().err
    assert command.default_folder('configs/gan.py:grid,x', 'lr,seed') == 'runs/sweeps/gan-grid-x-lr-seed'


def test_earlier_trials_stay_in_the_record(sweep):
    go, folder = sweep
    assert go() == 0
    assert go(some=[Trial('seed-7', {'seed': 7}, 10, True, {'seed': 0})]) == 0
    assert [*trials.read(folder)['trials']] == ['seed-0', 'seed-1', 'seed-2', 'seed-7'] and states(folder)[3] == 'done'


def test_a_group_of_trials_is_one_job_and_each_trial_has_its_own_state(sweep, monkeypatch, capsys):
    go, folder = sweep
    train = """
      mkdir -p "$1/checkpoints/10"; cd "$1/../.."
      for trial in seed-0 seed-1; do bash -c "$TRAIN" train "$PWD/$trial"; done
      if [ -e fixed ]; then echo '{}' > "$1/failures.json"; rm -r "$1/checkpoints"; exit 0; fi
      rm seed-1/report.html; echo '{"seed-1": "not finite"}' > "$1/failures.json"; exit 1"""
    found = [Trial(f'seed-{seed}', {'seed': seed}, 10, True, {'seed': 0}) for seed in range(3)]
    job = groups.job

    def fake(*arguments):
        made = job(*arguments)
        return made._replace(commands=[Command(['bash', '-c', train, 'train', str(made.folder)], {'TRAIN': TRAIN})])

    monkeypatch.setattr(groups, 'job', fake)
    together = Sweep('configs/gan.py', 'seed', [], folder, Layout(vmap=2))
    run_sweep = lambda: run.run(together, found, Local(1, 0, 0.0))
    assert run_sweep() == 1 and states(folder) == ['done', 'failed', 'done'] and runs(folder) == [1, 1, 1]
    assert trials.read(folder)['trials']['seed-1']['reason'] == 'not finite'
    (folder / 'fixed').touch()
    assert run_sweep() == 0 and states(folder) == ['done'] * 3 and runs(folder) == [2, 2, 1]  # the group goes on
    assert run_sweep() == 0 and runs(folder) == [2, 2, 1]
    assert '[1/2] 2-trials-' in capsys.readouterr().err
    for more in (['--processes=2'], ['--devices=2']):
        assert command.main(['--config=configs/gan.py', '--vmap=2', *more]) == 2
        assert '--vmap trains on one device' in capsys.readouterr().err


def test_the_sweeping_process_does_not_import_jax():
    program = 'import sys, genlab.sweep.__main__; sys.exit("jax" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', program], cwd=ROOT).returncode == 0


TINY = [
    '--config.train.steps=200', '--config.train.steps_per_call=1', '--config.train.log_every=10',
    '--config.checkpoint.every=20', '--config.train.sample_every=0', '--config.train.evaluate_every=end',
    '--config.data.batch_size=8', '--config.model.networks.features=(8,)', '--config.sample.count=8',
    '--config.sample.chunk=8', '--config.evaluate.count=16',
]  # fmt: skip
SWEEP = """
import runpy, sys
module = runpy.run_path({path!r})
get_config = module['get_config']
sweep_seed = module['sweep_seed']
sweep_lr = module['sweep_lr']
"""


@pytest.mark.slow
def test_a_killed_sweep_ends_as_one_that_was_not(tmp_path):
    """Kills a sweep of 3 learning rates and 8 seeds by SIGKILL within trials; the same command completes it."""
    (tmp_path / 'gan.py').write_text(SWEEP.format(path=str(ROOT / 'configs/gan.py')))

    def start(name):
        words = [sys.executable, '-m', 'genlab.sweep', f'--config={tmp_path}/gan.py', '--sweep=lr,seed', *TINY]
        environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
        return subprocess.Popen([*words, f'--workdir={tmp_path / name}', '--parallel=2'], cwd=ROOT, env=environment)

    def running():  # trials with a checkpoint that are not done
        begun = [path.parents[1] for path in (tmp_path / 'killed').glob('*/checkpoints/20')]
        return [folder for folder in begun if not (folder / 'report.html').exists()]

    killed = start('killed')
    while killed.poll() is None and not (len([*(tmp_path / 'killed').glob('*/report.html')]) >= 10 and running()):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    cut = running()
    assert cut
    assert start('killed').wait() == 0 and start('whole').wait() == 0
    assert any('continuing from step' in (folder / 'output-0.log').read_text() for folder in cut)
    names = sorted(path.parent.name for path in (tmp_path / 'whole').glob('*/config.json'))
    assert len(names) == 24

    def results(folder):
        keep = lambda row: {name: value for name, value in row.items() if '/' in name or name == 'step'}
        figures = json.loads((folder / 'evaluation.json').read_text())['figures']
        return [keep(row) for row in read_metrics(folder)], figures

    for name in names:
        assert results(tmp_path / 'killed' / name) == results(tmp_path / 'whole' / name)
    assert len({json.dumps(results(tmp_path / 'whole' / name)) for name in names}) == 24
