"""Tests of the launcher against a real Slurm: one node, which these tests start and stop themselves.

They need the packages slurm-wlm and munge of the distribution, and root:

    apt-get install -y slurm-wlm munge
    python -m pytest -m slow tests/sweep/real_slurm_test.py

Elsewhere they are skipped.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from genlab.run.logs import read_metrics
from genlab.sweep.launchers import FINAL, Job
from genlab.sweep.launchers.slurm import Slurm
from genlab.sweep.trials import Command
from support.runs import ROOT

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch')
PATH = f'{os.environ["PATH"]}:/usr/sbin:/sbin'
MISSING = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f'needs slurm-wlm and munge: there is no {", ".join(MISSING)}'),
    pytest.mark.skipif(os.geteuid() != 0, reason='starts the daemons of Slurm as root'),
]

CONFIG = """
ClusterName=genlab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE OverSubscribe=YES State=UP
"""


def free_port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


@pytest.fixture(scope='module')
def slurm(tmp_path_factory):
    """Starts munge, the controller and a node on ports of their own; yields nothing, and stops them."""
    folder = tmp_path_factory.mktemp('slurm')
    (folder / 'state').mkdir()
    (folder / 'spool').mkdir()
    key = folder / 'munge.key'
    key.write_bytes(os.urandom(128))
    for path in (*folder.parents, folder):
        if str(path).startswith('/tmp') and path != pathlib.Path('/tmp'):
            path.chmod(0o755)  # munge wants no folder above its socket that others write to
    key.chmod(0o400)
    host = socket.gethostname().split('.')[0]
    (folder / 'slurm.conf').write_text(CONFIG.format(host=host, folder=folder, ports=(free_port(), free_port())))
    before = dict(os.environ)
    os.environ.update(PATH=PATH, SLURM_CONF=str(folder / 'slurm.conf'), PYTHONPATH=str(ROOT), JAX_PLATFORMS='cpu')
    munged = ['munged', '--foreground', '--force', f'--key-file={key}', f'--socket={folder}/munge.socket']
    munged += [f'--pid-file={folder}/munged.pid', f'--log-file={folder}/munged.log', f'--seed-file={folder}/seed']
    daemons = []
    try:
        for words in (munged, ['slurmctld', '-D', '-i'], ['slurmd', '-D', '-N', host]):
            log = open(folder / f'{words[0]}.out', 'w')
            daemons.append(subprocess.Popen(words, stdout=log, stderr=log))
            until((folder / 'munge.socket').exists)
        until(lambda: output('sinfo', '--noheader', '--format=%t').strip() == 'idle')
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(60)
        os.environ.clear()
        os.environ.update(before)


def output(*words):
    return subprocess.run(words, capture_output=True, text=True).stdout


def until(true, seconds=240):
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.2)


def follow(launcher):
    """Polls to the end. A task that was requeued, which Slurm delays by two minutes, begins after two seconds.

    Slurm tells attempts of a task apart by whole seconds. A node refuses an attempt that begins in the second in which
    the one before it ended: "Job credential revoked".
    """
    since = {}  # task -> the time at which its delay was first seen

    def ended():
        lines = output('squeue', '--noheader', '--array', '--format=%F_%K %r').splitlines()
        delayed = [line.split()[0] for line in lines if line.endswith('BeginTime')]
        for task in [task for task in since if task not in delayed]:
            del since[task]
        for task in delayed:
            if time.monotonic() - since.setdefault(task, time.monotonic()) > 2:
                output('scontrol', 'update', f'JobId={task}', 'StartTime=now')
        return all(status.state in FINAL for status in launcher.poll().values())

    until(ended)
    return {name: status.state for name, status in launcher.poll().items()}


def script(folder, name, text):
    """Returns a job whose process runs a line of bash in its folder."""
    (folder / name).mkdir()
    return Job(name, folder / name, [Command(['bash', '-c', f'cd "$0"; {text}', str(folder / name)], {})])


def test_an_array_job_ends_by_exit_codes_and_is_requeued_on_42(slurm, tmp_path):
    once = 'echo run >> runs; if [ $(wc -l < runs) = 1 ]; then mkdir -p checkpoints/1; exit {}; fi'
    jobs = [
        script(tmp_path, 'good', 'echo run >> runs'),
        script(tmp_path, 'preempted', once.format(42)),
        script(tmp_path, 'refused', once.format(2)),
        script(tmp_path, 'broken', once.format(1)),
    ]
    launcher = Slurm(tmp_path, 2, 0, '--time=5')
    launcher.submit(jobs)
    assert follow(launcher) == {'good': 'done', 'preempted': 'done', 'refused': 'refused', 'broken': 'failed'}
    assert [len((job.folder / 'runs').read_text().split()) for job in jobs] == [1, 2, 1, 1]


def test_cancel_lets_a_run_save_and_requeues_nothing(slurm, tmp_path):
    waits = 'trap "touch saved; exit 42" TERM; touch started; for n in $(seq 600); do sleep 0.1; done'
    jobs = [script(tmp_path, name, waits) for name in ('a', 'b')]
    launcher = Slurm(tmp_path, 1, 2, '--time=5')
    launcher.submit(jobs)
    until((tmp_path / 'a/started').exists)
    launcher.cancel()
    assert follow(launcher) == {'a': 'stopped', 'b': 'stopped'}
    assert (tmp_path / 'a/saved').exists() and not (tmp_path / 'b/started').exists()
    until(lambda: not output('squeue', '--noheader'))


def test_two_processes_of_two_devices_give_the_numbers_of_one_device(slurm, tmp_path):
    words = [
        sys.executable, '-m', 'genlab.sweep', f'--config={ROOT}/configs/gan.py', '--sweep=seed2',
        '--config.data.batch_size=8', '--config.model.networks.features=(8,)', '--config.train.steps_per_call=1',
        '--config.train.log_every=1', '--config.train.steps=4', '--config.train.evaluate_every=0',
        '--config.sample.count=4', '--config.sample.chunk=4', '--config.train.sample_every=0',
        '--config.optimizer.generator.learning_rate=1e-4', '--config.optimizer.discriminator.learning_rate=1e-4',
    ]  # fmt: skip
    config = tmp_path / 'gan.py'
    config.write_text(
        f'import runpy\nmodule = runpy.run_path({str(ROOT / "configs/gan.py")!r})\n'
        'get_config = module["get_config"]\nsweep_seed2 = lambda hyper: hyper.sweep("seed", range(2))\n'
    )
    words[3] = f'--config={config}'
    slurm_words = ['--launcher=slurm', '--processes=2', '--devices=2', '--parallel=1', '--sbatch=--time=5']
    subprocess.run([*words, f'--workdir={tmp_path}/two', *slurm_words], check=True, timeout=240, cwd=ROOT)
    subprocess.run([*words, f'--workdir={tmp_path}/one'], check=True, timeout=240, cwd=ROOT)

    def curves(folder):
        rows = [read_metrics(path.parent) for path in sorted(folder.glob('*/config.json'))]
        return [[[row[name] for name in sorted(row) if '/' in name] for row in one if 'seconds' in row] for one in rows]

    one, two = curves(tmp_path / 'one'), curves(tmp_path / 'two')
    assert len(one) == len(two) == 2 and all(len(rows) == 4 for rows in two)
    np.testing.assert_allclose(one, two, atol=1e-4, rtol=1e-4)
