"""Tests the decoding of images: ranges of values, what is refused and why, and large images."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from genlab.data import images
from genlab.data.images import decode, eight_bits, refusal

RAMP = np.linspace(0, 1, 64).reshape(8, 8)


def stored(picture, form, **options):
    """Returns the bytes of an image file."""
    data = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(data, form, **options)
    return data.getvalue()


def png16(array):
    """Returns a PNG of 16 bits per channel, which Pillow does not write in colour. array: [H, W, C]."""
    height, width, channels = array.shape
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in array)
    kind = {2: 4, 3: 2, 4: 6}[channels]

    def chunk(name, data):
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))

    header = struct.pack('>IIBBBBB', width, height, 16, kind, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


@pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
@pytest.mark.parametrize('form', ['PNG', 'TIFF'])
def test_the_range_of_integers_is_found(bits, form):
    levels = np.rint(RAMP * (2**bits - 1)).astype(np.uint16)
    np.testing.assert_allclose(decode(stored(levels, form), 8, 1)[..., 0], RAMP * 255, atol=0.51)


@pytest.mark.parametrize('white', [1, 255, 65535])
def test_the_range_of_floats_is_found(white):
    levels = (RAMP * white).astype(np.float32)
    np.testing.assert_allclose(decode(stored(levels, 'TIFF'), 8, 1)[..., 0], RAMP * 255, atol=0.51)
    if white == 1:
        np.testing.assert_allclose(eight_bits(levels * 1.05), np.minimum(RAMP * 1.05, 1) * 255, atol=0.51)


def test_a_stated_range_is_used_for_dark_images():
    """Checks a PGM whose levels reach 300 of 4095, and a TIFF of 12 bits whose levels reach 100."""
    levels = np.rint(RAMP * 300).astype('>u2')
    found = decode(b'P5 8 8 4095\n' + levels.tobytes(), 8, 1)[..., 0]
    np.testing.assert_allclose(found, RAMP * 300 / 4095 * 255, atol=1)
    assert eight_bits(np.full((4, 4), 100, np.uint16), white=4095).max() == 6


def test_a_tiff_of_12_bits_states_its_range():
    levels = np.full((2, 8), 0x064, np.uint16)
    packed = bytes.fromhex(''.join(f'{level:03x}' for level in levels.ravel()))
    tags = [(256, 8), (257, 2), (258, 12), (259, 1), (262, 1), (273, 200), (277, 1), (278, 2), (279, len(packed))]
    entries = b''.join(
        struct.pack('<HHII', tag, 4 if tag in (256, 257, 273, 279) else 3, 1, value) for tag, value in tags
    )
    head = b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + bytes(4)
    found = decode(head.ljust(200, b'\0') + packed, 2, 1)
    np.testing.assert_array_equal(found, 6)  # 100 of 4095


@pytest.mark.parametrize(
    'levels, message',
    [
        (np.full((8, 8), -0.5, np.float32), r'values in -0\.5\.\.-0\.5'),
        (np.full((8, 8), 1e6, np.float32), r'values in 1e\+06\.\.1e\+06'),
        (np.full((8, 8), np.nan, np.float32), 'NaN or infinite'),
        (np.full((8, 8), 100_000, np.int32), 'a range that is neither'),
    ],
)
def test_unknown_ranges_are_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        decode(stored(levels, 'TIFF'), 8, 1)


@pytest.mark.parametrize('channels', [2, 3, 4])
def test_colour_of_16_bits_needs_the_high_ones(channels):
    levels = np.full((8, 8, channels), 65535)
    levels[..., : 3 if channels > 2 else 1] = 50 * 257
    assert (
        refusal_of(png16(levels // 16)) == '16 bits per channel that reach 1023 of 65535 at most: save it with 8 bits'
    )
    levels[0, 0] = 65535
    assert decode(png16(levels), 8, 3)[4, 4, 0] == 50


def refusal_of(data):
    with pytest.raises(Exception) as raised:
        decode(data, 8, 3)
    return refusal(raised.value)


def test_reasons_of_refusals(monkeypatch):
    whole = stored(np.zeros((64, 64), np.uint8), 'BMP')
    assert refusal_of(b'nothing') == refusal_of(b'') == 'no format that Pillow reads'
    assert 'truncated' in refusal_of(whole[:2000])
    assert refusal(PermissionError(13, 'Permission denied', 'a.png')) == 'Permission denied'
    assert refusal(RuntimeError()) == 'RuntimeError'
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    assert refusal_of(whole) == 'more than 0 million pixels: make it smaller'


def test_large_images_are_decoded_one_at_a_time_and_jpegs_at_reduced_size(monkeypatch):
    picture = np.rint(np.add.outer(np.arange(400), np.arange(400)) * 255 / 798).astype(np.uint8)
    jpeg, png = stored(picture, 'JPEG', quality=95), stored(picture, 'PNG')
    whole, seen, plain = decode(jpeg, 16, 1), [], images.plain
    monkeypatch.setattr(images, 'plain', lambda image, channels: seen.append(image.size) or plain(image, channels))
    monkeypatch.setattr(images, '_large', lock := Counting())
    for data in (jpeg, png):
        decode(data, 16, 1)
    assert seen == [(400, 400)] * 2 and lock.entered == 0
    monkeypatch.setattr(images, 'LARGE', 400 * 400 - 1)
    for data in (jpeg, png):
        np.testing.assert_allclose(decode(data, 16, 1).astype(int), whole, atol=2)
    assert seen[2:] == [(50, 50), (400, 400)] and lock.entered == 2


class Counting:
    """A lock that counts."""

    entered = 0

    def __enter__(self):
        self.entered += 1

    def __exit__(self, *error):
        pass
