"""Tests fingerprints: equal for equal data in another place, different for other contents, labels and order."""

import dataclasses
import os

import numpy as np
import pytest

from genlab.data import fingerprint
from genlab.data.load import defaults, load
from genlab.data.source import subset


def never(indices):
    raise AssertionError('a fingerprint of settings must not read rows')


@pytest.fixture
def root(tmp_path):
    for n in range(4):
        (tmp_path / f'{n}.png').write_bytes(bytes([n]) * 8)
    return tmp_path


NAMES, NOTES = [f'{n}.png' for n in range(4)], ['red', 'red', 'blue', 'blue']


def read(root, names=NAMES, notes=NOTES):
    contents = [fingerprint.of_bytes((root / name).read_bytes()) for name in names]
    return fingerprint.of_files(root, names, notes, np.array(contents, np.uint64))


def lines(old, new):
    def record(found):
        splits = {'train': {'examples': 4, 'fingerprint': found.digest}}
        return fingerprint.Record(
            {'classes': [], 'vocabulary': [], 'fields': {}, 'splits': splits}, {'train': found.files}
        )

    return fingerprint.compare(record(old), record(new)).images


def test_contents_labels_and_order_count_and_times_do_not(root):
    before = read(root)
    os.utime(root / '1.png', (1, 1))
    assert read(root).digest == before.digest
    assert read(root, notes=['red', 'blue', 'blue', 'blue']).digest != before.digest
    assert read(root, NAMES[::-1]).digest != before.digest
    (root / '1.png').write_bytes(b'other678')
    os.utime(root / '1.png', (1, 1))
    after = read(root)
    assert after.digest != before.digest
    assert lines(before, after) == ['train: 0 added, 0 removed, 1 changed, 0 with another label or caption']


def test_files_that_were_not_read_count_by_size_and_time_and_times_alone_are_no_change(root):
    ask = lambda: fingerprint.of_files(root, NAMES, NOTES)
    before = ask()
    assert ask().digest == before.digest
    os.utime(root / '1.png', (1, 1))
    assert ask().digest != before.digest and lines(before, ask()) == []  # a cache computes again, a run goes on
    assert lines(before, read(root)) == []
    (root / '1.png').write_bytes(b'longer than before')
    assert lines(before, ask()) == ['train: 0 added, 0 removed, 1 changed, 0 with another label or caption']


def test_the_numbers_of_changed_files(root):
    before = read(root)
    (root / '9.png').write_bytes(b'new')
    after = read(root, ['0.png', '2.png', '3.png', '9.png'], ['red', 'red', 'blue', 'blue'])
    assert lines(before, after) == ['train: 1 added, 1 removed, 0 changed, 1 with another label or caption']


@pytest.mark.parametrize('settings', [dict(source='toy', name='ring', observe='point'), dict(source='scenes')])
def test_generated_data_have_the_fingerprint_of_their_settings(settings):
    found = []
    for split in ('train', 'test'):
        source = dataclasses.replace(load(defaults(**settings), split), rows=never)
        part = subset(source, np.arange(5), 'part')
        again = load(defaults(**settings), split)
        assert fingerprint.of(source) == fingerprint.of(again)
        found += [fingerprint.of(source).digest, fingerprint.of(part).digest]
    assert len({*found}) == 4


def test_arrays_are_hashed_whole_with_the_names_of_their_classes():
    source = load(defaults(source='digits', resolution=8), 'test')

    def changed(indices):
        rows = source.rows(indices)
        rows['label'][indices == 296] += 1
        return rows

    others = [
        dataclasses.replace(source, rows=changed),
        dataclasses.replace(source, classes=source.classes[::-1]),
        subset(source, np.arange(296), 'part'),
        dataclasses.replace(source, name='moved'),
    ]
    digests = [fingerprint.of(one).digest for one in (source, *others)]
    assert len({*digests}) == 4 and digests[0] == digests[4]


def test_changed_names_of_classes_and_words_change_the_meaning_of_numbers():
    facts = {'classes': ['blue', 'red'], 'vocabulary': [], 'fields': {}, 'splits': {}}
    compare = lambda **now: fingerprint.compare(fingerprint.Record(facts, {}), fingerprint.Record({**facts, **now}, {}))
    assert compare() == fingerprint.Changes([], [])
    assert fingerprint.compare(
        fingerprint.Record({**facts, 'splits': {'test': {'examples': 1, 'fingerprint': ''}}}, {}),
        fingerprint.Record(facts, {}),
    ).images == ['test: no examples now']
    assert compare(classes=['blue', 'green', 'red']).meaning == ["class names differ: added 'green'"]
    assert compare(classes=['red', 'blue']).meaning == ['class names differ: their order changed']
    assert compare(classes=[]).meaning == ["class names differ: removed 'blue', 'red'"]
    words = compare(vocabulary=['<pad>', *'abcd']).meaning
    assert words == ["word numbers differ: added '<pad>', 'a', 'b' and 2 more"]
