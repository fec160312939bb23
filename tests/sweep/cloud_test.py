"""Tests of the launchers of Cloud TPUs: what they would run, to the word, and what they make of the answers."""

import json
import pathlib
import shlex
import subprocess

import pytest

from genlab.errors import ConfigError
from genlab.run.files import path_of
from genlab.sweep import __main__ as command
from genlab.sweep import run, trials
from genlab.sweep.launchers import Job, Status, cloud, skypilot, tpu_vm, xpk
from genlab.sweep.launchers.jobset import JobSet
from genlab.sweep.launchers.skypilot import SkyPilot
from genlab.sweep.launchers.tpu_vm import TpuVm
from genlab.sweep.launchers.xpk import Xpk
from genlab.sweep.trials import Command, Sweep, Trial
from support.bucket import bucket

STORAGE = cloud.Storage('10.0.0.2', '/genlab', '/runs')


def jobs(folder, count=1):
    words = ['/usr/bin/python3', '-m', 'genlab.main', '--config=configs/gan.py']
    return [
        Job(f'seed-{seed}', folder / f'seed-{seed}', [Command([*words, f'--config.data.name=a {seed}'], {})])
        for seed in range(count)
    ]


class Answers:
    """Stands for `launchers.call`: notes commands, and answers by their first words."""

    def __init__(self, **answers):
        self.lines, self.answers = [], answers

    def __call__(self, words, needs, stdin=None):
        self.lines.append(shlex.join(words))
        return next((text for verb, text in self.answers.items() if verb in words), '')


@pytest.fixture(scope='module')
def objects():
    with bucket() as objects:
        yield objects


@pytest.mark.parametrize(
    'text, name',
    [('v5e:16x16', 'v5litepod-256'), ('v5e:4x8', 'v5litepod-32'), ('v5e:2x4', 'v5litepod-8'), ('v6e:4x4', 'v6e-16'),
     ('v4:2x2x1', 'v4-8'), ('v4:2x2x2', 'v4-16'), ('v5p:4x4x4', 'v5p-128'), ('v4:2x2x4', 'v4-32')],
)  # fmt: skip
def test_the_name_of_a_slice_stands_for_its_usual_topology(text, name):
    assert cloud.accelerator_type(text) == name


@pytest.mark.parametrize('text', ['v5e:2x8', 'v4:2x2x16', 'v5e:4x12'])
def test_a_topology_without_a_name_of_its_own_is_refused(text):
    cloud.slice_of(text)
    with pytest.raises(ConfigError, match='by their number of chips'):
        cloud.accelerator_type(text)


@pytest.mark.parametrize(
    'text, folder, line',
    [
        ('10.0.0.2:/genlab', '/runs/a', 'give an NFS export and where it is mounted'),
        ('gs://bucket:/runs', '/runs/a', 'give an NFS export'),
        ('10.0.0.2:/genlab:/runs', 'runs/a', '--workdir=runs/a: hosts write below /runs only: give --workdir=/runs/a'),
        ('10.0.0.2:/genlab:/runs', '/runs', 'hosts write below /runs only'),
    ],
)
def test_a_folder_that_hosts_do_not_share_is_refused(text, folder, line):
    with pytest.raises(ConfigError, match=line):
        cloud.storage_of(text, pathlib.Path(folder))
    assert cloud.storage_of('10.0.0.2:/genlab:/runs', pathlib.Path('/runs/a/b')) == STORAGE


@pytest.mark.parametrize(
    'words, line',
    [
        (['xpk'], '--launcher=xpk needs --image'),
        (['xpk', '--image=i', '--topology=v5e:4x4'], '--launcher=xpk needs --cluster'),
        (['tpu_vm', '--image=i', '--topology=v5e:4x4'], '--launcher=tpu_vm needs --zone'),
        (['skypilot', '--image=i', '--topology=v5e:4x4'], '--launcher=skypilot needs --storage'),
        (['skypilot', '--image=i', '--topology=v5e:4x4', '--storage=s', '--slices=2'], 'several slices need'),
        (['tpu_vm', '--image=i', '--topology=v9:4x4', '--zone=z', '--storage=s:/e:/runs'], "--topology='v9': choose"),
        (['xpk', '--image=i', '--topology=v5e:2x8', '--cluster=c', '--storage=s'], 'by their number of chips'),
        (['xpk', '--image=i', '--topology=v5e:4x4', '--cluster=C_1', '--storage=s'], '--cluster=C_1: a name of xpk'),
        (['xpk', '--image=i', '--topology=v5e:2x2', '--cluster=c', '--storage=s', '--slices=2'], 'several hosts'),
        (['xpk', '--vmap=4'], '--vmap trains on one device'),
        (['tpu_vm', '--workdir=gs://lab/a'], '--launcher=tpu_vm needs a folder of a file system'),
        (['local', '--workdir=gs://lab/a'], '--launcher=local needs a folder of a file system'),
        (['skypilot', '--workdir=gs://lab/a', '--image=i'], '--launcher=skypilot needs --topology'),
        (['tpu_vm', '--search=halving', '--budget=9'], 'it does not go with --launcher=tpu_vm'),
    ],
)  # fmt: skip
def test_bad_fields_are_refused_in_one_line(words, line, capsys, objects):
    launcher, *rest = words
    assert command.main(['--config=configs/gan.py', '--workdir=/runs/a', f'--launcher={launcher}', *rest]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert line in error


def test_xpk_creates_follows_and_deletes_workloads(monkeypatch):
    folder = pathlib.Path('/runs/GAN_lr')
    launcher = Xpk(folder.name, 'registry/genlab:1', 'v5e:16x16', 2, 'pod', 'us-west4-a', '', 'runs', 3)
    one, two = jobs(folder, 2)
    (line, _) = launcher.render([one, two]).splitlines()
    name = cloud.unique('GAN_lr', one)
    assert line == (
        f'xpk workload create --workload={name} --cluster=pod --zone=us-west4-a --tpu-type=v5litepod-256 '
        '--num-slices=2 --docker-image=registry/genlab:1 --storage=runs --max-restarts=3 --restart-on-exit-codes=1 '
        "--termination-grace-period-seconds=120 '--command=python -m genlab.main --config=configs/gan.py "
        "'\"'\"'--config.data.name=a 0'\"'\"''"
    )
    assert name.startswith('gan-lr-') and len(name) <= 40
    of = lambda job, kind: {
        'metadata': {'name': cloud.unique('GAN_lr', job)},
        'status': {'conditions': [{'type': kind, 'status': 'True', 'message': 'm'}]},
    }
    answers = Answers(kubectl=json.dumps({'items': [of(one, 'Completed')]}))
    monkeypatch.setattr(xpk, 'call', answers)
    launcher.submit([one, two])
    assert [line.split()[:3] for line in answers.lines] == [
        ['kubectl', 'get', 'jobsets'],
        ['xpk', 'workload', 'create'],
    ]
    assert cloud.unique('GAN_lr', two) in answers.lines[1]  # the other one is there
    states = launcher.poll()
    assert (states['seed-0'].state, states['seed-1'].reason) == ('done', 'its workload is gone')
    launcher.cancel()
    assert f'xpk workload delete --workload={name} --cluster=pod --zone=us-west4-a --force' in answers.lines
    assert {status.state for status in launcher.poll().values()} == {'stopped'}


SCRIPT = """#!/bin/bash
attribute() {
  curl -sf -H 'Metadata-Flavor: Google' "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}
mkdir -p /runs && mountpoint -q /runs || mount -t nfs 10.0.0.2:/genlab /runs
trial=/runs/gan/seed-0; codes=$trial/code-0; mkdir -p "$codes"
host=$(attribute agent-worker-number)
first=$(attribute worker-network-endpoints | cut -d , -f 1); first=${first##*:}
[ -e "$codes/$host" ] && exit
docker run --rm --privileged --net=host --volume=/runs:/runs registry/genlab:1 python -m genlab.main \
--config=configs/gan.py '--config.data.name=a 0' --coordinator=$first:8476 --processes=4 --process_id=$host >> \
"$trial/output-$host.log" 2>&1
echo $? > "$codes/$host.new" && mv "$codes/$host.new" "$codes/$host"
"""


def test_a_queued_resource_is_created_with_a_startup_script():
    folder = pathlib.Path('/runs/gan')
    launcher = TpuVm(cloud.Slices(folder, 'registry/genlab:1', 'v5e:4x4', STORAGE, 'us-west4-a', 'mine', True, 1))
    (one,) = jobs(folder)
    name = cloud.unique('gan', one)
    path = f'/runs/gan/tpu_vm/{name}-0.sh'
    assert launcher.render([one]) == (
        f"cat > {path} <<'END'\n{SCRIPT}END\n"
        f'gcloud compute tpus queued-resources create {name}-0 --node-id={name}-0 --zone=us-west4-a --project=mine '
        '--type=v5litepod --topology=4x4 --runtime-version=v2-alpha-tpuv5-lite --spot '
        f'--metadata-from-file=startup-script={path}\n'
    )


def test_the_startup_script_leaves_the_exit_code_of_each_host_once(tmp_path):
    """Runs the script with a shell, with functions in place of the services of a TPU VM."""
    storage = cloud.Storage('server', '/export', str(tmp_path))
    (one,) = jobs(tmp_path / 'gan')
    script = TpuVm(cloud.Slices(tmp_path / 'gan', 'image', 'v5e:4x4', storage, 'z', '', False, 1)).script(one, 0)
    fakes = """
    curl() { case "$4" in */agent-worker-number) echo 2;; *) echo 'a:1:10.1.1.1,b:2:10.1.1.2';; esac; }
    mountpoint() { true; }
    docker() { echo "$@"; return 42; }
    """
    for _ in range(2):
        subprocess.run(['bash', '-c', fakes + script], check=False)
    assert (one.folder / 'code-0/2').read_text() == '42\n'
    (line,) = (one.folder / 'output-2.log').read_text().splitlines()
    assert line.endswith('--coordinator=10.1.1.1:8476 --processes=4 --process_id=2')


def test_attempts_on_tpu_vms_follow_the_exit_codes_and_the_states_of_their_resources(tmp_path, monkeypatch):
    launcher = TpuVm(cloud.Slices(tmp_path, 'image', 'v5e:4x4', STORAGE, 'z', '', False, 1))
    one, two = jobs(tmp_path, 2)
    names = [cloud.unique(tmp_path.name, job) for job in (one, two)]
    answers = Answers(describe='WAITING_FOR_RESOURCES\n')
    monkeypatch.setattr(tpu_vm, 'call', answers)
    of = lambda verb: [line.split()[5] for line in answers.lines if line.split()[4] == verb]

    def end(job, attempt, *codes):
        for host, code in enumerate(codes):
            path = job.folder / f'code-{attempt}' / str(host)
            path.parent.mkdir(exist_ok=True)
            path.write_text(f'{code}\n')

    launcher.submit([one, two])
    assert of('create') == [f'{name}-0' for name in names]
    assert launcher.poll()['seed-0'] == ('waiting', 'waiting for resources')
    answers.answers['describe'] = 'ACTIVE\n'
    end(one, 0, 42, 42, 42)  # one host goes on
    assert launcher.poll()['seed-0'].state == 'running'
    end(one, 0, 42, 42, 42, 42)
    end(two, 0, 42, 1, 42, 42)  # a crash beats 42
    assert {status.state for status in launcher.poll().values()} == {'waiting'}
    assert of('delete') == [f'{name}-0' for name in names] and of('create')[2:] == [f'{name}-1' for name in names]
    again = TpuVm(cloud.Slices(tmp_path, 'image', 'v5e:4x4', STORAGE, 'z', '', False, 1))  # the sweep was killed
    answers.answers['list'] = f'{names[0]}-1\n{names[1]}-1\n'
    again.submit([one, two])
    assert len(of('create')) == 4
    end(two, 1, 1, 1, 1, 1)
    answers.answers['describe'] = 'SUSPENDED\n'
    states = again.poll()
    assert (states['seed-0'].state, states['seed-1'].state) == ('waiting', 'failed')
    assert of('create')[4:] == [f'{names[0]}-2']  # what Google takes back counts as 42
    end(one, 2, 0, 0, 0, 0)
    assert again.poll()['seed-0'].state == 'done'
    again.cancel()
    assert len(of('delete')) == 5  # nothing runs


def test_cancel_deletes_queued_resources(tmp_path, monkeypatch):
    launcher = TpuVm(cloud.Slices(tmp_path, 'image', 'v5e:4x4', STORAGE, 'z', '', False, 1))
    answers = Answers()
    monkeypatch.setattr(tpu_vm, 'call', answers)
    launcher.submit(jobs(tmp_path))
    launcher.cancel()
    name = cloud.unique(tmp_path.name, jobs(tmp_path)[0])
    assert answers.lines[-1] == (
        f'gcloud compute tpus queued-resources delete {name}-0 --zone=z --force --quiet --async'
    )
    assert launcher.poll()['seed-0'].state == 'stopped'


TASK = """---
name: {name}
resources:
  infra: "gcp/*/us-west4-a"
  accelerators: tpu-v5litepod-16
  accelerator_args:
    runtime_version: v2-alpha-tpuv5-lite
  use_spot: true
  job_recovery:
    max_restarts_on_errors: 2
    recover_on_exit_codes:
      - 42
setup: |
  sudo bash -c 'mkdir -p /runs && mountpoint -q /runs || mount -t nfs 10.0.0.2:/genlab /runs'
run: |
  first=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)
  exec sudo docker run --rm --privileged --net=host --volume=/runs:/runs registry/genlab:1 python -m genlab.main \
--config=configs/gan.py '--config.data.name=a 0' --coordinator=$first:8476 --processes=4 \
--process_id=$SKYPILOT_NODE_RANK
"""
QUEUE = """Fetching managed jobs...
ID  TASK  NAME                   REQUESTED     SUBMITTED  TOT. DURATION  STATUS
7   -     {0}     1x[tpu:1]     1 min ago  1m             RECOVERING
6   -     {1}     1x[tpu:1]     1 min ago  1m             SUCCEEDED
5   -     {0}     1x[tpu:1]     1 day ago  1m             FAILED
"""


def test_a_task_of_skypilot_per_trial(tmp_path, monkeypatch):
    yaml = pytest.importorskip('yaml')
    folder = pathlib.Path('/runs/gan-seed')
    launcher = SkyPilot(cloud.Slices(folder, 'registry/genlab:1', 'v5e:4x4', STORAGE, 'us-west4-a', '', True, 2))
    (one,) = jobs(folder)
    text = launcher.render([one])
    assert text == TASK.format(name=cloud.unique('gan-seed', one))
    assert yaml.safe_load(text) == launcher.task(one)
    with pytest.raises(ConfigError, match='--zone=us west: give the name of a zone'):
        SkyPilot(cloud.Slices(folder, 'image', 'v5e:4x4', STORAGE, 'us west', '', False, 0))


def test_jobs_of_skypilot_are_launched_followed_and_cancelled(tmp_path, monkeypatch):
    launcher = SkyPilot(cloud.Slices(tmp_path / 'gan', 'image', 'v5e:4x4', STORAGE, '', '', False, 2))
    found = jobs(tmp_path / 'gan', 3)
    names = [cloud.unique('gan', job) for job in found]
    answers = Answers(queue=QUEUE.format(*names))
    monkeypatch.setattr(skypilot, 'call', answers)
    launcher.submit(found)
    launched = [line.split()[3] for line in answers.lines if line.startswith('sky jobs launch')]
    assert launched == [f'--name={names[1]}', f'--name={names[2]}']  # the first one is under way
    assert (tmp_path / f'gan/skypilot/{names[1]}.yaml').read_text().startswith(f'name: {names[1]}\n')
    assert {job: status.state for job, status in launcher.poll().items()} == {
        'seed-0': 'waiting', 'seed-1': 'done', 'seed-2': 'waiting'
    }  # fmt: skip
    launcher.cancel()
    assert answers.lines[-1] == f'sky jobs cancel --name={names[2]} --yes'


def test_hosts_mount_nothing_where_the_folder_is_in_a_bucket(tmp_path, monkeypatch, objects):
    folder = path_of('gs://lab/gan')
    (one,) = jobs(folder)
    one = one._replace(commands=[Command([*one.commands[0].words, f'--workdir={one.folder}'], {})])
    slices = cloud.Slices(folder, 'image', 'v5e:4x4', None)
    launchers = [
        JobSet('gan', 'image', 'v5e:4x4', 1, 'queue', 0, None),
        Xpk('gan', 'image', 'v5e:4x4', 1, 'pod', '', '', '', 0),
        SkyPilot(slices),
    ]
    for launcher in launchers:
        text = launcher.render([one])
        assert '--workdir=gs://lab/gan/seed-0' in text
        assert not [word for word in ('volume', 'nfs', 'mount', '--storage') if word in text]
    monkeypatch.setattr(skypilot, 'call', Answers())
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    SkyPilot(slices).submit([one])
    assert [path.read_text() for path in tmp_path.glob('skypilot/*.yaml')] == [
        text.removeprefix('---\n')
    ] and not objects


def test_the_record_and_the_report_of_a_sweep_are_in_the_bucket(objects):
    folder, trial = path_of('gs://lab/sweeps/gan'), Trial('seed-1', {'seed': 1}, 4, False, {'seed': 0})

    class Done:
        interval = 0.0
        submit = lambda self, submitted: None
        poll = lambda self: {'seed-1': Status('done')}

    assert run.run(Sweep('configs/gan.py', 'seed', [], folder), [trial], Done()) == 0
    assert trials.read(folder)['trials']['seed-1']['state'] == 'done'
    assert {'lab/sweeps/gan/sweep.json', 'lab/sweeps/gan/report.html'} == {*objects}
