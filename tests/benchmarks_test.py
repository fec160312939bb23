"""The comparisons with PyTorch: what they do for a GPU, with a PyTorch that records its calls."""

import contextlib
import importlib.metadata
import sys
from types import SimpleNamespace

import pytest

from benchmarks import contest
from benchmarks.contest import Timing


@contextlib.contextmanager
def entered(calls, name):
    calls.append(f'enter {name}')
    yield
    calls.append(f'leave {name}')


@pytest.fixture
def calls(monkeypatch):
    """Returns the list of calls of a false PyTorch."""
    made: list[str] = []
    stream = SimpleNamespace(wait_stream=lambda other: made.append('wait'))
    cuda = SimpleNamespace(
        Stream=lambda: stream,
        current_stream=lambda: stream,
        stream=lambda one: entered(made, 'stream'),
        CUDAGraph=lambda: SimpleNamespace(replay=lambda: made.append('replay')),
        graph=lambda one: entered(made, 'graph'),
    )
    monkeypatch.setitem(sys.modules, 'torch', SimpleNamespace(cuda=cuda, device=lambda name: entered(made, name)))
    return made


def test_a_graph_records_the_last_of_several_runs(calls):
    (name,) = (name for name in contest.modes(None, 'gpu', (True,)) if name == 'torch graph compile channels_last')

    def build(last, compiled):
        assert last and compiled
        calls.append('build')
        return lambda: calls.append('run')

    run = contest.modes(build, 'gpu')[name]()
    building, warm_up = ['enter cuda', 'build', 'leave cuda'], ['wait', 'enter stream', *3 * ['run'], 'leave stream']
    assert calls == [*building, *warm_up, 'wait', 'enter graph', 'run', 'leave graph']
    calls.clear()
    run()
    assert calls == ['replay']


def test_the_cpu_has_no_graphs(calls):
    made = contest.modes(lambda last, compiled: lambda: (last, compiled), 'cpu')
    assert {name: make()() for name, make in made.items()} == {
        'torch eager': (False, False),
        'torch eager channels_last': (True, False),
        'torch compile': (False, True),
        'torch compile channels_last': (True, True),
    }
    assert calls == 4 * ['enter cpu', 'leave cpu']


def test_a_round_waits_once_for_its_last_run():
    done = []
    seconds = contest.timed(lambda: done.append('run') or len(done), 2, 3, lambda result: done.append(result))
    assert done == ['run', 1, 'run', 3, 'run', 5] + ['run', 'run', 'run', 9] + ['run', 'run', 'run', 13]
    assert len(seconds) == 2


def test_a_gpu_gets_several_runs_per_round():
    of = lambda *arguments: contest.parse(contest.parser('', rounds=5), [*arguments]).repeats
    assert (of('--device=cpu'), of('--device=gpu'), of('--device=gpu', '--repeats=2')) == (1, 10, 2)


def test_a_contender_on_another_device_is_refused():
    options = contest.parse(contest.parser('', rounds=1), ['--device=gpu'])
    with pytest.raises(SystemExit, match='JAX computes on cpu here, not on gpu'):
        contest.contend('a group: genlab', lambda: lambda: None, options)


@pytest.mark.parametrize('device, precision', [('A', 'TF32'), ('A', 'float32'), ('B', 'TF32')])
def test_no_ratio_of_unequal_conditions(device, precision, monkeypatch, capsys):
    monkeypatch.setattr(importlib.metadata, 'version', lambda package: '1')
    found = {'genlab': [Timing([0.5, 1.0, 1.5], 'A', 'TF32')], 'torch eager': [Timing([2.0, 3.0], device, precision)]}
    contest.report(found, 10, steps=2)
    head, *_, last = capsys.readouterr().out.splitlines()
    if (device, precision) == ('A', 'TF32'):
        assert head.startswith('A in TF32, ')
        assert last == 'fastest torch / fastest genlab: 2.50 of medians, 4.00 of minima'
    else:
        assert head.startswith(f'A in TF32 and {device} in {precision}, ')
        assert 'no ratio' in last
