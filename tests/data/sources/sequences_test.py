"""Tests sources of sequences: the embedded ones, a person's table, padding, splits and refusals."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from genlab.data import Batches, check, declared, load, resolve
from genlab.data.load import defaults
from genlab.data.sources.digits import digits
from genlab.data.sources.sequences import ADDRESS, sequences
from genlab.errors import ConfigError


def rows(source):
    return source.rows(np.arange(len(source)))


def table(tmp_path, text):
    path = tmp_path / 'table.csv'
    path.write_text(text)
    return str(path)


def test_earthquakes_are_those_of_the_book():
    """The mean and the variance are in Zucchini and MacDonald 2009, chapter 1: 19.36 and 51.57."""
    (years,) = rows(sequences('earthquakes'))['sequence'][..., 0]
    assert years.shape == (107,) and (years.min(), years.max()) == (6, 41)
    np.testing.assert_allclose([years.mean(), years.var(ddof=1)], [19.36, 51.57], atol=0.01)
    np.testing.assert_array_equal(rows(sequences('earthquakes', split='test'))['sequence'][0, :, 0], years)


def test_letters_are_sentences_padded_to_the_longest():
    train, test = (sequences('letters', split=split) for split in ('train', 'test'))
    assert len(train) == 8 and len(test) == 2 and train.fields == test.fields
    found = rows(train)
    text = ''.join(' abcdefghijklmnopqrstuvwxyz'[int(n)] for n in found['sequence'][2, : found['length'][2], 0])
    assert text == 'we are met on a great battle field of that war' == ADDRESS[2].lower().rstrip('.')
    assert not found['sequence'][2, found['length'][2] :].any()
    assert found['length'].max() == found['sequence'].shape[1]


def test_columns_of_digits_run_from_left_to_right():
    found, images = rows(sequences('digits', resolution=8)), rows(digits(8))
    np.testing.assert_allclose(found['sequence'][5, 2], images['image'][5, :, 2, 0] / 127.5 - 1, rtol=1e-6)
    np.testing.assert_array_equal(found['label'], images['label'])
    assert (found['length'] == 8).all()


@pytest.mark.parametrize('name', ['earthquakes', 'letters', 'digits'])
def test_sources_are_as_they_declare(name):
    config = defaults(source='sequences', name=name, observe='sequence', resolution=8)
    check(load(config), Batches(load(config), 4, seed=0)(0))
    assert declared(config).fields == load(config).fields


def test_a_table_has_a_row_per_time_and_may_name_sequences(tmp_path):
    lines = [f'{time % 3};{number + 0.5};{"ab"[number]}' for number in (0, 1) for time in range(4 - number)]
    path = table(tmp_path, '\n'.join(['Mood;height;Sequence', *lines, '', '2;0.5;a']))
    parts = [rows(sequences('csv', path, split=split)) for split in ('train', 'test')]
    both = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(both['length'])
    assert [len(part['length']) for part in parts] == [1, 1] and both['length'][order].tolist() == [3, 5]
    np.testing.assert_array_equal(both['sequence'][order][1], [[0, 0.5], [1, 0.5], [2, 0.5], [0, 0.5], [2, 0.5]])
    np.testing.assert_array_equal(both['sequence'][order][0, 3:], np.zeros((2, 2)))


def test_one_sequence_is_both_splits_and_many_keep_theirs_when_others_are_added(tmp_path):
    path = table(tmp_path, 'count\n3\n4\n0\n')
    train, test = (sequences('csv', path, split=split) for split in ('train', 'test'))
    np.testing.assert_array_equal(rows(train)['sequence'], rows(test)['sequence'])
    assert (train.fields['sequence'].low, train.fields['sequence'].high) == (0, 4)
    held_out = []
    for count in (60, 80):
        path = table(tmp_path, '\n'.join(['sequence,value', *(f's{n},{n}.5' for n in range(count))]))
        held_out.append({*rows(sequences('csv', path, split='test'))['sequence'][:, 0, 0].tolist()})
    assert {value for value in held_out[1] if value < 60} == held_out[0] and 2 <= len(held_out[0]) <= 12


@pytest.mark.parametrize(
    'text, message',
    [
        ('a,b\n1,2\n1\n', r'table.csv, line 3: 1 columns, and the first line names 2'),
        ('a\n1\nx\n', r"line 3: 'x' in the column a is not a number"),
        ('a,b\n1,\n', r"line 2: '' in the column b is not a number"),
        ('a\nnan\n', r"'nan' in the column a is not a number"),
        ('1\n2\n', "the first line has '1': write the names of the columns there"),
        ('a,A\n1,2\n', "the column 'a' more than once"),
        ('sequence\nx\n', 'no column of values'),
        ('a\n', 'has no rows'),
        ('a\n"1\n', 'put the quotes right'),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as raised:
        sequences('csv', table(tmp_path, text))
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'name': 'earthquake'}, 'did you mean earthquakes'),
        ({'name': 'csv'}, "config.data.name='csv' .*: set config.data.dir to your table"),
        ({'name': 'letters', 'dir': 'x.csv'}, "set config.data.name='csv'"),
        ({'name': 'csv', 'dir': 'missing.csv'}, 'missing.csv cannot be read: No such file'),
    ],
)
def test_wrong_configs_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        load(defaults(source='sequences', observe='sequence', **changes))


def test_a_model_takes_the_times_and_the_symbols_from_the_data(tmp_path):
    config = ConfigDict({'data': defaults(source='sequences', name='letters', observe='sequence')})
    config.model = ConfigDict({'time_steps': 'auto', 'emission': {'symbols': 'auto'}})
    resolve(config, load(config.data))
    assert config.model.to_dict() == {'time_steps': 435, 'emission': {'symbols': 27}}
    for data, message in (
        (dict(name='csv', dir=table(tmp_path, 'a\n0.5\n')), 'are not symbols: make them 0, 1, 2'),
        (
            dict(source='toy', name='ring', observe='point', dir=''),
            'ring/train has no sequences: set config.data.source=',
        ),
    ):
        config.data.update(data)
        config.model = ConfigDict({'symbols': 'auto'})
        with pytest.raises(ConfigError, match=message):
            resolve(config, load(config.data))
