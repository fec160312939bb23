"""Tests of what follows from exit codes."""

import itertools

import pytest

from genlab.sweep import attempts
from genlab.sweep.attempts import Attempt, judge, worst


@pytest.mark.parametrize(
    'codes, code', [((0, 0), 0), ((0, 42), 42), ((42, 1), 1), ((137, 42), 137), ((2, 42, 1), 2), ((0, 134), 134)]
)
def test_the_worst_code_of_several_processes_counts(codes, code):
    assert {worst(order) for order in itertools.permutations(codes)} == {code}


def states(*history, retries=2, start=-1):
    """Returns the verdict after each attempt (code, checkpoint)."""
    past = [Attempt(*attempt) for attempt in history]
    return [judge(past[: n + 1], start, retries, 10.0) for n in range(len(past))]


def test_done_and_refused_end_a_trial_at_once():
    assert [verdict.state for verdict in states((42, 5), (0, 10))] == ['again', 'done']
    assert states((2, -1))[0].state == 'refused'


def test_preemptions_with_progress_go_on_for_ever():
    found = states(*((42, step) for step in range(50)))
    assert {(verdict.state, verdict.delay) for verdict in found} == {('again', 0.0)}


def test_a_crash_is_retried_with_growing_delays_and_then_fails():
    assert [(v.state, v.delay) for v in states((1, 0), (137, 9), (1, 9))] == [
        ('again', 10.0),
        ('again', 20.0),
        ('failed', 0.0),
    ]
    assert states((1, 0), retries=0)[0].state == 'failed'
    delays = [verdict.delay for verdict in states(*[(1, 0)] * 40, retries=99)]
    assert delays == sorted(delays) and delays[-1] == attempts.LONGEST


def test_three_preemptions_without_a_checkpoint_are_a_crash():
    found = states(*[(42, 7)] * 9, start=7)
    assert [verdict.delay > 0 for verdict in found[:8]] == [False, False, True, False, False, True, False, False]
    assert found[8].state == 'failed' and 'without a new checkpoint' in found[8].reason
    # A checkpoint or a crash in between starts the count again.
    assert [v.delay for v in states((42, 7), (42, 7), (42, 8), (42, 8), (42, 8), start=7)] == [0.0] * 5
    assert [v.delay for v in states((42, 7), (42, 7), (1, 7), (42, 7), (42, 7), start=7)] == [0, 0, 10, 0, 0]
    # An older checkpoint is no progress.
    assert states((42, 5), (42, 4), (42, 4), (42, 3))[3].delay == 10.0


def test_the_history_of_a_trial_lies_in_its_folder(tmp_path, capsys):
    (tmp_path / 'checkpoints/4').mkdir(parents=True)
    attempts.begin(tmp_path)
    codes = []
    for step, words in ((8, '0 42'), (8, '42 1'), (8, '42 42'), (8, '42 42'), (8, '42 42'), (9, '0 0')):
        (tmp_path / f'checkpoints/{step}').mkdir(exist_ok=True)
        codes.append(attempts.main([str(tmp_path), '2', *words.split()]))
    assert codes == [42, 42, 42, 42, 42, 0]
    assert attempts.history(tmp_path)[0] == 4 and attempts.history(tmp_path)[1][1] == (1, 8)
    assert 'crash 2 of 3' in capsys.readouterr().out
    attempts.begin(tmp_path)
    assert attempts.history(tmp_path) == (9, [])
    assert attempts.main([str(tmp_path), '0', '2']) == 2 and attempts.main([str(tmp_path), '0', '1']) == 1
