"""Tests pairs of images: the layouts that sets come in, aligned halves and files, domains without pairs, and errors."""

import numpy as np
import pytest
from PIL import Image

from genlab.data import Batches, check, declared, fingerprint, load
from genlab.data.load import defaults
from genlab.data.sources import decoding, pairs
from genlab.errors import ConfigError

LEFT, RIGHT = (200, 0, 0), (0, 0, 200)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('GENLAB_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def place(tmp_path):
    (tmp_path / 'set').mkdir()
    return tmp_path / 'set'


def save(path, number, colour=LEFT, size=(8, 8)):
    """Writes an image whose green level is `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (colour[0], number, colour[2])).save(path)


def side_by_side(path, number, size=(16, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new('RGB', size, (*LEFT[:1], number, LEFT[2]))
    image.paste((RIGHT[0], number, RIGHT[2]), (size[0] // 2, 0, *size))
    image.save(path)


def config_of(place, **changes):
    return defaults(
        **{'source': 'pairs', 'dir': str(place), 'channels': 3, 'resolution': 8, 'fields': ('input',), **changes}
    )


def rows_of(place, split='train', **changes):
    source = load(config_of(place, **changes), split)
    rows = source.rows(np.arange(len(source)))
    check(source, rows)
    return rows


def expect(rows, numbers, swapped=False):
    """Checks that every input is a left image and every image its counterpart on the right."""
    one, two = (rows['image'], rows['input']) if swapped else (rows['input'], rows['image'])
    np.testing.assert_array_equal(one[..., [0, 2]], np.broadcast_to([200, 0], (*one.shape[:3], 2)))
    np.testing.assert_array_equal(two[..., [0, 2]], np.broadcast_to([0, 200], (*two.shape[:3], 2)))
    np.testing.assert_array_equal(one[..., 1], two[..., 1])
    assert sorted(one[:, 0, 0, 1].tolist()) == numbers


@pytest.mark.parametrize('in_memory', [True, False])
@pytest.mark.parametrize('swapped', [False, True])
def test_halves_of_an_image(place, in_memory, swapped, monkeypatch, capsys):
    for n in range(6):
        side_by_side(place / ('train' if n < 4 else 'val') / f'{n}.png', n)
    if not in_memory:
        monkeypatch.setattr(decoding, 'IN_MEMORY', 0)
    changes = {'name': 'B,A'} if swapped else {}
    assert load(config_of(place, **changes)).in_memory == in_memory
    expect(rows_of(place, **changes), [0, 1, 2, 3], swapped)
    expect(rows_of(place, 'test', **changes), [4, 5], swapped)
    line = (
        f'4 training and 2 held-out pairs side by side in one image; input: the {"right" if swapped else "left"} half'
    )
    assert line in capsys.readouterr().err or in_memory is False  # a line is said once per process and folder


def test_halves_of_other_sizes_are_cropped_to_their_own_central_square(place):
    side_by_side(place / 'train' / 'a.png', 7, (40, 10))
    side_by_side(place / 'test' / 'a.png', 9, (24, 20))
    expect(rows_of(place), [7])
    expect(rows_of(place, 'test'), [9])


@pytest.mark.parametrize(
    'train, test, ending',
    [
        (('trainA', 'trainB'), ('testA', 'testB'), 'png'),
        (('train_a', 'train_b'), ('val_a', 'val_b'), 'jpg'),
        (('set/train/A', 'set/train/B'), ('set/test/A', 'set/test/B'), 'png'),
        (('A/training', 'B/training'), ('A/testing', 'B/testing'), 'bmp'),
    ],
)
def test_equal_names_in_two_folders_are_pairs(place, train, test, ending, capsys):
    for n in range(5):
        one, two = train if n < 3 else test
        save(place / one / f'{n}.png', n, LEFT)
        Image.new('RGB', (8, 8), (0, n, 200)).save(folder_of(place / two) / f'{n}.{ending}', quality=100, subsampling=0)
    source = load(config_of(place))
    assert source.domains == () and len(source) == 3 and len(load(config_of(place), 'test')) == 2
    if ending != 'jpg':
        expect(rows_of(place), [0, 1, 2])
        expect(rows_of(place, name='B,A'), [0, 1, 2], swapped=True)
        expect(rows_of(place, 'test'), [3, 4])
    line = f'3 training and 2 held-out pairs by equal names; input: {train[0]}/ and {test[0]}/, image: {train[1]}/'
    assert line in capsys.readouterr().err


def folder_of(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_parallel_folders_by_their_names(place, capsys):
    for n in range(40):
        save(place / 'noto' / f'{n}.png', n, LEFT)
        save(place / 'fluentui' / f'{n}.gif.png', n, RIGHT)
        (place / 'fluentui' / f'{n}.gif.png').rename(place / 'fluentui' / f'{n}.bmp')
        save(place / 'twemoji' / f'{n}.png', n)
    train, test = (rows_of(place, split, name='noto,fluentui') for split in ('train', 'test'))
    held_out = sorted(test['image'][:, 0, 0, 1].tolist())
    assert 1 <= len(held_out) <= 10
    expect(test, held_out)
    expect(train, sorted({*range(40)} - {*held_out}))
    assert 'outside noto/ and fluentui/ 40 (twemoji/0.png, ' in capsys.readouterr().err


def test_the_domain_at_the_end_of_all_names_does_not_count(place):
    for n in range(3):
        save(place / 'trainA' / f'{n}_A.png', n, LEFT)
        save(place / 'trainB' / f'{n}_B.png', n, RIGHT)
    rows = [rows_of(place, split) for split in ('train', 'test')]
    expect({name: np.concatenate([part[name] for part in rows]) for name in rows[0]}, [0, 1, 2])


def unpaired_set(place):
    for n in range(7):
        save(place / 'trainA' / f'horse{n}.png', n, LEFT)
    for n in range(4):
        save(place / 'trainB' / f'zebra{n}.png', 100 + n, RIGHT)
        save(place / 'testA' / f'h{n}.png', 50 + n, LEFT)
    save(place / 'testB' / 'z.png', 150, RIGHT)


def test_domains_of_different_lengths(place, capsys):
    unpaired_set(place)
    config = config_of(place, unpaired='input')
    source, test = load(config), load(config, 'test')
    assert '7 and 4 unpaired training and 4 and 1 unpaired held-out images; input: trainA/' in capsys.readouterr().err
    assert [(len(domain), [*domain.fields]) for domain in source.domains] == [(4, ['image']), (7, ['input'])]
    assert (len(source), len(test)) == (7, 4) and test.domains
    rows = rows_of(place, unpaired='input')
    assert rows['input'][:, 0, 0, 1].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert rows['image'][:, 0, 0, 1].tolist() == [100, 101, 102, 103, 100, 101, 102]
    batches = Batches(source, 4, seed=0)
    drawn = {name: array[..., 0, 0, 1].reshape(-1) for name, array in batches(0, 7).items() if array.ndim > 2}
    assert sorted(drawn['input'][:14].tolist()) == sorted([*range(7)] * 2)
    assert sorted(drawn['image'][:28].tolist()) == sorted([*range(100, 104)] * 7)
    found = declared(config)
    assert found.fields == source.fields and [len(domain) for domain in found.domains] == [4, 7]
    assert load(config_of(place, fields=())).fields.keys() == {'image'}  # one domain needs no counterparts
    assert len(load(config_of(place, unpaired='input', limit=3))) == 3
    swapped = load(config_of(place, unpaired='input', name='B,A'))
    assert [len(domain) for domain in swapped.domains] == [7, 4]


def test_pairs_that_are_drawn_apart_stay_pairs_in_the_held_out_split(place):
    for n in range(6):
        save(place / ('trainA' if n < 4 else 'testA') / f'{n}.png', n, LEFT)
        save(place / ('trainB' if n < 4 else 'testB') / f'{n}.png', n, RIGHT)
    source, test = (load(config_of(place, unpaired='input'), split) for split in ('train', 'test'))
    assert len(source.domains) == 2 and test.domains == ()
    expect(rows_of(place, 'test', unpaired='input'), [4, 5])
    assert fingerprint.of(source).digest == fingerprint.of(load(config_of(place))).digest
    assert len(fingerprint.of(source).files.names) == 4


def aligned(place, count=4):
    for n in range(count):
        for split in ('train', 'test'):
            save(place / f'{split}A' / f'{n}.png', n, LEFT)
            save(place / f'{split}B' / f'{n}.png', n, RIGHT)


def test_a_pair_is_left_out_if_one_of_its_files_cannot_be_read(place, capsys):
    aligned(place)
    (place / 'trainA' / '1.png').write_bytes(b'')
    (place / 'trainB' / '2.png').write_bytes(b'')
    expect(rows_of(place), [0, 3])
    err = capsys.readouterr().err
    assert 'left out 1 of 4 training images that cannot be read: trainA/1.png' in err
    assert 'left out 2 train images whose counterparts cannot be read' in err
    for n in (0, 3):
        (place / 'trainA' / f'{n}.png').write_bytes(b'')
    (place / 'trainA' / '2.png').write_bytes((place / 'trainA' / '0.png').read_bytes())
    with pytest.raises(ConfigError, match='none of the 4 training images'):
        load(config_of(place))


def test_the_fingerprint_changes_with_the_files_of_both_domains_and_with_the_direction(place):
    aligned(place)

    def records(**changes):
        config = config_of(place, **changes)
        return fingerprint.record({split: load(config, split) for split in ('train', 'test')})

    before = records()
    assert fingerprint.compare(before, records()) == ([], [])
    assert fingerprint.compare(before, records(name='B,A')).images
    for domain in 'AB':
        save(place / f'train{domain}' / '3.png', 33)
        changes = fingerprint.compare(before, records())
        assert changes.images == ['train: 0 added, 0 removed, 1 changed, 0 with another label or caption']
        before = records()
    assert before.facts['splits']['train']['examples'] == len(before.files['train'].names) == 4


@pytest.mark.parametrize('layout', ['halves', 'names'])
def test_a_set_is_declared_as_it_is_loaded_but_no_picture_is_decoded(place, layout, monkeypatch):
    aligned(place)
    if layout == 'halves':
        for n in range(4):
            side_by_side(place / 'whole' / 'train' / f'{n}.png', n)
        place = place / 'whole'
    config = config_of(place)
    known = load(config)
    monkeypatch.setattr('genlab.data.sources.folder.decode', None)
    monkeypatch.setattr('genlab.data.sources.folder.decode_halves', None)
    found = declared(config)
    assert (found.fields, len(found), found.name) == (known.fields, len(known), known.name)
    check(found, found.rows(np.arange(len(found))))


def test_a_set_that_is_not_there_is_declared(tmp_path):
    for changes in ({}, {'unpaired': 'input'}):
        source = declared(config_of(tmp_path / 'nowhere', **changes))
        assert {*source.fields} == {'image', 'input'} and bool(source.domains) == bool(changes)


def _extra(place):
    save(place / 'trainB' / 'more.png', 9)


def _none(place):
    pass


def _twice(place):
    save(place / 'trainA' / '0.bmp', 9)


def _no_test(place):
    (place / 'testB').rename(place / 'elsewhere')


def _no_train(place):
    (place / 'trainB').rename(place / 'elsewhere')


def _two_splits(place):
    save(place / 'train' / 'A' / '0.png', 9)


def _squares(place):
    (place / 'captions.tsv').write_text('a table that is no table of files')
    for split in ('train', 'test'):
        (place / f'{split}A').rename(place / split)
        (place / f'{split}B').rename(place / f'more{split}')


@pytest.mark.parametrize(
    'change, changes, message',
    [
        (
            _extra,
            {},
            r'the train images in A and B are not pairs: 1 of 9 files have no counterpart, such as '
            r'trainB/more.png: .* config.data.unpaired=input',
        ),
        (_twice, {}, 'trainA/0.bmp and trainA/0.png have the same name'),
        (_no_test, {}, 'has testA and no such folder of B: add it'),
        (_no_train, {}, 'has testB and no training images of B: name their folder trainB'),
        (_two_splits, {}, 'trainA and train/A are the same split of A'),
        (
            _squares,
            {},
            r'none of the 4 held-out images .* \(8 x 8 pixels are not two pictures .*set config.data.name to',
        ),
        (_extra, {'name': 'noto,fluentui'}, 'has no folders noto and fluentui with images'),
        (_extra, {'name': 'noto'}, "config.data.name='noto': give the folders of the input and of the target"),
        (_extra, {'fields': ('inptu',), 'unpaired': 'input'}, "the field='inptu'.*did you mean input"),
        (_extra, {'unpaired': 'image'}, "config.data.unpaired='image' is the modelled field"),
        (_none, {'unpaired': 'style'}, "the field='style': choose one of input, image"),
    ],
)
def test_contradictions_are_refused_in_one_line(place, change, changes, message):
    aligned(place)
    change(place)
    with pytest.raises(ConfigError, match=message) as raised:
        load(config_of(place, **changes))
    assert '\n' not in str(raised.value)


def test_listing_opens_no_file(place, monkeypatch):
    aligned(place)
    monkeypatch.setattr('builtins.open', None)
    assert pairs.find(str(place)).paired('train')
