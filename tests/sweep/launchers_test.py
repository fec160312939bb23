"""Tests of the launchers with small shell scripts in place of trainings."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from genlab.errors import ConfigError, UserError
from genlab.run.files import lock
from genlab.sweep.launchers import FINAL, Job
from genlab.sweep.launchers.cloud import Storage, slice_of
from genlab.sweep.launchers.jobset import JobSet
from genlab.sweep.launchers.local import Local, shares
from genlab.sweep.launchers.slurm import Slurm
from genlab.sweep.trials import Command, Layout, Sweep, Trial, commands
from support.runs import ROOT

STORAGE = Storage('10.0.0.2', '/genlab', '/runs')

# Notes that it runs, and exits with the next of its codes; 42 saves a checkpoint first.
TRAIN = """
folder=$1; shift; codes=($1)
echo $$ > "$folder/pid"; echo start >> "$folder/runs"; number=$(wc -l < "$folder/runs"); code=${codes[$((number - 1))]}
trap 'exit 42' TERM
for wait in $(seq ${WAIT:-1}); do sleep 0.02; done
[ "$code" = 42 ] && mkdir -p "$folder/checkpoints/$number"
echo stop >> "$folder/ends"
exit "$code"
"""


def job(folder, name, *codes, **environment):
    """Returns a job with one process per text of exit codes, one code per attempt."""
    place = folder / name
    folders = [place] if len(codes) == 1 else [place / str(n) for n in range(len(codes))]
    for path in folders:
        path.mkdir(parents=True, exist_ok=True)
    words = [['bash', '-c', TRAIN, 'train', str(path), text] for path, text in zip(folders, codes)]
    return Job(name, place, [Command(part, environment) for part in words])


def until(true, seconds=120.0):
    """Waits until a condition holds."""
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


def until_ended(launcher):
    """Polls to the end; returns the statuses, and the largest number of jobs that ran at once."""
    most = [0]

    def ended():
        states = [status.state for status in launcher.poll().values()]
        most.append(states.count('running'))
        return all(state in FINAL for state in states)

    until(ended)
    return launcher.poll(), max(most)


def attempts_of(job):
    return len((job.folder / 'runs').read_text().split())


def test_local_runs_several_at_a_time_and_follows_exit_codes(tmp_path):
    jobs = [
        job(tmp_path, 'good', '0'),
        job(tmp_path, 'preempted', '42 42 42 42 0'),
        job(tmp_path, 'refused', '2 0'),
        job(tmp_path, 'lucky', '1 3 0'),
        job(tmp_path, 'broken', '1 1 1 1'),
        job(tmp_path, 'two', '0 0', '42 0'),
        job(tmp_path, 'lost', '42 42 42', '1 1 1'),
    ]
    launcher = Local(2, 2, 0.0)
    launcher.submit(jobs)
    statuses, most = until_ended(launcher)
    assert most == 2
    assert {name: status.state for name, status in statuses.items()} == {
        'good': 'done', 'preempted': 'done', 'refused': 'refused', 'lucky': 'done', 'broken': 'failed', 'two': 'done',
        'lost': 'failed',
    }  # fmt: skip
    assert [attempts_of(one) for one in jobs[:5]] == [1, 5, 1, 3, 3]
    assert 'exit code 1' in statuses['lost'].reason  # a crash beats 42
    assert (tmp_path / 'good/output-0.log').exists()


def test_cancel_lets_running_trials_save_and_starts_no_others(tmp_path):
    jobs = [job(tmp_path, name, '0', WAIT='2000') for name in 'abc']
    launcher = Local(2, 2, 0.0)
    launcher.submit(jobs)
    until(lambda: launcher.poll() and all((tmp_path / name / 'runs').exists() for name in 'ab'))
    time.sleep(0.1)  # for the trap behind it
    launcher.cancel()
    statuses, _ = until_ended(launcher)
    assert {status.state for status in statuses.values()} == {'stopped'}
    assert not (tmp_path / 'c/runs').exists() and not (tmp_path / 'a/ends').exists()


def test_a_trial_that_a_stop_ends_before_it_has_begun_has_not_failed(tmp_path):
    (tmp_path / 'a').mkdir()
    launcher = Local(1, 0, 0.0)
    launcher.submit([Job('a', tmp_path / 'a', [Command(['sleep', '60'], {})])])
    assert launcher.poll()['a'].state == 'running'
    launcher.cancel()
    assert until_ended(launcher)[0]['a'].state == 'stopped'


def test_a_trial_waits_while_another_process_writes_in_its_folder(tmp_path):
    one = job(tmp_path, 'a', '0')
    launcher = Local(1, 0, 0.0)
    with lock(one.folder):
        launcher.submit([one])
        for _ in range(3):
            assert launcher.poll()['a'].state == 'waiting'
    assert until_ended(launcher)[0]['a'].state == 'done' and attempts_of(one) == 1


@pytest.mark.skipif(not hasattr(os, 'sched_getaffinity'), reason='cores cannot be chosen')
def test_trials_get_cores_and_environment_of_their_own(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    assert shares(1) == [cores] and shares(len(cores) + 1) == [[]] * (len(cores) + 1)
    assert len({core for part in shares(len(cores)) for core in part}) == len(cores)
    words = [sys.executable, '-S', '-c', 'import os; print(sorted(os.sched_getaffinity(0)), os.environ["ADDED"])']
    (tmp_path / 'a').mkdir()
    launcher = Local(len(cores), 0, 0.0)
    launcher.submit([Job('a', tmp_path / 'a', [Command(words, {'ADDED': 'x y'})])])
    assert until_ended(launcher)[0]['a'].state == 'done'
    assert (tmp_path / 'a/output-0.log').read_text() == f'{cores[:1]} x y\n'


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='asks the kernel of Linux')
def test_a_sweep_that_is_killed_takes_its_trials_with_it(tmp_path):
    one = job(tmp_path, 'a', '0', WAIT='2000')
    program = f"""
import pathlib
from genlab.sweep.launchers import Job
from genlab.sweep.launchers.local import Local
from genlab.sweep.trials import Command
launcher = Local(1, 0, 0.0)
launcher.submit([Job('a', pathlib.Path({str(one.folder)!r}), [Command({one.commands[0].words!r}, {{'WAIT': '2000'}})])])
while True:
    launcher.poll()
"""
    sweep = subprocess.Popen([sys.executable, '-c', program], cwd=ROOT)
    until((one.folder / 'runs').exists)
    child = int((one.folder / 'pid').read_text())
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    until(lambda: not pathlib.Path(f'/proc/{child}').exists())
    assert not (one.folder / 'ends').exists()


def trial_jobs(folder, layout):
    trial = Trial('rate-1', {'data.name': 'a b', 'seed': 3}, 10, False, {})
    made = commands(Sweep('configs/gan.py', 'seed', ['--config.train.steps=10'], folder, layout), trial)
    return [Job(trial.id, folder / trial.id, made)]


def test_commands_are_printed_as_they_run(tmp_path, monkeypatch):
    monkeypatch.setenv('XLA_FLAGS', '--xla_a=1')
    (line,) = Local(1, 0, 0.0).render(trial_jobs(tmp_path, Layout())).splitlines()
    assert line == (
        f'{sys.executable} -m genlab.main --config=configs/gan.py --workdir={tmp_path}/rate-1 --config.train.steps=10 '
        "'--config.data.name=a b' --config.seed=3"
    )
    lines = Local(1, 0, 0.0).render(trial_jobs(tmp_path, Layout(2, 2))).splitlines()
    assert [line.rpartition(' ')[2] for line in lines] == ['--process_id=0', '--process_id=1']
    assert all(line.startswith("XLA_FLAGS='--xla_a=1 --xla_force_host_platform_device_count=2' /") for line in lines)
    assert len({line.partition('--coordinator=')[2].split()[0] for line in lines}) == 1


# Slurm's commands, as far as the launcher needs them. A requeued task runs again at once.
SLURM = {
    'sbatch': """
script=$2; echo 77
for index in $(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' $script | xargs seq 0); do
  while rm -f $QUEUE/again; SLURM_ARRAY_TASK_ID=$index SLURM_ARRAY_JOB_ID=77 SLURM_JOB_NODELIST=n bash $script >&2
  [ -e $QUEUE/again ]; do :; done
done""",
    'srun': """
tasks=${1#--ntasks=}; shift 2
set -m  # each task in a process group of its own
for id in $(seq 0 $((tasks - 1))); do SLURM_PROCID=$id "$@" & done
if [ -e $QUEUE/preempt ]; then
  while ! [ -e $QUEUE/started ]; do sleep 0.02; done
  rm $QUEUE/preempt; kill -TERM -- -$!
  [ -e $QUEUE/cancel ] && kill -TERM $PPID
fi
wait; exit 42""",
    'scontrol': """
if [ $1 = requeue ]; then echo $2 >> $QUEUE/requeued; touch $QUEUE/again; else echo host7; echo host8; fi""",
    'squeue': """
[ -e $QUEUE/listed ] && cat $QUEUE/listed || { echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1; }""",
    'scancel': 'echo $1 > $QUEUE/cancelled',
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    for name, text in SLURM.items():
        path = tmp_path / 'bin' / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/bash\n{text}\n')
        path.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('QUEUE', str(tmp_path / 'bin'))
    return tmp_path


def test_the_batch_script_requeues_on_42_and_only_then(slurm):
    jobs = [job(slurm, 'preempted', '42 0'), job(slurm, 'refused', '2 0'), job(slurm, 'broken', '1 0')]
    launcher = Slurm(slurm, 2, 0, '--time=1:00 --partition=gpu')
    launcher.submit(jobs)
    statuses = launcher.poll()
    assert {name: status.state for name, status in statuses.items()} == {
        'preempted': 'done', 'refused': 'refused', 'broken': 'failed'
    }  # fmt: skip
    assert (slurm / 'bin/requeued').read_text() == '77_0\n'
    assert [attempts_of(one) for one in jobs] == [2, 1, 1]
    text = (slurm / 'slurm/array.sh').read_text()
    assert '#SBATCH --array=0-2%2\n' in text and '#SBATCH --time=1:00\n#SBATCH --partition=gpu\n' in text
    assert '#SBATCH --requeue\n' in text and '#SBATCH --signal=TERM@120\n' in text


def test_a_preempted_task_saves_and_runs_again(slurm):
    """SIGTERM reaches the shell around a process too, which must outlive it to write its code."""
    assert after_sigterm(slurm).state == 'done' and (slurm / 'bin/requeued').read_text() == '77_0\n'


def test_a_cancelled_task_is_not_requeued(slurm):
    """scancel sends SIGTERM to the batch script too."""
    (slurm / 'bin/cancel').touch()
    assert after_sigterm(slurm).state == 'failed' and not (slurm / 'bin/requeued').exists()


def after_sigterm(slurm):
    """Returns the status of a trial that gets SIGTERM in its first attempt, and ends in a second one."""
    (slurm / 'bin/preempt').touch()
    wait = 'touch $QUEUE/started; trap "exit 42" TERM; for n in $(seq 2000); do sleep 0.02; done'
    (slurm / 'a').mkdir()
    once = f'[ -e $1/first ] && exit 0; touch $1/first; {wait}'
    launcher = Slurm(slurm, 1, 0)
    launcher.submit([Job('a', slurm / 'a', [Command(['bash', '-c', once, 'train', str(slurm / 'a')], {})])])
    for _ in range(3):
        status = launcher.poll()['a']
    return status


def test_the_queue_tells_what_waits_and_runs(slurm):
    jobs = [job(slurm, name, '0') for name in 'abc']
    (slurm / 'bin/sbatch').write_text('#!/bin/bash\necho 77')
    launcher = Slurm(slurm, 2, 0)
    launcher.submit(jobs)
    (slurm / 'bin/listed').write_text('0 RUNNING\n1 PENDING\n')

    def states():
        statuses = launcher.poll()
        return [statuses[name].state for name in 'abc']

    assert states() == states() == ['running', 'waiting', 'waiting']  # c may be on its way back into the queue
    (slurm / 'bin/listed').write_text('0 RUNNING\n1 PENDING\n2 PENDING\n')
    states()
    (slurm / 'bin/listed').write_text('0 RUNNING\n1 PENDING\n')
    assert states() == states() == ['running', 'waiting', 'waiting']
    assert states() == ['running', 'waiting', 'failed']
    launcher.cancel()
    (slurm / 'bin/listed').unlink()
    assert (slurm / 'bin/cancelled').read_text() == '77\n'
    assert {status.state for status in launcher.poll().values()} == {'stopped'}
    (slurm / 'bin/squeue').write_text('#!/bin/bash\necho down >&2; exit 1')
    with pytest.raises(UserError, match='down'):
        launcher.poll()


def test_two_processes_under_slurm_get_the_arguments_of_a_local_trial(slurm):
    """The processes see the same words as `Local` starts, except for the host of the coordinator."""
    layout = Layout(2, 2)
    (whole,) = trial_jobs(slurm, layout)
    show = ['bash', '-c', 'printf "%s\\n" "$XLA_FLAGS" "$@" > "$0.$SLURM_PROCID"', str(slurm / 'words')]
    fake = [Command([*show, *command.words[3:]], command.environment) for command in whole.commands]
    Slurm(slurm, 1, 0).submit([whole._replace(commands=fake)])
    for number, command in enumerate(whole.commands):
        wanted = [command.environment['XLA_FLAGS'], *command.words[3:]]
        found = (slurm / f'words.{number}').read_text().splitlines()
        assert found == [word.replace('=localhost:', '=host7:') for word in wanted]


def test_a_scheduler_that_is_absent_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(ConfigError, match='there is no sbatch on this machine: run the sweep where Slurm'):
        Slurm(tmp_path, 1, 0).submit([job(tmp_path, 'a', '0')])


@pytest.mark.parametrize(
    'text, hosts, chips',
    [('v5e:2x4', 1, 8), ('v5e:4x4', 4, 4), ('v5e:16x16', 64, 4), ('v4:2x2x1', 1, 4), ('v4:2x2x4', 4, 4)],
)
def test_slices(text, hosts, chips):
    assert slice_of(text)[2:] == (hosts, chips)


@pytest.mark.parametrize('text', ['v5e', 'v5e:4', 'v5e:4x4x4', 'v9:2x2', 'v4:4x4', 'v5e:0x4', 'v5e:3x3'])
def test_wrong_slices_are_refused(text):
    with pytest.raises(ConfigError, match='--topology'):
        slice_of(text)


def test_a_jobset_has_one_job_per_slice_and_one_pod_per_host(tmp_path):
    yaml = pytest.importorskip('yaml')
    launcher = JobSet('GAN_lr', 'registry/genlab:1', 'v5e:4x4', 2, 'queue', 3, STORAGE)
    jobs = trial_jobs(tmp_path, Layout())
    manifest = launcher.manifest(jobs[0])
    assert list(yaml.safe_load_all(launcher.render(jobs * 2))) == [manifest, manifest]
    spec = manifest['spec']['replicatedJobs'][0]
    work = spec['template']['spec']
    pod = work['template']['spec']
    assert (spec['replicas'], work['parallelism'], work['completions']) == (2, 4, 4)
    assert manifest['spec']['failurePolicy']['maxRestarts'] == 3 and work['backoffLimit'] == 0
    assert manifest['metadata']['labels']['kueue.x-k8s.io/queue-name'] == 'queue'
    rules = {rule['action']: rule['onExitCodes']['values'] for rule in work['podFailurePolicy']['rules'][::2]}
    assert rules == {'Ignore': [42], 'FailJob': [2]} and pod['restartPolicy'] == 'Never'  # which such rules need
    container = pod['containers'][0]
    assert container['resources']['limits'] == {'google.com/tpu': 4}
    assert container['volumeMounts'] == [{'name': 'runs', 'mountPath': '/runs'}]
    assert pod['volumes'] == [{'name': 'runs', 'nfs': {'server': '10.0.0.2', 'path': '/genlab'}}]
    name = manifest['metadata']['name']
    assert f'--coordinator={name}-slice-0-0.{name}:8476 --processes=8' in container['command'][2]
    line = container['command'][2].replace('exec python', 'echo')
    shown = subprocess.run(
        ['bash', '-c', line], env={**os.environ, 'JOB_INDEX': '1', 'JOB_COMPLETION_INDEX': '2'}, capture_output=True
    )
    assert shown.stdout.decode().split()[-1] == '--process_id=6'
    assert len(name) <= 40
    for layout in (Layout(2), Layout(1, 2)):
        with pytest.raises(ConfigError, match='--processes and --devices do not go with'):
            launcher.render(trial_jobs(tmp_path, layout))


def faults(schema, value, path):
    """Yields what is wrong with a value by an OpenAPI schema, with its path. Fields that it does not name are wrong."""
    kinds = {'object': dict, 'array': list, 'string': str, 'integer': int, 'number': (int, float), 'boolean': bool}
    either = schema.get('x-kubernetes-int-or-string')
    kind = (int, str) if either else kinds[schema['type']]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        yield f'{path}: {value!r} is no {schema.get("type", "number or string")}'
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from faults(schema['items'], inner, f'{path}[{at}]')
    elif isinstance(value, dict):
        known, rest = schema.get('properties', {}), schema.get('additionalProperties')
        yield from (f'{path}.{name} is missing' for name in schema.get('required', ()) if name not in value)
        for name, inner in value.items():
            if name in known or rest:
                yield from faults(known.get(name, rest), inner, f'{path}.{name}')
            elif path != '.metadata':  # of which a CRD says nothing
                yield f'{path}.{name} is unknown'
    else:
        if 'enum' in schema and value not in schema['enum']:
            yield f'{path}: {value!r} is none of {schema["enum"]}'
        if 'pattern' in schema and not re.search(schema['pattern'], str(value)):
            yield f'{path}: {value!r} does not match {schema["pattern"]}'


@pytest.fixture(scope='module')
def schema():
    found = json.loads((pathlib.Path(__file__).parent / 'jobset_schema.json').read_text())
    assert (found['group'], found['version'], found['kind']) == ('jobset.x-k8s.io', 'v1alpha2', 'JobSet')
    return found['schema']


@pytest.mark.parametrize('topology, slices', [('v5e:2x4', 1), ('v5e:16x16', 1), ('v4:2x2x4', 2)])
def test_manifests_fit_the_schema_of_jobset(tmp_path, schema, topology, slices):
    manifest = JobSet('a', 'image', topology, slices, 'queue', 3, STORAGE).manifest(trial_jobs(tmp_path, Layout())[0])
    assert (manifest['apiVersion'], manifest['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
    assert not list(faults(schema, manifest, ''))


@pytest.mark.parametrize(
    'path, value, fault',
    [
        ('spec.replicatedJobs.0.replicas', '2', "'2' is no integer"),
        ('spec.replicatedJobs.0.replica', 2, 'replica is unknown'),
        ('spec.replicatedJobs.0.name', None, 'None is no string'),
        ('spec.failurePolicy.rules.0', {'name': 'refused'}, 'action is missing'),
        ('spec.failurePolicy.rules.0.action', 'FailAll', "'FailAll' is none of"),
        ('spec.replicatedJobs.0.template.spec.completionmode', 'Indexed', 'completionmode is unknown'),
        ('spec.replicatedJobs.0.template.spec.backoffLimit', 0.5, '0.5 is no integer'),
        ('spec.replicatedJobs.0.template.spec.template.spec.nodeselector', {}, 'nodeselector is unknown'),
        ('spec.replicatedJobs.0.template.spec.template.spec.containers.0.command', 'bash', "'bash' is no array"),
        ('spec.replicatedJobs.0.template.spec.template.spec.containers.0.resources.limits.x', [], 'is no number or'),
        ('spec.replicatedJobs.0.template.spec.podFailurePolicy.rules.0.onExitCodes.values', ['x'], "'x' is no integer"),
    ],
)  # fmt: skip
def test_bad_fields_of_a_jobset_are_found(tmp_path, schema, path, value, fault):
    manifest = JobSet('a', 'image', 'v5e:4x4', 2, 'queue', 3, STORAGE).manifest(trial_jobs(tmp_path, Layout())[0])
    *above, last = path.split('.')
    part = manifest
    for key in above:
        part = part[int(key) if isinstance(part, list) else key]
    part[int(last) if isinstance(part, list) else last] = value
    (found,) = faults(schema, manifest, '')
    assert fault in found and last in found
