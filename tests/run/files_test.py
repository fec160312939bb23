"""Tests folders that start empty, and names of folders that differ wherever their contents do."""

import itertools

from genlab.run.files import name_of, start_empty


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
