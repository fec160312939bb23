"""Tests folders of the user's images: common layouts and formats, and the errors of unusable ones."""

import logging

import numpy as np
import pytest
from PIL import Image

from genlab.data import Batches, captions, check, load
from genlab.data.load import defaults
from genlab.data.sources import decoding
from genlab.data.sources.folder import folder
from genlab.errors import UserError


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


def test_corrupt_files_are_named_and_left_out(place, caplog):
    for n in range(30):
        save(place / f'good{n}.png', (n, 0, 0))
    for n in range(5):
        (place / f'bad{n}.png').write_bytes(b'no image at all')
    whole = (place / 'good3.png').read_bytes()
    (place / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
    for _ in range(2):  # decoded, and from the cache
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger='absl'):
            assert len(both(place, resolution=8)) == 30
        assert 'that cannot be read: bad' in caplog.text


def test_only_corrupt_files(place):
    (place / 'bad.png').write_bytes(b'no image at all')
    with pytest.raises(UserError, match=r'none of the 1 images .*bad\.png'):
        folder(place)


@pytest.mark.parametrize('missing', ['', 'nowhere'])
def test_no_folder(missing):
    with pytest.raises(UserError, match='is no folder: set it to a folder of images'):
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


def test_a_table_without_its_columns(place):
    save(place / 'a.png')
    (place / 'captions.tsv').write_text('name\tcaption\na.png\tred\n')
    with pytest.raises(UserError, match='captions.tsv has the columns name, caption: it needs file'):
        folder(place)


def test_partial_labels_are_not_used(place, caplog):
    save(place / 'cats' / 'a.png')
    save(place / 'b.png')
    with caplog.at_level(logging.WARNING, logger='absl'):
        assert 'label' not in folder(place).fields
    assert 'no labels are used: 1 images have none, such as b.png' in caplog.text


def test_cache_follows_the_files_and_survives_damage(place, tmp_path, caplog):
    save(place / 'a.png', (10, 0, 0))
    first = folder(place, 8).rows(np.array([0]))['image']
    (entry,) = (path for path in (tmp_path / 'cache').iterdir())
    damaged = bytearray((entry / 'image.npy').read_bytes())
    damaged[-1] ^= 255
    (entry / 'image.npy').write_bytes(damaged)
    with caplog.at_level(logging.WARNING, logger='absl'):
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
    batches = [dict(Batches(one, 4, seed=0).stream(0, 1, 3)) for one in (source, kept)]
    for n in range(3):
        np.testing.assert_array_equal(batches[0][n]['image'], batches[1][n]['image'])


def test_through_load(place):
    save(place / 'a.png', (10, 20, 30))
    source = load(defaults(source='folder', dir=str(place), resolution=16, channels=3))
    np.testing.assert_array_equal(source.rows(np.array([0]))['image'][0, 5, 5], [10, 20, 30])
