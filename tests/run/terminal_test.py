"""Tests the standard streams of a process: closed ones, a reader that left, and names that are not UTF-8."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def run(code, shell, tmp_path, **streams):
    command = f'import sys; from genlab.run import terminal; terminal.prepare(); {code}'
    environment = {'PYTHONPATH': str(ROOT), 'PATH': os.environ['PATH'], 'PYTHONIOENCODING': 'utf-8:strict'}
    return subprocess.run(
        ['sh', '-c', f'exec "$0" -c "$1" {shell}', sys.executable, command], cwd=tmp_path, env=environment, **streams
    )


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    code = "file = open('f', 'w'); assert file.fileno() > 2; print('x', file=sys.stderr); print('x')"
    assert run(code, '2>&- >&-', tmp_path).returncode == 0 and (tmp_path / 'f').read_text() == ''


def test_a_reader_that_left_changes_no_exit_code(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    code = "terminal.show('done'); print('x'); terminal.say('x'); print('x', file=sys.stderr)"
    assert run(code, '2>&1', tmp_path, stdout=writer).returncode == 0
    os.close(writer)


def test_a_name_that_is_not_utf_8_is_printed_with_escapes(tmp_path):
    done = run("print('run' + chr(0xDCFF))", '', tmp_path, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b'run\\udcff\n')
