"""Tests the folder of a run: locks, compatible configs, and errors of a folder that holds another run."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from genlab import config as configs
from genlab import data, modes
from genlab.conditioning import Conditions
from genlab.config import ramp
from genlab.diffusion import one_step
from genlab.errors import ConfigError, UserError
from genlab.run import files, record, stops, workdir
from genlab.training.optimizers import adam

ROOT = pathlib.Path(__file__).parents[2]


def run_config():
    config = configs.defaults('gan')
    config.losses.generator = dict(adversarial=1.0)
    config.optimizer.generator = adam(1e-3)
    config.train.order = ('generator',)
    return config


def test_a_claim_writes_the_config_and_reads_it_back(tmp_path):
    config = run_config()
    workdir.create(tmp_path / 'a' / 'run')
    workdir.claim(tmp_path / 'a' / 'run', config)
    found = workdir.read(tmp_path / 'a' / 'run')
    assert found == workdir.plain(config) and found['train']['order'] == ['generator']
    assert (tmp_path / 'a' / 'run' / 'samples').is_dir()
    assert workdir.compare(tmp_path / 'a' / 'run', config) == []
    workdir.claim(tmp_path / 'a' / 'run', config)  # the same run again


def begin(path, config):
    """Claims a folder, and makes it one of a run that has a checkpoint."""
    workdir.claim(path, config)
    (path / 'checkpoints' / '1').mkdir(parents=True)


def test_a_run_that_failed_before_its_first_step_does_not_keep_its_folder(tmp_path):
    use(tmp_path, run_config(), source='digits')
    assert (tmp_path / workdir.RECORD).exists()
    other = run_config()
    other.seed = 1
    workdir.claim(tmp_path, other)
    assert workdir.read(tmp_path)['seed'] == 1 and not (tmp_path / workdir.RECORD).exists()


def test_a_folder_of_another_config_is_refused_and_unchanged(tmp_path):
    begin(tmp_path, run_config())
    before = (tmp_path / 'config.json').read_bytes()
    other = run_config()
    other.seed, other.optimizer.generator.learning_rate = 1, 2e-3
    keys = r'optimizer\.generator\.learning_rate, seed'
    with pytest.raises(ConfigError, match=rf'another config \(different {keys}\)') as error:
        workdir.claim(tmp_path, other)
    assert str(tmp_path) in str(error.value)
    assert (tmp_path / 'config.json').read_bytes() == before


def test_a_run_of_an_earlier_version_goes_on_with_the_defaults_of_newer_keys(tmp_path):
    config = run_config()
    workdir.claim(tmp_path, config)
    content = json.loads((tmp_path / 'config.json').read_text())
    del content['data']['hold_out'], content['explore']
    (tmp_path / 'config.json').write_text(json.dumps(content))
    assert workdir.compare(tmp_path, config) == []
    config.data.hold_out = True
    assert workdir.compare(tmp_path, config) == ['data.hold_out']


def test_keys_that_do_not_affect_training_may_change_and_are_recorded(tmp_path):
    workdir.claim(tmp_path, run_config())
    other = run_config()
    other.train.update(steps=5000, log_every=1, sample_every=0, evaluate_every=7, steps_per_call=10, on_nan='skip')
    other.checkpoint.keep, other.sample.count, other.evaluate.count, other.placement = 9, 1, 1, 'fsdp'
    other.data.update(resident=True, workers=2)
    workdir.claim(tmp_path, other)
    assert workdir.read(tmp_path)['train']['steps'] == 5000
    for key in ('train.microbatches', 'data.batch_size', 'seed'):
        moved = run_config()
        moved.update_from_flattened_dict({key: 2})
        assert workdir.compare(tmp_path, moved) == [key]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Returns (the folder of a run, its config, the folder of its 20 pictures in two classes)."""
    monkeypatch.setenv('GENLAB_CACHE', str(tmp_path / 'cache'))
    pictures, run = tmp_path / 'pictures', tmp_path / 'run'
    for n in range(20):
        save(pictures / ('red' if n % 2 else 'blue') / f'{n}.png', n)
    config = run_config()
    config.data.update(source='folder', dir=str(pictures), resolution=8)
    use(run, config)
    (run / 'metrics.jsonl').write_text('{"step": 1}\n')
    return run, config, pictures


def save(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), level, np.uint8)).save(path)


def use(run, config, **changes):
    """Does what every training command does with the folder of a run before the first step."""
    config.data.update(changes)
    workdir.claim(run, config)
    record.claim(run, config, data.load(config.data), write=True)


def contents(run):
    return {path.name: path.read_bytes() for path in run.iterdir()}


def warnings(capsys):
    """Returns what was printed on stderr, without the lines that say what a folder holds."""
    return [line for line in capsys.readouterr().err.splitlines() if 'training and' not in line]


def test_another_class_is_refused_and_nothing_changes(trained, capsys, monkeypatch):
    run, config, pictures = trained
    before = contents(run)
    save(pictures / 'green' / 'a.png', 50)  # between blue and red: red would become number 2
    for names in ("added 'green'", "added 'green' and removed 'red'"):
        with pytest.raises(ConfigError, match=f'not the data of the run in .*: class names differ: {names}: restore'):
            use(run, config)
        assert contents(run) == before
        if 'removed' not in names:
            shutil.rmtree(pictures / 'red')
    program = SimpleNamespace(config=config, experiment=SimpleNamespace(conditions=Conditions(classes=2)))
    monkeypatch.setattr(modes, 'restore', lambda *arguments: (1, None, program, None))
    for mode in (lambda: modes.sample(config, None, run, 1, 0, label='red'), lambda: modes.evaluate(config, None, run)):
        with pytest.raises(ConfigError, match='class names differ'):
            mode()
    assert warnings(capsys) == []


def test_changed_images_cause_a_warning_with_their_numbers_once(trained, capsys):
    run, config, pictures = trained
    save(pictures / 'red' / '1.png', 99)
    os.utime(pictures / 'red' / '1.png', (1, 1))
    (pictures / 'red' / '3.png').rename(pictures / 'red' / 'new.png')
    (pictures / 'red' / '5.png').unlink()
    use(run, config)
    (error,) = warnings(capsys)
    assert 'the data have changed' in error
    recorded = json.loads((run / 'data.json').read_text())
    assert recorded['changes'] and all(line in error for line in recorded['changes'])
    numbers = [re.findall(r'(\d+) (?:added|removed|changed)', line) for line in recorded['changes']]  # per split
    assert np.array(numbers, int).sum(0).tolist() == [1, 2, 1]
    use(run, config)
    assert warnings(capsys) == [] and json.loads((run / 'data.json').read_text()) == recorded


def test_a_folder_of_data_may_move_if_it_holds_the_same_files(trained, tmp_path, capsys):
    run, config, pictures = trained
    use(run, config, dir=f'{pictures}/')
    moved = tmp_path / 'elsewhere' / 'named_otherwise'
    shutil.copytree(pictures, moved)
    for path in moved.rglob('*.png'):
        os.utime(path, (1, 1))  # as a copy without times
    use(run, config, dir=str(moved))
    assert warnings(capsys) == [] and workdir.read(run)['data']['dir'] == str(moved)
    before = contents(run)
    save(pictures / 'red' / '7.png', 200)
    with pytest.raises(ConfigError, match='0 added, 0 removed, 1 changed.* give a folder with the same files'):
        use(run, config, dir=str(pictures))
    assert contents(run) == before
    (run / 'data.json').unlink()  # nothing to compare with: another folder is another config
    (run / 'checkpoints' / '1').mkdir(parents=True)
    with pytest.raises(ConfigError, match=r'different data\.dir'):
        use(run, config)
    with pytest.raises(ConfigError, match=r'different data.dir, data.images_dir'):
        use(run, config, dir=f'{moved}/', images_dir='elsewhere')
    use(run, config, dir=f'{moved}/', images_dir='')


def test_damaged_records_of_the_data(trained, capsys):
    run, config, pictures = trained
    save(pictures / 'red' / '1.png', 99)
    (run / 'data.npz').write_bytes(b'PK damaged')
    use(run, config)
    assert 'other data (' in capsys.readouterr().err
    for damaged in ('', '[]', '3', '{}'):
        (run / 'data.json').write_text(damaged)
        with pytest.raises(ConfigError, match='data.json is damaged: remove it'):
            use(run, config)


def test_a_longer_run_is_refused_if_a_ramp_lasts_to_its_end(tmp_path):
    config = run_config()
    config.optimizer.generator.learning_rate = configs.ramp(1e-3, 0.0)
    config.losses.generator.adversarial = configs.lazy(configs.ramp(0.0, 1.0, begin=100), every=4)
    begin(tmp_path, config)
    before = (tmp_path / 'config.json').read_bytes()
    longer = config.copy_and_resolve_references()
    longer.train.steps = 5000
    keys = 'losses.generator.adversarial.weight', 'optimizer.generator.learning_rate'
    with pytest.raises(ConfigError, match='config.train.steps=5000: ' + ', '.join(keys)) as error:
        workdir.claim(tmp_path, longer)
    assert (tmp_path / 'config.json').read_bytes() == before
    assert workdir.compare(tmp_path, longer) == []  # other modes accept any length
    flags = re.findall(r'--config\.(\S+)=(\d+)', str(error.value))
    assert flags == [(f'{keys[0]}.steps', '900'), (f'{keys[1]}.steps', '1000')]
    longer.update_from_flattened_dict({key: int(steps) for key, steps in flags})
    workdir.claim(tmp_path, longer)
    longer.train.steps = 6000
    workdir.claim(tmp_path, longer)
    longer.optimizer.generator.learning_rate.steps = 6000
    with pytest.raises(ConfigError, match=r'another config \(different optimizer.generator.learning_rate.steps\)'):
        workdir.claim(tmp_path, longer)


def test_a_longer_run_is_refused_if_a_ramp_of_a_phase_or_of_the_model_lasts_to_its_end(tmp_path):
    for number, change in enumerate(
        [
            dict(phases=({'until': 5, 'losses.generator.adversarial': configs.ramp(0, 1)}, {})),
            dict(model=dict(one_step=one_step.settings(intervals=configs.ramp(10, 1280)))),
        ]
    ):
        config = run_config()
        with config.unlocked():
            config.update(change)
        workdir.create(tmp_path / f'{number}')
        begin(tmp_path / f'{number}', config)
        config.train.steps = 5000
        with pytest.raises(ConfigError, match='a ramp without steps lasts as long as the run, which was 1000'):
            workdir.claim(tmp_path / f'{number}', config)


def test_checkpoints_without_their_config_are_refused(tmp_path):
    (tmp_path / 'checkpoints' / '40').mkdir(parents=True)
    with pytest.raises(ConfigError, match='it holds checkpoint 40 but no config.json: put back the config of the run'):
        workdir.claim(tmp_path, run_config())
    assert not (tmp_path / 'config.json').exists()


def test_after_a_stop_at_nan_a_rate_may_change_but_not_its_kind(tmp_path):
    begin(tmp_path, run_config())
    stops.record(tmp_path, 7, 'generator/loss is not finite at step 7')
    for rate, refused in ((1e-4, []), (5e-5, []), (ramp(1e-4, 0.0), ['optimizer.generator.learning_rate'])):
        config = run_config()
        config.optimizer.generator.learning_rate = rate
        assert workdir.compare(tmp_path, config) == refused
        if not refused:
            workdir.claim(tmp_path, config)
    (stop,) = json.loads((tmp_path / 'nan.json').read_text())['stops']
    assert stop['changes'] == {'optimizer.generator.learning_rate': [1e-3, 5e-5]}
    (tmp_path / 'checkpoints' / '8').mkdir(parents=True)
    assert workdir.compare(tmp_path, run_config()) == ['optimizer.generator.learning_rate']


LOCK = """
import pathlib, sys
from genlab.run import files
with files.lock(pathlib.Path(sys.argv[1])):
    print('held', flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_locked_until_its_process_ends(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, '-c', LOCK, tmp_path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == 'held\n'
        with pytest.raises(ConfigError, match='another run is writing there'), files.lock(tmp_path):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)  # for every kind of exit
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    with files.lock(tmp_path):
        pass
    with files.lock(tmp_path):  # this process releases it, too
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match='--workdir=.*file/run: cannot write there'):
        workdir.create(tmp_path / 'file' / 'run')
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'samples').write_text('')
    with pytest.raises(ConfigError, match='cannot write there'):
        workdir.create(tmp_path / 'run')


def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)  # root may write everywhere
    with pytest.raises(ConfigError, match=r'cannot write there \(Permission denied\)'):
        workdir.create(tmp_path)


def test_a_folder_without_a_run_and_one_with_a_damaged_config_are_named(tmp_path):
    with pytest.raises(UserError, match='there is no run'):
        workdir.read(tmp_path)
    (tmp_path / 'checkpoints' / '1').mkdir(parents=True)
    for content in ('{"seed": 0, "trai', '', '3', '[1]', '\x00'):
        (tmp_path / 'config.json').write_text(content)
        for use in (workdir.compare, workdir.claim):
            with pytest.raises(UserError, match='config.json is damaged'):
                use(tmp_path, run_config())
        assert (tmp_path / 'config.json').read_text() == content


def test_json_is_written_atomically(tmp_path, monkeypatch):
    path = tmp_path / 'config.json'
    files.write_json(path, {'a': 1})
    with pytest.raises(TypeError):
        files.write_json(path, {'a': object()})
    monkeypatch.setattr(os, 'replace', lambda *paths: (_ for _ in ()).throw(OSError('full')))
    with pytest.raises(OSError):
        files.write_json(path, {'a': 2})
    assert json.loads(path.read_text()) == {'a': 1}
    assert os.listdir(tmp_path) == ['config.json']


def test_the_environment_records_versions_and_devices(monkeypatch, tmp_path):
    import jax

    found = json.loads(json.dumps(workdir.environment()))
    assert found['backend'] == 'cpu' and len(found['devices']) == jax.device_count() and found['processes'] == 1
    assert found['versions']['jax'] == jax.__version__
    assert found['command'] is None  # the running program is not genlab.main
    monkeypatch.setattr(
        sys, 'orig_argv', ['python', '-m', 'genlab.main', '--config=configs/gan.py', '--workdir=/home/me/r']
    )
    assert workdir.environment()['command'] == 'python -m genlab.main --config=configs/gan.py'
    monkeypatch.setattr(workdir, '__file__', str(tmp_path / 'workdir.py'))  # outside a checkout
    assert workdir.environment()['git_commit'] is None
    git = lambda *words: subprocess.run(['git', '-C', str(tmp_path), *words], check=True, capture_output=True)
    git('init')
    git('-c', 'user.name=x', '-c', 'user.email=x', 'commit', '--allow-empty', '-m', 'of another project')
    (tmp_path / 'workdir.py').touch()  # installed within its folder
    assert workdir.environment()['git_commit'] is None
    git('add', 'workdir.py')
    assert workdir.environment()['git_commit']
