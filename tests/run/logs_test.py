"""Tests metrics on disk, resuming, and the progress line on a terminal and in a file."""

import io
import json
import os
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from genlab.errors import warn
from genlab.run.files import write_atomically
from genlab.run.logs import MetricLog, read_metrics
from genlab.run.progress import Progress
from genlab.run.sinks import TensorBoard


class Terminal(io.StringIO):
    """Imitates a terminal of unknown width, so 80 columns."""

    def isatty(self):
        return True


class Clock:
    """Shows a time that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


def with_events(workdir):
    return MetricLog(workdir, sinks=[TensorBoard(workdir / 'tensorboard')])


def lines(workdir):
    return (workdir / 'metrics.jsonl').read_text().splitlines()


def test_rows_are_flat_json_on_disk_at_once(tmp_path):
    with MetricLog(tmp_path / 'run') as log:
        log.write(1, {'a/loss': jnp.float32(0.1), 'count': np.int64(3), 'half': jnp.bfloat16(0.5)})
        assert lines(tmp_path / 'run') == ['{"step": 1, "a/loss": 0.1, "count": 3, "half": 0.5}']
        log.write(2, {'a/loss': float('nan'), 'b': float('-inf')})
    assert json.loads(lines(tmp_path / 'run')[1]) == {'step': 2, 'a/loss': None, 'b': None}
    assert [row['step'] for row in read_metrics(tmp_path / 'run')] == [1, 2]


def test_a_float32_survives(tmp_path):
    values = np.random.RandomState(0).randn(100).astype(np.float32) * 10.0 ** np.arange(-20, 30, 0.5)
    with MetricLog(tmp_path) as log:
        log.write(0, {str(i): value for i, value in enumerate(values)})
    row = read_metrics(tmp_path)[0]
    np.testing.assert_allclose([row[str(i)] for i in range(100)], values, rtol=5e-8)


def test_bad_metrics_are_refused(tmp_path):
    with MetricLog(tmp_path) as log:
        with pytest.raises(ValueError, match='step'):
            log.write(1, {'step': 2})
        with pytest.raises((TypeError, ValueError)):
            log.write(1, {'vector': np.zeros(3)})
    assert read_metrics(tmp_path) == []


def test_truncate_removes_later_rows(tmp_path):
    """Imitates a crash: rows after the checkpoint and a partial line. The resumed run writes each step once."""
    with MetricLog(tmp_path) as log:
        for step in (100, 200, 300):
            log.write(step, {'loss': step / 7})
    before = lines(tmp_path)
    with open(tmp_path / 'metrics.jsonl', 'a') as file:
        file.write('{"step": 150, "lo')
    assert [row['step'] for row in read_metrics(tmp_path)] == [100, 200, 300]
    with MetricLog(tmp_path) as log:
        assert log.truncate(200) == 300
        assert lines(tmp_path) == before[:2]
        log.write(300, {'loss': 300 / 7})
        assert lines(tmp_path) == before
        log.truncate(100)  # with the file open
        log.write(200, {'loss': 200 / 7})
    assert lines(tmp_path) == before[:2] and os.listdir(tmp_path) == ['metrics.jsonl']


def test_a_partial_line_does_not_damage_the_next(tmp_path):
    (tmp_path / 'metrics.jsonl').write_bytes(b'{"step": 1}\n\xff\xfe\n[1]\n{"step": 2, "lo')
    with MetricLog(tmp_path) as log:
        log.write(3, {})
    assert [row['step'] for row in read_metrics(tmp_path)] == [1, 3]
    assert read_metrics(tmp_path / 'nowhere') == []


def test_other_processes_write_nothing(tmp_path):
    stream = Terminal()
    with MetricLog(tmp_path / 'run', enabled=False) as log, Progress(3, stream=stream, enabled=False) as progress:
        log.write(1, {'loss': 1.0})
        log.picture(1, np.zeros((4, 4, 3), np.uint8))
        log.truncate(0)
        progress.update(3, {'loss': 1.0})
        progress.note('note')
        with progress.timed('compiling'):
            pass
    assert not (tmp_path / 'run').exists() and stream.getvalue() == ''


def test_tensorboard_events(tmp_path):
    """Reads scalars and pictures from the event file; a resumed run makes TensorBoard drop later events."""
    from tensorboardX.proto.event_pb2 import Event

    with with_events(tmp_path) as log:
        log.truncate(4)
        log.write(5, {'loss': 0.25})
        log.picture(5, np.full((4, 6, 3), 7, np.uint8))
    assert (tmp_path / 'samples' / '5.png').exists()
    (name,) = os.listdir(tmp_path / 'tensorboard')
    data, events = (tmp_path / 'tensorboard' / name).read_bytes(), []
    while data:  # a record: length (8 bytes), its checksum (4), the event, its checksum (4)
        length = int.from_bytes(data[:8], 'little')
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    values = {value.tag: value for event in events for value in event.summary.value}
    assert values['loss'].simple_value == 0.25 and values['samples'].image.width == 6
    assert {event.step for event in events if event.HasField('session_log')} == {5}


def test_without_tensorboardx_one_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'tensorboardX', None)
    with with_events(tmp_path) as log:
        log.write(1, {'loss': 1.0})
        log.write(2, {'loss': 1.0})
    error = capsys.readouterr().err
    assert error.count('warning') == 1 and 'pip install tensorboardX' in error
    assert len(read_metrics(tmp_path)) == 2 and not (tmp_path / 'tensorboard').exists()


def test_events_are_on_disk_with_each_line(tmp_path):
    with with_events(tmp_path) as log:
        log.write(1, {'loss': 1.0})
        (file,) = (tmp_path / 'tensorboard').iterdir()
        before = file.stat().st_size
        log.write(2, {'loss': 1.0})
        assert 0 < before < file.stat().st_size


def full(file):
    """Redirects a file to a device without room."""
    device = os.open('/dev/full', os.O_WRONLY)
    os.dup2(device, file.fileno())
    os.close(device)


def test_a_full_disk_gives_up_events_with_one_warning(tmp_path, capsys):
    with with_events(tmp_path) as log:
        log.write(0, {'loss': 1.0})
        full(log._sinks[0]._file)
        for step in range(1, 40):  # more than a queue would hold
            log.write(step, {'loss': 1.0})
        log.picture(40, np.zeros((4, 4, 3), np.uint8))
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and 'no TensorBoard events from here on' in error and 'No space left' in error
    assert len(read_metrics(tmp_path)) == 40 and (tmp_path / 'samples/40.png').exists()


def test_a_full_disk_is_an_error_of_the_line_and_a_later_line_is_whole(tmp_path):
    with MetricLog(tmp_path) as log:
        log.write(0, {'loss': 1.0})
        full(log._file)
        with pytest.raises(OSError, match='No space left'):
            log.write(1, {'loss': 1.0})
        log.write(2, {'loss': 1.0})
    assert [row['step'] for row in read_metrics(tmp_path)] == [0, 2]


def test_a_stream_that_fails_is_given_up(tmp_path, monkeypatch):
    """Covers a pipe whose reader left, a full disk, a closed stream, and no stream at all."""
    reader, writer = os.pipe()
    os.close(reader)
    closed = open(tmp_path / 'log', 'w')
    closed.close()
    with open(writer, 'w') as broken, open('/dev/full', 'w') as full, open('/dev/full', 'w') as errors:
        monkeypatch.setattr(sys, 'stderr', errors)
        warn('the disk is full')
        for stream in (broken, full, closed):
            with Progress(3, stream=stream, interval=0.0) as progress:
                progress.update(1, {'loss': 1.0})
                progress.note('saved')
        monkeypatch.setattr(sys, 'stderr', None)
        Progress(3).note('saved')
        warn('nobody reads this')


def test_write_atomically_takes_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomically('x', b'1')
    write_atomically('x', b'22')
    assert (tmp_path / 'x').read_bytes() == b'22' and os.listdir(tmp_path) == ['x']


def test_remaining_time_uses_this_process_only():
    """Resumes at 1000 of 2000; compiling takes 60 s; then 10 steps take 5 s, so 980 more take 490 s."""
    clock, stream = Clock(), io.StringIO()
    progress = Progress(2000, 1000, examples=64, stream=stream, interval=0.0, clock=clock)
    clock.now = 60.0
    progress.update(1010)
    clock.now = 65.0
    progress.update(1020, {'generator/adversarial': np.float32(0.71234)})
    first, second = stream.getvalue().splitlines()
    assert first == 'train 1,010/2,000  50%'
    assert second == 'train 1,020/2,000  51%  128 images/s  ETA 8:10  generator/adversarial 0.712'
    clock.now = 3700.0
    progress.update(2000)
    assert '100%' in stream.getvalue() and stream.getvalue().splitlines()[-1].split('  ')[-2] == 'took 1:01:40'


def test_a_file_gets_a_line_at_intervals():
    clock, stream = Clock(), io.StringIO()
    with Progress(1000, label='evaluate', stream=stream, interval=30.0, clock=clock) as progress:
        for step in range(1, 1001):
            clock.now += 0.125
            progress.update(step)
    text = stream.getvalue()
    steps = [line.split()[1] for line in text.splitlines()]
    assert steps == ['1/1,000', '241/1,000', '481/1,000', '721/1,000', '961/1,000', '1,000/1,000']
    assert '\r' not in text and 'evaluate 241/1,000  24%  8 steps/s  ETA 1:35' in text


def test_a_terminal_rewrites_its_line():
    clock, stream = Clock(), Terminal()
    with Progress(100, stream=stream, clock=clock) as progress:
        for step in range(1, 4):
            clock.now += 1
            progress.update(step, {'discriminator/adversarial': 1.386, 'generator/adversarial': 0.693})
        progress.note('saved')
    shown = stream.getvalue().replace('\x1b[K', '').split('\r')
    assert shown[-1] == 'saved\n' and shown[-2].startswith('train 3/100')
    assert all(len(line) <= 79 for line in shown) and '\n' not in ''.join(shown[:-1])
    assert shown[-2].endswith('d/adversarial 1.39  g/adversarial 0.693')  # the full text exceeds 80 columns


def test_many_metrics_fit_the_line():
    stream = Terminal()
    with Progress(10, stream=stream) as progress:
        progress.update(5, {f'a/{i}': 1.0 for i in range(50)} | {f'another/{i}': 1.0 for i in range(50)})
    line = stream.getvalue().strip('\n')
    assert 60 < len(line) <= 79 and line.split('  ')[2] == 'a/0 1'


def test_timed_reports_a_long_operation():
    clock = Clock()
    for stream, expected in (
        (io.StringIO(), 'compiling ...\ncompiling: 12.5 s\n'),
        (Terminal(), 'compiling ...\r\x1b[Kcompiling: 12.5 s\n'),
    ):
        with pytest.raises(KeyError), Progress(10, stream=stream, clock=clock).timed('compiling'):
            clock.now += 12.5
            raise KeyError  # it reports after an error as well
        assert stream.getvalue() == expected
