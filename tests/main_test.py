"""Tests the command as a user runs it: from the root and from elsewhere, with bad input, and killed."""

import configparser
import inspect
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml
from absl import app

import genlab
from genlab import main
from genlab.run.logs import read_metrics
from support.runs import FILES, module_of

ROOT = pathlib.Path(__file__).parents[1]
TINY = [
    '--config.train.steps=12',
    '--config.train.log_every=2',
    '--config.train.steps_per_call=1',
    '--config.checkpoint.every=4',
    '--config.data.batch_size=8',
    '--config.model.networks.features=(8,)',
    '--config.sample.count=8',
    '--config.sample.chunk=8',
    '--config.evaluate.count=16',
    '--config.train.evaluate_every=end',
    '--config.train.sample_every=0',
]


def start(*arguments, config='configs/gan.py', cwd=ROOT, **environment):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), **environment}
    return subprocess.Popen(
        [sys.executable, '-m', 'genlab.main', *([f'--config={config}'] if config else []), *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Returns (exit code, stdout, the last line of stderr, stderr)."""
    out, error = process.communicate(timeout=240)
    return process.returncode, out, (error.strip().splitlines() or [''])[-1], error


def test_all_modes_from_elsewhere(tmp_path):
    code, out, _, error = finish(start(*TINY, cwd=tmp_path))
    assert code == 0, error
    folder = tmp_path / 'runs/gan'
    assert f'{folder.relative_to(tmp_path)}/report.html' in out and 'compiling the step' in error and 'took' in error
    assert json.loads((folder / 'evaluation.json').read_text())['figures']['of_modes'] == 8
    code, out, line, _ = finish(start(*TINY, '--mode=sample', '--checkpoint=5', cwd=tmp_path))
    assert code == 2 and '--checkpoint=5: there is no such step' in line and 'holds 4, 8, 12' in line
    code, out, _, error = finish(start(*TINY, '--mode=sample', '--count=3', '--seed=5', cwd=tmp_path))
    assert code == 0 and '3 samples of step 12' in out, error
    assert len([*folder.glob('samples/step-12-seed-5-*/grid.png')]) == 1
    (folder / 'evaluation.json').unlink()
    code, out, _, error = finish(start(*TINY, '--mode=evaluate', cwd=tmp_path))
    assert code == 0 and 'high_quality' in out and (folder / 'evaluation.json').exists(), error


def test_a_killed_run_resumes(tmp_path):
    """Kills a run after its first checkpoint by SIGKILL; the same command again completes the same curve."""
    more = [*TINY, '--config.train.steps=40', '--config.train.evaluate_every=0']
    whole = start(*more, f'--workdir={tmp_path}/whole')
    killed = start(*more, f'--workdir={tmp_path}/killed')
    while killed.poll() is None and not (tmp_path / 'killed/checkpoints/8').exists():
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert finish(whole)[0] == 0
    code, _, _, error = finish(start(*more, f'--workdir={tmp_path}/killed'))
    assert code == 0 and ('continuing from step' in error or 'nothing left' in error), error
    curves = [
        [
            {name: value for name, value in row.items() if '/' in name or name == 'step'}
            for row in read_metrics(tmp_path / run)
        ]
        for run in ('whole', 'killed')
    ]
    assert curves[0] == curves[1] and len(curves[0]) == 21  # the last row has the modes of the samples


def test_describe_as_json():
    code, out, _, error = finish(start('--mode=describe', '--json', config='configs/dcgan.py:paper64'))
    assert code == 0 and json.loads(out) == {'generator': 3576704, 'discriminator': 2765568}, error


BAD = {
    'unknown key': (['--config.train.stepz=3'], 2, 'unknown key config.train.stepz: did you mean config.train.steps?'),
    'wrong type': (['--config.train.steps=1e3'], 2, "config.train.steps=1e3: '1e3' is not a whole number"),
    'unknown term': (['--config.losses.generator.kl=1.0', '--workdir={tmp}/term'], 2, 'it offers adversarial'),
    'misspelt term': (['--config.losses.generator.adversaria=1.0'], 2, 'did you mean adversarial?'),
    'unknown option': (['--config.model.networks.feature=(3,)'], 2, 'dense has no such option; it has features (did'),
    'no number': (['--config.losses.generator.kl=high'], 2, 'the weight of a term is a number'),
    'unknown player': (['--config.losses.generatr.kl=1.0'], 2, 'did you mean config.losses.generator?'),
    'unknown flag': (['--wrkdir=x'], 2, 'unknown flag --wrkdir: did you mean --workdir?'),
    'unknown flag without a near one': (['--qqqq=x'], 2, 'unknown flag --qqqq: --help lists the flags'),
    'unknown experiment': (['--config.experiment=gam'], 2, 'there is no experiments/gam.py'),
    'no run': (['--mode=sample', '--workdir=nowhere'], 2, 'there is no run (no config.json)'),
    'unwritable': (['--workdir=/proc/genlab'], 2, 'cannot write there'),
    'missing device': (['--require=tpu'], 1, '--require=tpu, but JAX sees only cpu'),
    'unknown toy': (['--config.data.name=rind', '--workdir={tmp}/toy'], 2, 'did you mean ring?'),
    'unknown variant': (
        [],
        2,
        "variant='gird': choose one of grid, curve, moons, digits, saturating (did you mean grid?)",
        'configs/gan.py:gird',
    ),
    'no file': ([], 2, 'there is no such file; --mode=list prints', 'configs/qqq.py'),
    'near file': ([], 2, 'there is no such file (did you mean configs/dcgan.py?)', 'configs/dcgna.py'),
    'name alone': ([], 2, '(did you mean configs/dcgan.py?)', 'dcgan'),
    'no config': ([], 2, 'which config? e.g. --config=', None),
    'config without its flag': (['configs/gan.py'], 2, 'did you mean --config=configs/gan.py?', None),
    'variant after a comma': ([], 2, '(did you mean configs/gan.py:grid?)', 'configs/gan.py,grid'),
    'mode without its flag': (['sample'], 2, "'sample' is not a flag: did you mean --mode=sample?"),
    'word': (['runs/gan'], 2, "'runs/gan' is not a flag: flags begin with --, such as --mode=sample"),
    'key without its beginning': (['--train.steps=3'], 2, 'did you mean --config.train.steps?'),
    'end of a key': (['--learning_rate=3'], 2, 'did you mean --config.optimizer.discriminator.learning_rate or --conf'),
    'key of another level': (['--config.steps=3'], 2, 'unknown key config.steps: did you mean config.explore.steps or'),
    'checkpoint of training': (['--checkpoint=best'], 2, 'does not apply to --mode=train: it is for --mode=sample'),
}


def typed(arguments, config, capsys, monkeypatch):
    """Runs the command in this process. Returns its exit code and stderr."""
    words = ['main', *([f'--config={config}'] if config else []), *arguments]
    monkeypatch.setattr(sys, 'argv', list(words))
    main.FLAGS.unparse_flags()
    with pytest.raises(SystemExit) as stopped:
        sys.exit(main.guarded(main.run, main.guarded(main.parse, words)))
    for name in ('config', 'workdir', 'mode', 'require', 'checkpoint'):
        main.FLAGS[name].unparse()
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize('name', BAD)
def test_bad_input_is_one_line_and_an_exit_code(name, tmp_path, capsys, monkeypatch):
    arguments, code, text, *config = BAD[name]
    monkeypatch.chdir(tmp_path)
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    found, error = typed(given, *(config or ['configs/gan.py']), capsys, monkeypatch)
    line = error.strip().splitlines()[-1]
    assert found == code and text in line and line.startswith('genlab: '), error
    assert 'Traceback' not in error
    assert not [*tmp_path.iterdir()]


def test_help_is_no_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        app.run(lambda argv: None, ['main', '--help'], flags_parser=main.parse)
    assert stopped.value.code == 0 and '--helpfull' in capsys.readouterr().out


def test_bad_input_of_a_process():
    code, _, line, error = finish(start('--config.train.stepz=3'))
    assert code == 2 and line.startswith('genlab: unknown key config.train.stepz') and 'Traceback' not in error


def test_running_out_of_memory_says_what_helps():
    line = main.one_line(RuntimeError('RESOURCE_EXHAUSTED: Out of memory\nallocating 5 bytes'))
    assert line.startswith('out of memory: raise config.train.microbatches') and 'allocating 5 bytes' in line


def test_debug_shows_the_traceback(tmp_path):
    code, _, _, error = finish(start('--mode=sample', f'--workdir={tmp_path}', '--debug'))
    assert code == 1 and 'Traceback' in error and 'ConfigError' in error


def test_an_interrupt_during_the_imports_is_one_line():
    """Python prints a line per module imported, so the signal arrives while the imports go on."""
    process = subprocess.Popen(
        [sys.executable, '-X', 'importtime', '-m', 'genlab.main', '--config=configs/gan.py'],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while 'absl.flags' not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, _, line, error = finish(process)
    assert code == 130 and line.endswith('genlab: interrupted') and 'Traceback' not in error


def test_an_interrupt_later_is_one_line_too(capsys):
    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        main.guarded(stopped)
    assert left.value.code == 130 and capsys.readouterr().err == 'genlab: interrupted\n'


def test_the_list_has_every_config_and_variant(capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['main', '--mode=list'])
    main.FLAGS.unparse_flags()
    main.parse(sys.argv)
    assert main.run() == 0
    main.FLAGS['mode'].unparse()
    lines = capsys.readouterr().out.splitlines()
    paths = [line.split()[0] for line in lines if line.startswith('configs/')]
    assert paths == [f'configs/{file.name}' for file in FILES]
    assert '        :mnist, s2, b2, xl2' in lines and max(map(len, lines)) <= 120


def test_the_outline_of_a_config_is_that_of_its_module():
    for file in FILES:
        module = module_of(file)
        docstring, variants = main.outline(file)
        assert docstring.split()[0] == module.__doc__.split()[0] and [*variants] == [*module.VARIANTS]
        assert variants == {name: inspect.getdoc(variant) or '' for name, variant in module.VARIANTS.items()}


def test_the_list_has_the_configs_of_the_current_folder_without_running_them(tmp_path, monkeypatch):
    (tmp_path / 'configs').mkdir()
    write = lambda name, text: (tmp_path / 'configs' / name).write_text(text)
    write(
        'mine.py', '"""A system of mine. More."""\n1 / 0\ndef get_config(variant=""): ...\nVARIANTS = {"big": None}\n'
    )
    write('broken.py', 'def get_config(:')
    write('other.py', 'print("no config of genlab")\n')
    monkeypatch.chdir(tmp_path)
    lines = main.listing().splitlines()
    place = lines.index(f'configs/{"mine.py":24}A system of mine')
    assert lines[place + 1] == '        :big' and not any('other.py' in line for line in lines)
    assert any('broken.py' in line and 'cannot be read' in line for line in lines)
    assert any(line.startswith('configs/dcgan.py') for line in lines)


def test_an_installation_holds_the_configs():
    setuptools = pytest.importorskip('setuptools')
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    assert setup['options']['packages'] == 'find_namespace:'
    include = setup['options.packages.find']['include'].split()
    found = setuptools.find_namespace_packages(str(ROOT), include=include)
    assert {'configs', 'experiments', 'genlab', 'genlab.training'} <= {*found}
    files = [
        path for name in ('configs', 'experiments', 'genlab') for path in (ROOT / name).rglob('*') if path.is_file()
    ]
    others = [path for path in files if path.suffix != '.py' and path.parent.name != '__pycache__']
    data = {name: re.split(r'[,\s]+', patterns) for name, patterns in setup['options.package_data'].items()}
    left_out = [
        path
        for path in others
        if not any(path.match(one) for one in data.get('.'.join(path.parent.relative_to(ROOT).parts), ()))
    ]
    assert left_out == [], 'a wheel holds modules alone: declare these as package_data'
    assert ROOT / 'genlab/reporting/templates/page.html' in others


def test_a_config_is_found_here_and_then_beside_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argument = '--config=configs/dcgan.py:mnist'
    assert main.locate(argument) == f'--config={ROOT}/configs/dcgan.py:mnist'
    (tmp_path / 'configs').mkdir()
    assert main.locate(argument) == f'--config={ROOT}/configs/dcgan.py:mnist'
    (tmp_path / 'configs/dcgan.py').write_text('')
    assert main.locate(argument) == argument


def test_the_citation_is_complete_and_of_this_version():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert {'authors', 'cff-version', 'message', 'title'} <= {*citation}  # what CFF 1.2.0 requires
    assert citation['cff-version'] == '1.2.0' and citation['version'] == genlab.__version__


@pytest.mark.parametrize('number', [signal.SIGTERM])
def test_a_signal_to_stop_gives_exit_code_42(tmp_path, number):
    process = start(*TINY, '--config.train.steps=100000', f'--workdir={tmp_path}')
    while process.poll() is None and not (tmp_path / 'metrics.jsonl').exists():
        time.sleep(0.05)
    process.send_signal(number)
    code, _, line, error = finish(process)
    assert code == 42 and 'the same command continues from there' in line, error
