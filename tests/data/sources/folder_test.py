"""Tests folders of the user's images: common layouts and formats, and the errors of unusable ones."""

import os

import numpy as np
import pytest
from PIL import Image

from genlab.data import Batches, captions, check, fingerprint, load
from genlab.data.load import defaults
from genlab.data.sources import decoding, listing
from genlab.data.sources.folder import folder
from genlab.errors import ConfigError, UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('GENLAB_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def place(tmp_path):
    (tmp_path / 'images').mkdir()
    return tmp_path / 'images'


def save(path, colour=(200, 30, 30), size=(20, 20), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, colour).save(path, **options)


def both(place, **changes):
    """Returns all images of both splits, in the order of their splits."""
    parts = [folder(place, **changes, split=split) for split in ('train', 'test')]
    return np.concatenate([part.rows(np.arange(len(part)))['image'] for part in parts])


def one(place, image, name, channels, **options):
    image.save(place / name, **options)
    return folder(place, 8, channels).rows(np.array([0]))['image'][0]


LEFT_DARK = np.repeat(np.repeat(np.array([[0, 255]], np.uint8), 4, 1), 8, 0)  # 8x8, the left half black


def test_modes(place):
    grey = Image.fromarray(np.full((9, 9), 100, np.uint8))
    clear = Image.new('RGBA', (9, 9), (255, 0, 0, 0))
    palette = Image.new('RGB', (9, 9), (0, 0, 255)).convert('P')
    cases = [
        ('grey.png', grey, 100),
        ('clear.png', clear, 255),
        ('bits.png', Image.new('1', (9, 9), 1), 255),
        ('deep.png', Image.fromarray(np.full((9, 9), 25700, np.uint16)), 100),
        ('palette.png', palette, (0, 0, 255)),
        ('print.jpg', Image.new('CMYK', (9, 9), (0, 0, 0, 0)), 255),
        ('half.png', grey.convert('LA'), 100),
        ('floats.tif', Image.fromarray(np.full((9, 9), 0.2, np.float32)), 51),
    ]
    for name, image, expected in cases:
        found = one(place, image, name, 3)
        np.testing.assert_allclose(found, np.broadcast_to(expected, (8, 8, 3)), atol=1, err_msg=name)
        assert folder(place, 8, 1).rows(np.array([0]))['image'].shape == (1, 8, 8, 1)
        (place / name).unlink()


def test_half_transparent_images_are_blended_with_white(place):
    found = one(place, Image.new('RGBA', (8, 8), (0, 0, 0, 128)), 'shade.png', 1)
    np.testing.assert_allclose(found, 127, atol=1)


def test_the_orientation_of_a_camera_is_applied(place):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    found = one(place, Image.fromarray(LEFT_DARK), 'turned.png', 1, exif=exif)
    np.testing.assert_array_equal(found[..., 0], LEFT_DARK[:, ::-1])


def test_central_square_and_antialiasing(place):
    wide = np.concatenate(
        [np.full((16, 8), 255, np.uint8), np.zeros((16, 16), np.uint8), np.full((16, 8), 255, np.uint8)], 1
    )
    assert one(place, Image.fromarray(wide), 'a.png', 1)[:, 1:-1].max() == 0
    (place / 'a.png').unlink()
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    np.testing.assert_allclose(one(place, Image.fromarray(checks), 'b.png', 1), 127.5, atol=4)


def test_corrupt_files_are_named_and_left_out(place, capsys):
    for n in range(30):
        save(place / f'good{n}.png', (n, 0, 0))
    for n in range(5):
        (place / f'bad{n}.png').write_bytes(b'no image at all')
    whole = (place / 'good3.png').read_bytes()
    (place / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
    assert len(both(place, resolution=8)) == 30
    lines = [line for line in capsys.readouterr().err.splitlines() if 'cannot be read' in line]
    assert len(lines) == 2 and 'left out 5 of 32 training images' in lines[1]  # each once, although train loads both
    assert 'left out 1 of 4 held-out images that cannot be read: bad1.png (no format that Pillow reads)' in lines[0]
    assert len(both(place, resolution=8)) == 30  # from the cache


def test_a_repaired_file_is_used_again(place):
    """Checks that a file is not left out for ever, even if the repair keeps its size and time."""
    for n in range(3):
        save(place / f'{n}.png', (90, 0, 0))
    good, times = (place / '1.png').read_bytes(), (place / '1.png').stat()
    (place / '1.png').write_bytes(bytes(len(good)))
    os.utime(place / '1.png', ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len(both(place, resolution=8)) == 2
    (place / '1.png').write_bytes(good)
    os.utime(place / '1.png', ns=(times.st_atime_ns, times.st_mtime_ns))
    images = both(place, resolution=8)
    assert len(images) == 3 and (images[..., 0] == 90).all()


def test_only_corrupt_files(place):
    (place / 'bad.png').write_bytes(b'no image at all')
    with pytest.raises(UserError, match=r'none of the 1 held-out images .*bad\.png \(no format'):
        folder(place)


@pytest.mark.parametrize(('missing', 'fault'), [('', 'dir is empty'), ('nowhere', 'dir=nowhere is not a folder')])
def test_no_folder(missing, fault):
    with pytest.raises(UserError, match=f'config.data.{fault}: set it to a folder of images'):
        folder(missing)


def test_empty_folder(place):
    (place / 'notes.txt').write_text('nothing')
    (place / '.hidden.png').write_bytes(b'')
    with pytest.raises(UserError, match='there are no images in .*labels.csv') as raised:
        folder(place)
    assert '\n' not in str(raised.value)


def test_subfolders_are_classes_and_splits_are_stable(place):
    for n in range(60):
        save(place / ('cats' if n % 2 else 'dogs') / 'deeper' / f'{n}.png', (n, 200 * (n % 2), 0))
    source, held_out = folder(place, 8), folder(place, 8, split='test')
    assert source.classes == held_out.classes == ('cats', 'dogs')
    assert 1 <= len(held_out) <= 15 and len(source) + len(held_out) == 60
    rows = source.rows(np.arange(len(source)))
    check(source, rows)
    np.testing.assert_array_equal(rows['label'], rows['image'][:, 0, 0, 1] == 0)
    before = held_out.rows(np.arange(len(held_out)))['image'][:, 0, 0, 0]
    for n in range(60, 80):
        save(place / 'cats' / f'{n}.png', (n, 200, 0))
    more = folder(place, 8, split='test')
    assert set(before) <= set(more.rows(np.arange(len(more)))['image'][:, 0, 0, 0])


def test_folders_of_splits(place):
    save(place / 'train' / 'cats' / 'a.png')
    save(place / 'train' / 'dogs' / 'b.png')
    save(place / 'test' / 'cats' / 'c.png')
    save(place / 'elsewhere.png')
    assert (len(folder(place)), len(folder(place, split='test'))) == (2, 1)
    (place / 'test' / 'cats' / 'c.png').unlink()
    with pytest.raises(UserError, match='no images in test/'):
        folder(place, split='test')


@pytest.mark.parametrize(
    'train, test, other',
    [('Train', 'Test', 'val'), ('train', 'valid', 'docs'), ('training', 'val', ''), ('set/TRAIN', 'set/testing', '')],
)
def test_names_of_split_folders(place, train, test, other, capsys):
    save(place / train / 'cats' / 'a.png')
    save(place / train / 'dogs' / 'a.png')
    save(place / test / 'dogs' / 'b.png')
    if other:
        save(place / other / 'cats' / 'c.png')
    found = listing.find(place)
    assert found.classes == ('cats', 'dogs') and found.folders == {'train': train, 'test': test}
    assert listing.of_split(found, 'train') == [f'{train}/cats/a.png', f'{train}/dogs/a.png']
    assert listing.of_split(found, 'test') == [f'{test}/dogs/b.png']
    assert (f'outside {train}/ and {test}/ 1 ({other}/cats/c.png)' in listing.summary(found)) == bool(other)


@pytest.mark.parametrize(
    'names, message',
    [
        (('train', 'Train', 'test'), 'Train and train are the same split'),
        (('train', 'val', 'valid'), 'val and valid are the same split'),
        (('test', 'val'), 'has test and val and no train/'),
    ],
)
def test_doubtful_split_folders_are_refused(place, names, message):
    for name in names:
        save(place / name / 'a.png')
    with pytest.raises(ConfigError, match=message):
        listing.find(place)


def test_train_may_be_a_class(place):
    for name in ('bus', 'train'):
        save(place / name / 'a.png')
    assert listing.find(place).classes == ('bus', 'train')


def test_classes_of_whole_numbers_are_in_numeric_order(place):
    for n in range(12):
        save(place / str(n) / 'a.png')
    assert listing.find(place).classes == tuple(map(str, range(12)))
    save(place / 'other' / 'a.png')
    assert listing.find(place).classes[:4] == ('0', '1', '10', '11')


def test_links_are_followed_and_what_is_no_image_is_never_opened(place, tmp_path):
    """Checks that only regular files are opened: opening the pipe would wait for ever."""
    save(place / 'cats' / 'a.png')
    save(tmp_path / 'away' / 'b.png')
    (place / 'birds').symlink_to(tmp_path / 'away')
    (place / 'birds2').symlink_to(tmp_path / 'away')
    (place / 'cats' / 'up').symlink_to(place)
    (place / 'cats' / 'above').symlink_to(tmp_path)
    (place / 'cats' / 'linked.png').symlink_to(place / 'cats' / 'a.png')
    (place / 'gone.png').symlink_to(place / 'nowhere.png')
    (place / 'self.png').symlink_to(place / 'self.png')
    os.mkfifo(place / 'pipe.png')
    (place / 'notes.txt').write_text('')
    (place / '.DS_Store').write_text('')
    (place / 'fish').mkdir()
    found = listing.find(place)
    assert found.files == ['birds/b.png', 'cats/a.png', 'cats/linked.png'] and found.classes == ('birds', 'cats')
    assert found.ignored == {
        'hidden': ['.DS_Store'],
        'dangling links': ['gone.png'],
        'links to themselves': ['self.png'],
        'other file types': ['notes.txt'],
        'pipes, sockets or devices': ['pipe.png'],
        'links to folders above or listed already': ['birds2', 'cats/above', 'cats/up'],
        'folders without images': ['fish'],
    }
    line = listing.summary(found)
    assert '2 training and 1 held-out images, ' in line or '1 training and 2 held-out images, ' in line
    assert '2 classes (0: birds, 1: cats); skipped: hidden 1 (.DS_Store), ' in line and '\n' not in line
    (place / 'labels.csv').symlink_to(place / 'nowhere.csv')
    with pytest.raises(ConfigError, match='labels.csv is not a regular file'):
        listing.find(place)


@pytest.mark.parametrize('ending', ['jfif', 'JPE', 'tif', 'tga', 'pbm', 'jp2'])
def test_extensions_that_pillow_reads(place, ending):
    form = {'jfif': 'JPEG', 'JPE': 'JPEG', 'tga': 'TGA', 'tif': 'TIFF', 'pbm': 'PPM', 'jp2': 'JPEG2000'}[ending]
    save(place / f'a.{ending}', format=form)
    assert len(folder(place, 8)) == 1


def test_names_that_are_not_utf8(place, tmp_path, capfd):
    """Checks that such names reach no class, message, cache entry or name of a source unescaped."""
    odd = place / os.fsdecode(b'set\xff')
    for n in range(3):
        save(odd / os.fsdecode(b'caf\xe9') / f'{n}.png')
        save(odd / 'plain' / os.fsdecode(b'%d\xe9.png' % n))
    (odd / 'plain' / os.fsdecode(b'bad\xe9.png')).write_bytes(b'')
    source = folder(odd, 8)
    assert source.classes == (r'caf\xe9', 'plain') and source.name == r'set\xff/train'
    assert r'plain/bad\xe9.png (no format' in capfd.readouterr().err
    for path in (tmp_path / 'cache').iterdir():
        path.name.encode()
    with pytest.raises(ConfigError, match='is not a folder') as raised:
        folder(str(odd / 'nowhere'))
    str(raised.value).encode()


def test_faults_of_held_out_images_show_with_the_training_set(place, capsys):
    for n in range(3):
        save(place / 'train' / f'{n}.png')
        save(place / 'test' / f'{n}.png')
    (place / 'test' / '1.png').write_bytes(b'')
    folder(place, 8)
    err = capsys.readouterr().err
    assert '3 training and 3 held-out images in train/ and test/' in err
    assert 'left out 1 of 3 held-out images that cannot be read: test/1.png' in err
    for n in range(3):
        (place / 'test' / f'{n}.png').write_bytes(b'')
    with pytest.raises(ConfigError, match='none of the 3 held-out images'):
        folder(place, 8)


def test_folders_common_to_all_images_are_no_classes(place):
    for name in ('cats', 'dogs'):
        save(place / 'release' / '1' / name / 'a.png')
    assert folder(place).classes == ('cats', 'dogs')
    save(place / 'release' / '1' / 'b.png')
    assert folder(place).classes == ()


def test_few_images_have_both_splits(place):
    save(place / 'a.png')
    assert len(folder(place)) == len(folder(place, split='test')) == 1
    save(place / 'b.png')
    assert len(folder(place)) == len(folder(place, split='test')) == 1


def test_table_of_labels_and_captions(place):
    for n in range(20):
        save(place / f'{n}.png', (n, 0, 0))
    lines = [f'{n}.png,{"even" if n % 2 == 0 else "odd"},"number {n}, in red"' for n in range(20)]
    (place / 'labels.csv').write_text('\n'.join(['file,label,caption', *lines, 'absent.png,odd,gone']))
    source = folder(place, 8)
    rows = source.rows(np.arange(len(source)))
    check(source, rows)
    numbers = rows['image'][:, 0, 0, 0]
    assert source.classes == ('even', 'odd')
    np.testing.assert_array_equal(rows['label'], numbers % 2)
    assert source.captions(np.array([3])) == [f'number {numbers[3]}, in red']
    assert captions.text(rows['caption'][3], source.vocabulary) == f'number {numbers[3]} in red'
    assert folder(place, 8, split='test').vocabulary == source.vocabulary


LABELS = 'File, LABEL \ncats\\a.png,cat  \n./b.png, dög\n'
TABLES = {
    'cp1252': LABELS.encode('cp1252'),
    'utf-8': LABELS.encode(),
    'utf-8-sig': LABELS.encode('utf-8-sig'),
    'utf-16': LABELS.encode('utf-16'),
    'crlf, blank lines, trailing commas': LABELS.replace('\n', ',\r\n ,\r\n').encode(),
}


@pytest.mark.parametrize('form', TABLES)
def test_forms_of_a_table(place, form, capsys):
    save(place / 'cats' / 'a.png')
    save(place / 'b.png')
    (place / 'labels.csv').write_bytes(TABLES[form])
    found = listing.find(place)
    assert found.classes == ('cat', 'dög') and found.labels == {'cats/a.png': 'cat', 'b.png': 'dög'}
    assert ('labels.csv, line 3: read as Windows-1252' in capsys.readouterr().err) == (form == 'cp1252')


@pytest.mark.parametrize(
    'table, message',
    [
        (b'name,caption\na.png,red\n', 'labels.csv has the columns name, caption: it needs file'),
        (b'file,label,Label\na.png,a,b\n', 'has the column label more than once'),
        (b'', 'has the columns none'),
        (b'file,label\na.png,cat\nb.png\n', 'labels.csv, line 3: 1 columns, and the first line names 2'),
        (b'file,label\na.png,cat,dog\n', 'labels.csv, line 2: 3 columns'),
        (b'file,label\n,cat\n', 'labels.csv, line 2: the column file is empty'),
        (b'file,label\na.png,cat\n\n./a.png,dog\n', 'labels.csv, line 4: a.png has other values in line 2'),
        (b'file,label\na.png,"cat\nb.png,dog\n', 'labels.csv, line 3: .*put the quotes right'),
        ('file,label\na.png,cat\n'.encode('utf-16-le'), 'labels.csv, line 1: there is a zero byte'),
        (b'\xff\xfef', 'labels.csv, line 1: this is not UTF-16'),
        (b'file,label\na.png,\x81\n', 'labels.csv, line 2: this is neither UTF-8 nor Windows-1252'),
    ],
)
def test_doubtful_tables_are_refused_with_the_line(place, table, message):
    save(place / 'a.png')
    (place / 'labels.csv').write_bytes(table)
    with pytest.raises(ConfigError, match=message) as raised:
        folder(place)
    assert '\n' not in str(raised.value)


def test_names_of_classes_that_are_nearly_the_same_are_mentioned(place, capsys):
    for name in ('Cat', 'cat', 'dog'):
        save(place / name / 'a.png')
    assert len(listing.find(place).classes) == 3
    assert 'Cat and cat are different classes' in capsys.readouterr().err


def test_partial_labels_are_not_used(place, capsys):
    save(place / 'cats' / 'a.png')
    save(place / 'b.png')
    assert 'label' not in folder(place).fields
    assert 'no labels are used: 1 images have none, such as b.png' in capsys.readouterr().err


def test_cache_follows_the_files_and_survives_damage(place, tmp_path, caplog):
    save(place / 'a.png', (10, 0, 0))
    first = folder(place, 8).rows(np.array([0]))['image']
    (entry,) = (tmp_path / 'cache').glob('images-train-*')
    damaged = bytearray((entry / 'image.npy').read_bytes())
    damaged[-1] ^= 255
    (entry / 'image.npy').write_bytes(damaged)
    with caplog.at_level('WARNING', logger='absl'):
        np.testing.assert_array_equal(folder(place, 8).rows(np.array([0]))['image'], first)
    assert 'wrong checksum of image' in caplog.text
    save(place / 'a.png', (99, 0, 0), size=(30, 30))
    assert folder(place, 8).rows(np.array([0]))['image'].max() == 99


def test_large_folders_are_not_loaded_into_memory(place, monkeypatch):
    for n in range(12):
        save(place / f'{n}.png', (n, 0, 0))
    (place / 'bad.png').write_bytes(b'no image at all')
    kept = folder(place, 8)
    monkeypatch.setattr(decoding, 'IN_MEMORY', 100)
    source = folder(place, 8)
    assert kept.in_memory and not source.in_memory and source.fields == kept.fields
    assert fingerprint.of(source).digest == fingerprint.of(kept).digest
    batches = [dict(Batches(one, 4, seed=0).stream(0, 1, 3)) for one in (source, kept)]
    for n in range(3):
        np.testing.assert_array_equal(batches[0][n]['image'], batches[1][n]['image'])


def test_through_load(place):
    save(place / 'a.png', (10, 20, 30))
    source = load(defaults(source='folder', dir=str(place), resolution=16, channels=3))
    np.testing.assert_array_equal(source.rows(np.array([0]))['image'][0, 5, 5], [10, 20, 30])


def test_colours_that_a_config_would_lose_are_told(tmp_path, capsys):
    """A set of greys stored as RGB has no colours to lose, and a set in colour loses none with three channels."""
    random = np.random.RandomState(0)
    for place, pixels in (('grey', (9, 9, 1)), ('colour', (9, 9, 3))):
        (tmp_path / place).mkdir()
        for n in range(4):
            pixel = np.broadcast_to(random.randint(0, 256, pixels, np.uint8), (9, 9, 3))
            Image.fromarray(pixel).save(tmp_path / place / f'{n}.png')
    lines = {}
    for place, channels in (('grey', 1), ('colour', 3), ('colour', 1)):
        folder(str(tmp_path / place), 8, channels)
        lines[place, channels] = capsys.readouterr().err
    assert '--config.data.channels=3 keeps the colours' in lines.pop(('colour', 1))
    assert all('channels' not in line for line in lines.values())
