"""Tests transforms on the device: exact, per example, aligned in pairs, and only those of the config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.data import Batches, Field, load, prepare_batch, transforms
from genlab.data.load import defaults
from genlab.data.source import Source, image_field, label_field, unpaired
from genlab.errors import ConfigError

FIELDS = {
    'image': image_field(8, 3),
    'style': image_field(8, 1),
    'label': label_field(10),
    'segmentation': Field((8, 8, 1), np.dtype(np.uint8), 0, 8),
    'boxes': Field((2, 4), np.dtype(np.float32), 0, 1),
}


def source_of(*names):
    return Source('pairs', {name: FIELDS[name] for name in names}, 100, None, in_memory=True)


SOURCE = source_of(*FIELDS)


def batch_of(number, names=tuple(FIELDS)):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (number, 8, 8, 3), np.uint8)
    every = {
        'image': image,
        'style': image[..., :1],
        'segmentation': image[..., 1:2] // 32,
        'label': rng.integers(0, 10, number, np.int32),
        'boxes': np.tile(np.array([[0.1, 0.2, 0.4, 0.9], [0, 0, 0, 0]], np.float32), (number, 1, 1)),
    }
    return {name: every[name] for name in names} | {'position': np.arange(number, dtype=np.int32)}


def keys_of(number, seed=0):
    return jax.random.split(jax.random.key(seed), number)


def prepared(number, source=SOURCE, train=True, **changes):
    config = defaults(**changes)
    return jax.jit(prepare_batch(config, source, train))(batch_of(number, tuple(source.fields)), keys_of(number))


def test_rescaling_and_its_inverse_are_exact():
    levels = np.arange(256, dtype=np.uint8)
    images = transforms.to_range(levels)
    assert images.dtype == jnp.float32 and float(images[0]) == -1 and float(images[-1]) == 1
    np.testing.assert_allclose(images, levels / 127.5 - 1, atol=1e-7)
    np.testing.assert_array_equal(jax.jit(transforms.to_uint8)(images), levels)
    np.testing.assert_array_equal(
        transforms.to_uint8(jnp.array([-3.0, 3.0, 1.4 / 127.5 - 1, 1.6 / 127.5 - 1])), [0, 255, 1, 2]
    )


def test_plain_batch():
    batch, out = batch_of(6), prepared(6)
    np.testing.assert_allclose(out['x'], batch['image'] / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(out['x'], out['image'])
    for name in ('label', 'segmentation', 'position', 'boxes'):
        np.testing.assert_array_equal(out[name], batch[name])
    assert out['segmentation'].dtype == out['label'].dtype == jnp.int32
    assert out['style'].dtype == out['boxes'].dtype == jnp.float32


def test_any_field_of_pixels_may_be_observed():
    np.testing.assert_allclose(prepared(4, observe='style')['x'], batch_of(4)['style'] / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(prepared(4, observe='segmentation')['x'], batch_of(4)['segmentation'] / 4.0 - 1)


def test_flip_keeps_pairs_aligned():
    batch, out = batch_of(64), prepared(64, flip=True)
    straight = batch['image'] / 127.5 - 1
    flipped = np.abs(np.asarray(out['x']) - straight).max((1, 2, 3)) > 1e-5
    assert 15 < flipped.sum() < 49
    np.testing.assert_allclose(out['x'][flipped], straight[flipped][:, :, ::-1], atol=1e-6)
    np.testing.assert_array_equal(out['style'][..., 0], out['x'][..., 0])
    np.testing.assert_array_equal(out['segmentation'][flipped], batch['segmentation'][flipped][:, :, ::-1])
    mirrored = np.tile([0.6, 0.2, 0.9, 0.9], (flipped.sum(), 1))
    np.testing.assert_allclose(out['boxes'][flipped][:, 0], mirrored, atol=1e-6)
    np.testing.assert_array_equal(out['boxes'][:, 1], 0)
    np.testing.assert_array_equal(out['boxes'][~flipped], batch['boxes'][~flipped])


def test_crop_is_a_window_of_the_reflected_image():
    source = source_of('image', 'style')
    batch, out = batch_of(40), prepared(40, source, crop_padding=2)
    around = np.pad(batch['image'], ((0, 0), (2, 2), (2, 2), (0, 0)), mode='reflect') / 127.5 - 1
    places = set()
    for image, wide in zip(np.asarray(out['x']), around):
        found = [
            (y, x) for y in range(5) for x in range(5) if np.allclose(image, wide[y : y + 8, x : x + 8], atol=1e-6)
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 10 and {0, 4} <= {y for y, _ in places} and {0, 4} <= {x for _, x in places}
    np.testing.assert_array_equal(out['style'][..., 0], out['x'][..., 0])


def test_no_flip_and_crop_at_test_time():
    source = source_of('image')
    np.testing.assert_array_equal(
        prepared(20, source, train=False, flip=True, crop_padding=2, jitter=3)['x'], prepared(20, source)['x']
    )


def test_jitter_is_a_window_of_the_enlarged_image():
    """Compares with every window of Pillow's enlargement, whose bilinear filter is another implementation."""
    from PIL import Image

    source = source_of('image', 'style', 'segmentation')
    batch, out = batch_of(40, tuple(source.fields)), prepared(40, source, jitter=3)
    enlarge = lambda image, way: np.asarray(Image.fromarray(image).resize((11, 11), way)).astype(int)
    places = []
    for n, image in enumerate(np.asarray(transforms.to_uint8(out['x'])).astype(int)):
        large = enlarge(batch['image'][n], Image.Resampling.BILINEAR)
        found = [(y, x) for y in range(4) for x in range(4) if np.abs(large[y : y + 8, x : x + 8] - image).max() <= 1]
        assert len(found) == 1
        places += found
        (y, x), whole = found[0], batch['segmentation'][n, ..., 0]
        near = whole[((np.arange(11) + 0.5) * 8 / 11).astype(int)][:, ((np.arange(11) + 0.5) * 8 / 11).astype(int)]
        np.testing.assert_array_equal(out['segmentation'][n, ..., 0], near[y : y + 8, x : x + 8])
    assert len({*places}) > 10 and {0, 3} <= {y for y, _ in places} and {0, 3} <= {x for _, x in places}
    np.testing.assert_array_equal(out['style'][..., 0], out['x'][..., 0])
    np.testing.assert_allclose(out['x'] * 127.5 + 127.5, np.round(out['x'] * 127.5 + 127.5), atol=1e-4)


def test_unpaired_domains_move_independently():
    """Moves of the first domain are those of pairs; flips of the second do not depend on them."""
    first, second = source_of('image'), source_of('style')
    names, straight = ('image', 'style'), batch_of(400)['image'] / 127.5 - 1
    both, paired = prepared(400, unpaired(first, second), flip=True), prepared(400, source_of(*names), flip=True)
    np.testing.assert_array_equal(both['x'], paired['x'])
    flipped = [np.abs(both[name][..., 0] - straight[..., 0]).max((1, 2)) > 1e-5 for name in names]
    assert abs(np.corrcoef(*flipped)[0, 1]) < 0.2 and 120 < flipped[1].sum() < 280


def test_binarise_samples_with_the_intensity_as_probability():
    levels = np.tile(np.array([0, 64, 128, 255], np.uint8), (4000, 1))
    drawn = np.asarray(jax.jit(jax.vmap(transforms.binarise))(levels, keys_of(4000)))
    assert set(np.unique(drawn)) == {-1, 1} and drawn.dtype == np.float32
    np.testing.assert_allclose((drawn > 0).mean(0), [0, 64 / 255, 128 / 255, 1], atol=0.03)
    out = prepared(4, binarise=True)
    assert set(np.unique(out['x'])) == {-1, 1} and len(np.unique(out['image'])) > 100


def test_dequantise_stays_within_the_level():
    out, levels = np.asarray(prepared(50, dequantise=True)['x']), batch_of(50)['image']
    assert out.min() >= -1 and out.max() < 1
    inside = (out + 1) * 128 - levels
    assert inside.min() >= -1e-4 and inside.max() <= 1 + 1e-4
    assert inside.mean() == pytest.approx(0.5, abs=0.01) and inside.var() == pytest.approx(1 / 12, abs=0.003)


def test_dequantise_stays_below_one_where_floats_round_up(monkeypatch):
    monkeypatch.setattr(jax.random, 'uniform', lambda key, shape: jnp.full(shape, 1 - 2.0**-24))
    assert float(transforms.dequantise(jnp.full(3, 255, jnp.uint8), None).max()) < 1


@pytest.mark.parametrize('changes', [{'flip': True, 'binarise': True}, {'crop_padding': 2, 'dequantise': True}])
def test_an_example_does_not_depend_on_its_batch(changes):
    source = source_of('image', 'label')
    ready = jax.jit(prepare_batch(defaults(**changes), source))
    batch, keys = batch_of(12, ('image', 'label')), keys_of(12)
    order = np.array([7, 2, 11] * 4)  # another position and other neighbours in the batch
    whole, other = ready(batch, keys), ready({name: array[order] for name, array in batch.items()}, keys[order])
    for name in whole:
        np.testing.assert_array_equal(np.asarray(whole[name])[order], other[name], err_msg=name)
    assert not np.array_equal(whole['x'], ready(batch, keys_of(12, seed=1))['x'])


def test_transforms_use_separate_random_streams():
    """Checks that a key flips the same examples with and without other transforms."""
    source = source_of('image')
    plain, also = (prepared(32, source, flip=True, **more)['image'] for more in ({}, {'binarise': True}))
    np.testing.assert_array_equal(plain, also)
    levels, drawn = batch_of(32)['image'], prepared(32, source, binarise=True)['x']
    by = jax.jit(jax.vmap(lambda one, key, n: transforms.binarise(one, jax.random.fold_in(key, n)), (0, 0, None)))
    same = [
        np.array_equal(by(levels, keys_of(32), n), drawn)
        for n in (transforms.FLIP, transforms.CROP, transforms.BINARISE, transforms.DEQUANTISE)
    ]
    assert same == [False, False, True, False]


def test_points_are_not_changed():
    config = defaults(source='toy', name='ring', observe='point')
    source = load(config, 'test')
    batch = {name: array[0] for name, array in Batches(source, 16, seed=0)(0).items()}
    out = jax.jit(prepare_batch(config, source))(batch, keys_of(16))
    np.testing.assert_array_equal(out['x'], batch['point'])
    assert out['label'].dtype == jnp.int32


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'observe': 'imag'}, 'pairs has image, style'),
        ({'observe': 'boxes', 'binarise': True}, 'binarise is for images and boxes is none'),
        ({'binarise': True, 'dequantise': True}, 'exclude each other'),
        ({'observe': 'segmentation', 'dequantise': True}, 'needs 8-bit images'),
        ({'jitter': 2}, 'config.data.jitter would make the field boxes untrue'),
        ({'jitter': -1}, 'config.data.jitter=-1: give a number of pixels'),
        ({'crop_padding': 2}, 'crop_padding would make the field boxes untrue'),
    ],
)
def test_impossible_configs(changes, message):
    with pytest.raises(ConfigError, match=message):
        prepare_batch(defaults(**changes), SOURCE)


def test_a_flip_of_captioned_images_is_refused():
    config = defaults(source='scenes', channels=3, flip=True)
    with pytest.raises(ConfigError, match='flip would make the field caption untrue'):
        prepare_batch(config, load(config, 'train', ('caption',)))
    prepare_batch(config, load(config, 'train', ('boxes',)))
