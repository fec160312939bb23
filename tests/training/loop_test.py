"""Tests the loop: resumed and uninterrupted runs have the same curve, and stopping loses nothing."""

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genlab
from genlab import data, evaluation, experiment, modes
from genlab.abilities import Sampler
from genlab.config import small
from genlab.errors import PREEMPTED, ConfigError, UserError
from genlab.reporting import comparison
from genlab.run import files, restarts
from genlab.run.logs import read_metrics
from genlab.sampling import drawing
from genlab.sweep import trials
from genlab.training import loop, parallel, totals
from genlab.training.checkpoint import Best, fault_of
from support.bucket import bucket
from support.imitated_wandb import Wandb
from support.runs import FILES, module_of

TOY = next(path for path in FILES if path.stem == 'gan')


def toy(**changes):
    """Returns a tiny dense GAN on points: 12 steps, a log line every 2, a checkpoint every 4."""
    config = small(module_of(TOY).get_config())
    config.train.update(steps=12, steps_per_call=1, log_every=2)
    config.checkpoint.every = 4
    config.data.resident = False
    config.update_from_flattened_dict(changes)
    return config


def go(config, folder):
    modes.train(config, experiment.load(config.experiment), folder)


def lines(folder):
    """Returns the rows of training, without the figures of samples."""
    return [row for row in read_metrics(folder) if 'seconds' in row]


def curve(folder):
    return {row['step']: {name: value for name, value in row.items() if '/' in name} for row in lines(folder)}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Returns the folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp('whole')
    go(toy(), folder)
    return folder


def test_the_workdir_is_complete(whole):
    for name in ('config.json', 'environment.json', 'networks.json', 'metrics.jsonl', 'report.html', 'samples/12.png'):
        assert (whole / name).exists(), name
    assert sorted(curve(whole)) == [2, 4, 6, 8, 10, 12]
    assert any((whole / 'tensorboard').iterdir())
    assert json.loads((whole / 'networks.json').read_text())['generator']['parameters'] > 0


def test_the_modes_of_the_samples_are_logged_and_drawn_over_training(tmp_path):
    """The samples are the data of one mode in eight: of high quality, and from a single mode."""
    config = toy(**{'train.sample_every': 4, 'train.steps_per_call': 2, 'sample.count': 16})
    centre = data.load(config.data).centres[3]

    def build(config, axis=None):
        made = experiment.load(config.experiment)(config, axis)
        sample = lambda variables, keys, condition: jnp.broadcast_to(jnp.asarray(centre), (len(keys), 2))
        return made._replace(sampler=Sampler(sample))

    modes.train(config, build, tmp_path)
    rows = [row for row in read_metrics(tmp_path) if 'samples/modes' in row]
    assert rows == [
        {'step': step, 'samples/modes': 1, 'samples/of_modes': 8, 'samples/high_quality': 1.0} for step in (4, 8, 12)
    ]
    page = (tmp_path / 'report.html').read_text()
    assert '<h3>samples: modes</h3>' in page and '<h3>samples: high quality</h3>' in page


def test_a_run_in_a_bucket_has_the_numbers_and_files_of_one_in_a_folder(whole, monkeypatch):
    save, uploaded = loop.Checkpoints.save, []

    def noted(self, step, *rest):
        uploaded.append((step, max(lines(folder), key=lambda row: row['step'])['step']))
        save(self, step, *rest)

    monkeypatch.setattr(loop.Checkpoints, 'save', noted)
    with bucket() as objects:
        folder = files.path_of('gs://lab/runs/gan')
        go(toy(**{'train.steps': 6}), folder)
        go(toy(), folder)
        assert curve(folder) == curve(whole)
        assert {step for step, _ in uploaded} == {4, 6, 8, 12} and all(step == line for step, line in uploaded)
        config = toy(**{'sample.count': 8})
        modes.evaluate(config, experiment.load(config.experiment), folder)
        assert trials.complete(folder, trials.Trial('gan', {}, 12, True, {}))
        modes.sample(config, experiment.load(config.experiment), folder, 8, None)
        made = {name.removeprefix('lab/runs/gan/') for name in objects}
        assert {
            'config.json',
            'evaluation.json',
            'restarts.json',
            'samples/6.png',
            'checkpoints/12/checksums.json',
        } <= made
        assert {path.name for path in whole.iterdir() if path.name != '.lock'} <= {name.split('/')[0] for name in made}
        assert {name.split('/')[1] for name in made if name.startswith('checkpoints/')} == {'6', '8', '12'}
        (drawn,) = (files.path_of(f'gs://{name}') for name in objects if name.endswith('samples.npz'))
        assert np.load(io.BytesIO(drawn.read_bytes()))['samples'].shape == (8, 2)
        assert comparison.gather([str(folder)])[0].rows
        state = genlab.load(str(folder)).state
    jax.tree.map(np.testing.assert_array_equal, state, genlab.load(whole).state)


def test_more_steps_continue_the_same_curve(whole, tmp_path):
    go(toy(**{'train.steps': 6}), tmp_path)
    go(toy(), tmp_path)
    assert curve(tmp_path) == curve(whole)


def test_a_finished_run_has_nothing_left_to_train(whole, capsys):
    before = curve(whole)
    go(toy(), whole)
    assert 'nothing left to train' in capsys.readouterr().err and curve(whole) == before
    assert restarts.read(whole) == (0, 0)


@pytest.fixture
def a_hangup_is_noticed():
    """Undoes nohup, under which the tests themselves may run."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGHUP])
@pytest.mark.usefixtures('a_hangup_is_noticed')
def test_a_signal_to_stop_finishes_the_step_and_saves(whole, tmp_path, monkeypatch, number):
    """Stops at step 5, between two log lines: the sums since the last line are saved too."""
    between = loop.Loop.between

    def interrupted(run):
        if run.step == 5:
            os.kill(os.getpid(), number)
        between(run)

    monkeypatch.setattr(loop.Loop, 'between', interrupted)
    with pytest.raises(loop.Preempted, match='stopped at step 5, saved') as stopped:
        go(toy(), tmp_path)
    assert stopped.value.exit_code == PREEMPTED == 42 and (tmp_path / 'checkpoints/5').exists()
    monkeypatch.undo()
    go(toy(), tmp_path)
    assert curve(tmp_path) == curve(whole)


def test_a_signal_while_the_data_are_loaded_stops_before_the_first_step(tmp_path, monkeypatch, capsys):
    prepare = loop.programs

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return prepare(*arguments)

    monkeypatch.setattr(loop, 'programs', interrupted)
    with pytest.raises(loop.Preempted, match='stopped at step 0, saved'):
        go(toy(), tmp_path)
    assert 'SIGTERM: finishing the preparation ...' in capsys.readouterr().err
    assert (tmp_path / 'checkpoints/0').exists() and not (tmp_path / 'metrics.jsonl').exists()


def test_a_signal_during_an_evaluation_is_answered_at_once(tmp_path, monkeypatch, capsys):
    """One signal finishes the evaluation and a step. A second SIGINT stops there; the last checkpoint is whole."""
    answers = []

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        answers.append(capsys.readouterr().err)
        if len(answers) == 2:
            signal.raise_signal(signal.SIGINT)
        raise ValueError('of no interest')

    monkeypatch.setattr(evaluation, 'evaluate', interrupted)
    config = toy(**{'train.evaluate_every': 2, 'checkpoint.every': 2})
    with pytest.raises(loop.Preempted, match='stopped at step 3, saved'):
        go(config, tmp_path)
    with pytest.raises(
        loop.Preempted, match='^interrupted; the last checkpoint is step 4: the same command'
    ) as stopped:
        go(config, tmp_path)
    assert [answer.splitlines()[-1] for answer in answers] == [
        f'genlab: SIGTERM: finishing the evaluation of step {step} ...' for step in (2, 4)
    ]
    assert stopped.value.exit_code == PREEMPTED and fault_of(tmp_path / 'checkpoints/4') is None


def test_a_second_interrupt_waits_for_a_checkpoint(capsys):
    with pytest.raises(KeyboardInterrupt), loop.Stop() as stop:
        signal.raise_signal(signal.SIGINT)
        with stop.during('the checkpoint', whole=True):
            signal.raise_signal(signal.SIGINT)
        assert 'SIGINT: finishing the checkpoint ...' in capsys.readouterr().err
        signal.raise_signal(signal.SIGINT)


def test_the_last_evaluation_comes_after_the_last_checkpoint(tmp_path, monkeypatch):
    saved = []

    def evaluate(*arguments):
        saved.append((tmp_path / 'checkpoints/4').exists())
        raise ValueError('of no interest')

    monkeypatch.setattr(evaluation, 'evaluate', evaluate)
    with pytest.raises(UserError, match='trained and saved'):
        go(toy(**{'train.steps': 4, 'train.evaluate_every': 2, 'checkpoint.every': 0}), tmp_path)
    assert saved == [False, True]


@pytest.mark.usefixtures('a_hangup_is_noticed')
def test_a_terminal_that_is_gone_fails_no_line(monkeypatch):
    """A signal handler writes on it, and so do later lines."""
    master, slave = os.openpty()
    terminal = open(slave, 'w', buffering=1)
    monkeypatch.setattr(sys, 'stdout', terminal)
    monkeypatch.setattr(sys, 'stderr', terminal)
    with loop.Stop() as stop:
        os.close(master)
        signal.raise_signal(signal.SIGHUP)
        assert stop.asked
    print('train 4/12')
    terminal.close()


def test_a_run_under_nohup_survives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with loop.Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_damaged_checkpoint_is_skipped(whole, tmp_path, capsys):
    go(toy(**{'train.steps': 8}), tmp_path)
    largest = max(
        (tmp_path / 'checkpoints/8/state').rglob('*'), key=lambda path: path.stat().st_size if path.is_file() else 0
    )
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    go(toy(), tmp_path)
    assert (
        'checkpoint 8 cannot be read (the checksum of' in (error := capsys.readouterr().err) and 'from step 4' in error
    )
    assert (tmp_path / 'checkpoints/damaged-8').exists() and curve(tmp_path) == curve(whole)
    assert restarts.read(tmp_path) == (1, 4)  # steps 5 to 8 were done twice


def test_calls_of_many_steps_and_a_resident_set_change_no_number(whole, tmp_path):
    # The labels, which this model does not read, are a domain of their own: the order of the points is unchanged.
    go(toy(**{'train.steps_per_call': 2, 'data.resident': True, 'data.unpaired': 'label'}), tmp_path)
    for step, row in curve(tmp_path).items():
        for name, value in row.items():
            np.testing.assert_allclose(value, curve(whole)[step][name], rtol=2e-5, err_msg=f'{step} {name}')


def test_a_number_that_is_not_finite_stops_the_run(tmp_path):
    """Makes the discriminator infinite in its turn of step 7; the loss of the generator is the first to show it."""
    config = toy(phases=({'until': 7}, {'optimizer.discriminator.learning_rate': float('inf')}))
    with pytest.raises(
        UserError, match=r'generator/adversarial is not finite at step 7; the last good checkpoint is step 4'
    ):
        go(config, tmp_path)
    assert not (tmp_path / 'checkpoints/8').exists()


def test_a_failure_that_repeats_is_printed_once(capsys):
    stop = types.SimpleNamespace(during=lambda name: contextlib.nullcontext())
    run = types.SimpleNamespace(failures={}, step=0, config=toy(), stop=stop)

    def fail():
        raise OSError(28, 'No space left on device', f'samples/{run.step}.png')

    for run.step in (2, 4, 6):
        loop.Loop.attempt(run, 'samples', fail)
    assert capsys.readouterr().err.count('warning') == 1
    ((line, count),) = run.failures.values()
    assert line.startswith('samples of step 2: OSError') and count == 3


def test_figures_are_printed_where_they_cannot_be_written(whole, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(30, 'Read-only file system')

    result = evaluation.Evaluation({'modes': 8}, {}, [], {}, {})
    monkeypatch.setattr(evaluation, 'evaluate', lambda *arguments: result)
    monkeypatch.setattr(evaluation, 'write', full)
    with pytest.raises(UserError, match='printed, but .* cannot be written .Read-only file system'):
        modes.evaluate(toy(), experiment.load('gan'), whole)
    assert json.loads(capsys.readouterr().out)['figures'] == {'modes': 8}


def test_a_disk_that_is_full_at_the_start_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, 'fsync', lambda descriptor: (_ for _ in ()).throw(OSError(28, 'No space left')))
    with pytest.raises(ConfigError, match='cannot write there .No space left'):
        go(toy(), tmp_path)


def test_on_nan_skip_leaves_the_player_unchanged_and_counts(tmp_path):
    config = toy(**{'train.steps': 8, 'train.on_nan': 'skip'})
    config.losses.generator.adversarial = float('nan')
    config.phases = ({'until': 4, 'losses.generator.adversarial': 1.0}, {})
    go(config, tmp_path)
    assert [row['skipped'] for row in lines(tmp_path)] == [0, 0, 2, 2]
    assert not any('any_skipped' in row for row in read_metrics(tmp_path))


def test_a_call_length_must_divide_the_remaining_steps(tmp_path):
    go(toy(**{'train.steps': 3}), tmp_path)
    with pytest.raises(ConfigError, match='steps_per_call=2 does not divide the 9 steps left from step 3'):
        go(toy(**{'train.steps_per_call': 2}), tmp_path)


def test_a_failing_evaluation_or_picture_costs_no_training(whole, tmp_path, monkeypatch, capsys):
    """The run trains to its end, saves, names what failed in one line, and ends with exit code 1."""

    def fail(*arguments):
        raise ValueError('one class\nonly')

    monkeypatch.setattr(evaluation, 'evaluate', fail)
    monkeypatch.setattr(drawing, 'show', fail)
    with pytest.raises(
        UserError, match='trained and saved, but these failed: samples of step 6: ValueError: one'
    ) as error:
        go(toy(**{'train.evaluate_every': 8, 'train.sample_every': 6}), tmp_path)
    assert error.value.exit_code == 1 and (tmp_path / 'checkpoints/12').exists() and (tmp_path / 'report.html').exists()
    assert 'warning: evaluation of step 8: ValueError: one class only; training continues' in capsys.readouterr().err
    assert curve(tmp_path) == curve(whole)


def test_phases_change_the_config_and_keep_the_state(whole, tmp_path):
    """Stops the learning in a second phase: the curve changes from there on and not before."""
    still = {'optimizer.generator.learning_rate': 0.0, 'optimizer.discriminator.learning_rate': 0.0}
    go(toy(phases=({'until': 6}, still)), tmp_path)
    same, other = curve(whole), curve(tmp_path)
    assert [same[step] == other[step] for step in sorted(same)] == [True] * 3 + [False] * 3


def test_another_config_is_refused_except_for_free_keys(whole):
    with pytest.raises(ConfigError, match=r'another config \(different data.batch_size, seed\)'):
        go(toy(**{'seed': 1, 'data.batch_size': 16}), whole)
    go(toy(**{'train.log_every': 4, 'placement': 'fsdp', 'checkpoint.keep': 1}), whole)


def test_a_second_run_in_one_folder_is_refused(whole):
    with files.lock(whole), pytest.raises(ConfigError, match='another run is writing there'):
        go(toy(), whole)


@pytest.mark.parametrize(
    'changes, message',
    [
        (
            {'losses.generator.kl': 1.0},
            r'config.losses.generator.kl: generator offers no such term; it offers adversarial',
        ),
        ({'train.steps': 7, 'train.steps_per_call': 2}, r'steps=7 is not a multiple of config.train.steps_per_call=2'),
        ({'data.batch_size': 6}, r'batch_size=6 does not divide over 4 devices'),
        ({'checkpoint.keep': 0}, r'config.checkpoint.keep=0: give a whole number, at least 1'),
        ({'sample.chunk': 0}, r'config.sample.chunk=0: give a whole number, at least 1'),
        ({'evaluate.count': -1}, r'config.evaluate.count=-1: give a whole number, at least 1'),
        ({'train.steps': -5}, r'config.train.steps=-5: give a whole number, at least 1'),
        ({'model.dtype': 'float64'}, r"config.model.dtype='float64': choose one of float32, bfloat16, float16"),
        ({'optimizer.generator.clip': -1.0}, r'config.optimizer.generator.clip=-1.0: give a number that is not neg'),
        ({'train.on_nan': 'hope'}, r"on_nan='hope': choose 'stop' or 'skip'"),
        ({'model.pair': 'hinged'}, r"config.model.pair='hinged': choose one of non_saturating"),
    ],
)
def test_incompatible_numbers_are_refused_before_the_first_step(tmp_path, changes, message):
    config = toy()
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message):
        go(config, tmp_path)
    assert not (tmp_path / 'metrics.jsonl').exists()


def test_the_loop_traces_a_step_once(tmp_path, monkeypatch):
    calls = []
    accumulate = totals.accumulate
    monkeypatch.setattr(totals, 'accumulate', lambda step: calls.append(step) or accumulate(step))
    go(toy(), tmp_path)
    assert len(calls) == 1


def test_samples_of_a_run_equal_those_of_sample_mode(whole, tmp_path):
    config = toy()
    build = experiment.load(config.experiment)
    modes.sample(config, build, whole, 5, 7)
    modes.sample(config, build, whole, 2, 7)  # fewer of the same samples, in the same folder
    (target,) = whole.glob('samples/step-12-seed-7-*')
    (target / '00007.png').write_bytes(b'of a command with more samples')
    modes.sample(config, build, whole, 5, 7)
    assert {path.name for path in target.iterdir()} == {'grid.png', 'samples.npz'}
    drawn = np.load(target / 'samples.npz')['samples']
    assert drawn.shape == (5, 2) and np.isfinite(drawn).all()
    step, state, _, placement = modes.restore(config, build, whole)
    assert step == 12 and int(state.step) == 12 and placement.axis == parallel.AXIS
    assert jax.tree.leaves(state.average)


def of_points(**figures):
    """Returns an evaluation with figures of one evaluator, whose protocol has the id x."""
    return evaluation.Evaluation(figures, {'points': {'id': 'x', 'figures': [*figures]}}, [], {}, {})


def test_the_best_checkpoint_by_a_figure_is_kept(tmp_path, monkeypatch):
    """Evaluations come between checkpoints, and keep=1: 4, 8 and 12 replace each other. A NaN is not the best."""
    values = {3: 5.0, 6: 1.0, 9: float('nan'), 12: 2.0}
    evaluate = lambda config, experiment, placement, state, note: of_points(sliced_wasserstein=values[int(state.step)])
    monkeypatch.setattr(evaluation, 'evaluate', evaluate)
    best = {'checkpoint.keep': 1, 'checkpoint.best': 'sliced_wasserstein', 'train.evaluate_every': 3}
    go(toy(**best), tmp_path)
    assert {path.name for path in (tmp_path / 'checkpoints').iterdir() if path.name.isdigit()} == {'6', '12'}
    config = toy()  # without the figure: a command that reads need not repeat it
    step, state, _, _ = modes.restore(config, experiment.load(config.experiment), tmp_path, 'best')
    assert step == 6 == int(state.step)


def test_figures_compare_by_their_direction_under_one_protocol(capsys):
    def better(result, figure='nll', before=None):
        config = toy(**{'checkpoint.best': figure})
        run = types.SimpleNamespace(config=config, step=9, main=True, checkpoints=None)
        run.checkpoints = types.SimpleNamespace(best=lambda: before)
        return loop.Loop.better(run, result)

    before = Best(3, 'nll', 2.0, 'x')
    assert better(of_points(nll=1.0), before=before) == Best(9, 'nll', 1.0, 'x')
    assert better(of_points(nll=3.0), before=before) is None is better(of_points(nll=float('nan')))
    assert better(of_points(modes=3), 'modes', Best(3, 'modes', 2, 'x')).value == 3
    for other in (before._replace(protocol='y'), before._replace(figure='modes'), None):
        assert better(of_points(nll=3.0), before=other).value == 3.0
    assert better(of_points(nll=3.0), '') is None and not capsys.readouterr().err
    assert better(of_points(modes=3), 'psnr') is None is better(of_points(modes=3), 'psnr')
    assert capsys.readouterr().err.count("config.checkpoint.best='psnr' is not among the figures") == 1


@pytest.mark.parametrize(
    'changes, text',
    [
        ({'checkpoint.best': 'frechet_distence'}, 'did you mean frechet_distance'),
        ({'checkpoint.best': 'modes', 'train.evaluate_every': 0}, 'needs evaluations in training'),
    ],
)
def test_a_best_checkpoint_that_cannot_be_found_is_refused_before_the_first_step(tmp_path, changes, text):
    with pytest.raises(ConfigError, match=text):
        go(toy(**changes), tmp_path)
    assert not (tmp_path / 'checkpoints').exists()


def test_a_run_that_goes_on_with_wandb_brings_its_whole_curve(whole, tmp_path, monkeypatch):
    module, folder = Wandb(), tmp_path / 'run'
    monkeypatch.setitem(sys.modules, 'wandb', module)
    shutil.copytree(whole, folder)
    go(toy(**{'train.wandb': 'project'}), folder)
    [run], [history] = module.runs, module.histories.values()
    sent = {(step, name): value for step, row in history.items() for name, value in row.items()}
    written = {
        (row['step'], name): value for row in read_metrics(whole) for name, value in row.items() if name != 'step'
    }
    assert sent == pytest.approx(written) and len(history) == 6 and run.ended == 0
    assert module.settings[0]['config']['train']['steps'] == 12 and module.settings[0]['name'] == 'run'


def test_a_sink_that_is_not_installed_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(ConfigError, match='config.train.wandb needs the package wandb'):
        go(toy(**{'train.wandb': 'project'}), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
