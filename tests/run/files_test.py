"""Tests folders that start empty, names of folders that differ wherever their contents do, and paths in buckets."""

import itertools

import pytest

from genlab.errors import ConfigError
from genlab.run import files
from genlab.run.files import name_of, start_empty
from support.bucket import bucket


def test_a_folder_starts_empty_except_for_other_files(tmp_path):
    folder = tmp_path / 'a' / 'b'
    start_empty(folder, ('*.png',))
    for name in ('00001.png', 'grid.png', 'notes.txt'):
        (folder / name).write_text('')
    start_empty(folder, ('*.png',))
    assert [path.name for path in folder.iterdir()] == ['notes.txt']


def test_names_are_readable_safe_and_different():
    depends = ['+', '-', '=', '', 'red', 'Red', 'red ', '../red', 'red/blue', 'red blue', 'é' * 300, 'é' * 301]
    names = [name_of(words, [words]) for words in depends]
    for one, other in itertools.combinations(names, 2):
        assert one.lower() != other.lower()
    for name in names:
        assert len(name.encode()) < 120 and not {*'/+= .'} & {*name} and not name.startswith('-')
    assert name_of('a red circle', [1]).startswith('a-red-circle-')
    assert name_of('a', {'x': 1, 'y': 2}) == name_of('a', {'y': 2, 'x': 1}) != name_of('a', {'x': 2, 'y': 1})


@pytest.mark.parametrize(
    'url, line',
    [
        ('memory://lab/runs', 'there is no memory://: give a folder, gs://, s3://'),
        ('gs://lab/runs', 'gs:// needs another package: install gcsfs'),
    ],
)
def test_a_url_that_no_package_reads_is_refused(url, line, monkeypatch):
    def missing(scheme):
        raise ImportError('install gcsfs')

    monkeypatch.setattr('fsspec.get_filesystem_class', missing)
    with pytest.raises(ConfigError, match=line):
        files.path_of(url)


def test_a_file_that_grows_in_a_bucket_is_uploaded_now_and_then_and_at_the_end(monkeypatch):
    with bucket() as objects:
        path = files.path_of('gs://lab/run/log')
        monkeypatch.setattr(files, 'PAUSE', 0.0)
        with files.growing(path) as file:
            file.write(b'one\n')
            file.flush()
            assert path.read_bytes() == b'one\n'
        monkeypatch.setattr(files, 'PAUSE', 1e9)
        with files.growing(path) as file:
            file.write(b'two\n')
            file.flush()
            assert path.read_bytes() == b'one\n'
        assert path.read_bytes() == b'one\ntwo\n' and [*objects] == ['lab/run/log']
        with files.lock(path.parent):
            assert not files.locked(path.parent)
