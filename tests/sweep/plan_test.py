"""Tests of plans of whole sweeps."""

import importlib.util

import pytest

from genlab import main
from genlab.errors import UserError
from genlab.sweep import __main__ as command
from genlab.sweep import plan, spec
from genlab.training import plan as planning
from support.runs import ROOT

LINEAR = str(ROOT / 'configs/linear_ae.py')
tpu = pytest.mark.skipif(importlib.util.find_spec('libtpu') is None, reason="needs the extra 'tpu'")


def config_of(trial):
    """Returns a small config of one player with the overrides of a trial."""
    config = main.read(LINEAR)
    config.data.batch_size, config.train.steps_per_call = 16, 2
    spec.applied(config, trial)
    return config


@pytest.fixture(scope='module')
def groups():
    """Three trials that differ in numbers, one with another width, and one that cannot be planned."""
    overrides = {
        'seed': {'seed': 3},
        'rate': {'optimizer.autoencoder.b1': 0.5},
        'weight': {'losses.autoencoder.squared_error': 0.3},
        'wide': {'model.networks.features': (16,)},
        'odd': {'losses.autoencoder.nothing': 1.0},
    }
    return plan.grouped({name: config_of(trial) for name, trial in overrides.items()})


def test_trials_that_differ_in_numbers_are_one_program(groups):
    assert [group.trials for group in groups] == [('seed', 'rate', 'weight'), ('wide',), ('odd',)]
    assert 'nothing' in groups[2].reason and not groups[0].reason


def test_each_program_is_compiled_once_per_topology(groups):
    calls = []

    def compile(config, build, topology):
        calls.append((tuple(config.model.networks.features), topology))
        if topology == 'v5e:2x2':
            raise UserError('does not fit 4 x TPU v5 lite')
        kinds = dict.fromkeys(planning.Plan._fields[2:8], 2**30)
        return planning.Plan(
            16, 'TPU v5 lite', **kinds, collectives={}, loops={}, sent=0.0, memory=2**31,
            whole=planning.Cost(197e12, 1e9),
        )  # fmt: skip

    topologies = ['v5e:2x2', 'v5e:4x4']
    rows = [plan.planned(group, topologies, compile) for group in groups]
    assert calls == [((10,), 'v5e:2x2'), ((10,), 'v5e:4x4'), ((16,), 'v5e:2x2'), ((16,), 'v5e:4x4')]
    lines = plan.table(groups, rows).splitlines()
    assert lines[:3] == [
        'program 1, 3 trials: seed, rate, weight',
        'program 2, 1 trial: wide',
        'program 3, 1 trial: odd',
    ]
    assert 'program  topology  memory' in lines[5]
    assert lines[6].split() == ['1', 'v5e:2x2', 'does', 'not', 'fit', '4', 'x', 'TPU', 'v5', 'lite']
    assert '2.0 GiB of 2.0 GiB' in lines[7] and lines[7].split()[-3:] == ['1e+03', 'ms', 'arithmetic']
    assert [line.split()[:2] for line in lines[10:12]] == [['3', 'v5e:2x2'], ['3', 'v5e:4x4']]
    assert lines[-1].startswith('TPU v5 lite: 197 TFLOP/s in bfloat16, 819 GB/s')


def test_a_program_is_planned_for_the_devices_present(groups):
    (row,) = plan.planned(groups[1], [''])
    assert row.plan.devices == 4 and row.plan.whole.flops >= row.plan.flops > 0
    (line,) = [line for line in plan.table([groups[1]], [[row]]).splitlines() if line.startswith('1  ')]
    assert line.split()[1] == 'present' and line.endswith('?')  # of a CPU no rates are known


@tpu
def test_a_program_is_planned_for_absent_tpus(groups):
    (row,) = plan.planned(groups[1], ['v5e:4x4'])
    assert row.plan.devices == 16 and planning.fits(row.plan) and planning.estimate(row.plan).seconds > 0


def test_the_command_hands_the_sweep_to_a_process_that_imports_jax(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        command.subprocess,
        'run',
        lambda words, **_: seen.append(words) or command.subprocess.CompletedProcess(words, 7),
    )
    words = [
        '--config=a.py',
        '--sweep=lr',
        '--plan',
        '--topology=v5e:4x4,v4:2x2x1',
        f'--workdir={tmp_path}',
        '--config.seed=3',
    ]
    assert command.main(words) == 7
    assert seen[0][1:] == [
        '-m',
        'genlab.sweep.plan',
        'a.py',
        'lr',
        str(tmp_path),
        'v5e:4x4,v4:2x2x1',
        '--config.seed=3',
    ]
