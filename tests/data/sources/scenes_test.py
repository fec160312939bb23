"""Tests scenes: each is drawn from its index alone, and its fields agree with its pixels."""

import zlib

import numpy as np
import pytest

from genlab.data import captions, check
from genlab.data.images import LUMA
from genlab.data.sources.scenes import layout
from genlab.data.sources.scenes.scenes import SEED, declare, scenes
from genlab.data.sources.scenes.shapes import BACKGROUNDS, COLOURS, KINDS
from genlab.errors import ConfigError

FIELDS = tuple(declare(32, 3))
NUMBER = 200


@pytest.fixture(scope='module')
def drawn():
    """Returns 200 scenes with all fields at 64 pixels."""
    return scenes(64, fields=tuple(declare(64, 3))).rows(np.arange(NUMBER))


def factor(rows, name):
    """Returns one factor of every slot: [N, SLOTS]."""
    slots = rows['factors'][:, : -len(layout.SCENE_FACTORS)].reshape(-1, layout.SLOTS, len(layout.SLOT_FACTORS))
    return slots[..., layout.SLOT_FACTORS.index(name)]


def test_a_scene_depends_on_its_index_alone():
    source = scenes(16, fields=tuple(declare(16, 3)))
    indices = np.array([70, 3, 99_999, 3, 12])
    together = source.rows(np.concatenate([indices, np.arange(100)]))
    for n, index in enumerate(indices):
        alone = scenes(16, fields=tuple(declare(16, 3))).rows(np.array([index]))
        for name in alone:
            np.testing.assert_array_equal(alone[name][0], together[name][n], err_msg=name)


def test_only_the_requested_fields_are_made():
    source = scenes(16, fields=('boxes', 'label'))
    assert set(source.fields) == set(source.rows(np.arange(3))) == {'boxes', 'label'}
    with pytest.raises(ConfigError, match='did you mean boxes'):
        scenes(16, fields=('boxs',))


@pytest.mark.parametrize('channels', [1, 3])
def test_fields_are_as_declared(channels):
    for split in ('train', 'test'):
        source = scenes(32, channels, split, FIELDS)
        check(source, source.rows(np.arange(len(source) - 100, len(source))))


def test_grey_is_the_luma_of_the_colours():
    grey, colour = (scenes(16, channels).rows(np.arange(5))['image'] for channels in (1, 3))
    np.testing.assert_array_equal(grey[..., 0], np.rint(colour @ LUMA))


def test_splits_differ():
    train, test = (
        scenes(8, split=split, fields=('factors',)).rows(np.arange(500))['factors'] for split in ('train', 'test')
    )
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}
    assert len({row.tobytes() for row in train}) == 500


def test_resolution_keeps_the_layout():
    fine, coarse = (scenes(resolution, fields=FIELDS).rows(np.arange(50)) for resolution in (128, 32))
    for name in ('factors', 'boxes', 'box_classes', 'caption', 'label'):
        np.testing.assert_array_equal(fine[name], coarse[name])
    small = fine['image'].reshape(50, 32, 4, 32, 4, 3).mean((2, 4))
    assert np.abs(small - coarse['image']).mean() < 1.5


def test_boxes_hold_their_shapes_tightly(drawn):
    """Checks that pixels of a kind lie in boxes of that kind, and that the box of a lone shape is tight."""
    centres = (np.arange(64) + 0.5) / 64
    for kinds, boxes, classes in zip(drawn['segmentation'][..., 0], drawn['boxes'], drawn['box_classes']):
        allowed = np.zeros((len(KINDS) + 1, 64, 64), bool)
        allowed[0] = True
        for (left, top, right, bottom), kind in zip(boxes[classes >= 0], classes[classes >= 0]):
            inside = ((centres >= left) & (centres <= right))[None] & ((centres >= top) & (centres <= bottom))[:, None]
            allowed[1 + kind] |= inside
        assert np.take_along_axis(allowed, kinds[None].astype(int), 0).all()
        if (classes >= 0).sum() == 1:
            rows, columns = np.nonzero(kinds)
            ends = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(boxes[0], np.array(ends) / 64, atol=2 / 64)


def test_all_shapes_are_inside_and_visible(drawn):
    present = drawn['box_classes'] >= 0
    boxes = drawn['boxes'][present]
    assert boxes.min() > 0 and boxes.max() < 1 and (boxes[:, 2:] > boxes[:, :2]).all()
    assert not drawn['boxes'][~present].any()
    for kinds, classes in zip(drawn['segmentation'], drawn['box_classes']):
        assert set(np.unique(kinds)) - {0} == set(classes[classes >= 0] + 1)


def test_counts_kinds_and_colours_are_even():
    rows = scenes(8, fields=('factors',)).rows(np.arange(20_000))
    present = factor(rows, 'present').astype(bool)
    np.testing.assert_allclose(np.bincount(present.sum(1))[1:] / 20_000, 1 / 4, atol=0.015)
    for name, number in (('kind', len(KINDS)), ('colour', len(COLOURS))):
        np.testing.assert_allclose(
            np.bincount(factor(rows, name)[present].astype(int)) / present.sum(), 1 / number, atol=0.01
        )


def test_shapes_and_backgrounds_have_the_colours_of_the_palette(drawn):
    """Checks the colours of single shapes and of plain backgrounds."""
    palette, grounds = np.array(list(COLOURS.values())), np.array(list(BACKGROUNDS.values()))
    image, kinds = drawn['image'], drawn['segmentation'][..., 0]
    for n in np.flatnonzero(factor(drawn, 'present').sum(1) == 1):
        np.testing.assert_array_equal(np.median(image[n][kinds[n] > 0], 0), palette[int(factor(drawn, 'colour')[n, 0])])
        if drawn['factors'][n, layout.FACTORS.index('shading')] == 0:
            ground = grounds[int(drawn['factors'][n, layout.FACTORS.index('background')])]
            np.testing.assert_array_equal(np.median(image[n][kinds[n] == 0], 0), ground)


def test_edges_follow_the_map_and_the_style_differs(drawn):
    kinds = drawn['segmentation'][..., 0].astype(int)
    changes = kinds[:, :, 1:] != kinds[:, :, :-1]
    edges = drawn['edges'][..., 0]
    assert (np.maximum(edges[:, :, 1:], edges[:, :, :-1])[changes] > 60).mean() > 0.99
    assert (edges > 0).mean() < 0.2
    assert np.abs(drawn['style'].astype(float) - drawn['image']).mean() > 40


def test_caption_words_agree_with_the_factors(drawn):
    texts = scenes(8).captions(np.arange(NUMBER))
    colours, grounds = list(COLOURS), list(BACKGROUNDS)
    for n, text in enumerate(texts):
        number = int(factor(drawn, 'present')[n].sum())
        words = text.split()
        expected = [
            (
                'large' if factor(drawn, 'radius')[n, slot] >= layout.LARGE else 'small',
                colours[int(factor(drawn, 'colour')[n, slot])],
                KINDS[int(factor(drawn, 'kind')[n, slot])],
            )
            for slot in range(number)
        ]
        assert [tuple(words[k + 1 : k + 4]) for k, word in enumerate(words) if word == 'a'] == expected
        assert text.endswith(f'on {grounds[int(drawn["factors"][n, layout.FACTORS.index("background")])]}')
        right, down = (factor(drawn, axis)[n, 0] - factor(drawn, axis)[n] for axis in 'xy')
        relations = [word for word in words if word in ('left', 'right', 'above', 'below')] if number > 1 else []
        truth = {'left': right < 0, 'right': right > 0, 'above': down < 0, 'below': down > 0}
        assert all(truth[word][slot] for slot, word in enumerate(relations, 1)) and len(relations) in (0, number - 1)


def test_captions_and_tokens_convert_to_each_other(drawn):
    texts = scenes(8).captions(np.arange(NUMBER))
    assert [captions.text(row) for row in drawn['caption']] == texts
    assert len(set(captions.VOCABULARY)) == len(captions.VOCABULARY)
    assert max(len(text.split()) for text in scenes(8).captions(np.arange(2000))) == captions.LENGTH
    np.testing.assert_array_equal(
        captions.tokens(['A large, unheard-of CIRCLE'])[0, :4],
        [captions.VOCABULARY.index(word) for word in ('a', 'large', 'of', 'circle')],
    )


def test_words_of_place():
    assert captions.place(0.1, 0.1) == 'in the top left' and captions.place(0.5, 0.5) == 'in the centre'
    assert captions.place(0.9, 0.5) == 'in the right' and captions.place(0.5, 0.9) == 'in the bottom'
    assert captions.relation(-2, 1) == 'left of' and captions.relation(1, -2) == 'above'


def test_label_is_the_kind_of_the_largest(drawn):
    largest = factor(drawn, 'radius').argmax(1)
    np.testing.assert_array_equal(drawn['label'], np.take_along_axis(factor(drawn, 'kind'), largest[:, None], 1)[:, 0])


def test_uniforms_are_uniform_and_without_correlation():
    draws = layout.uniforms(SEED, np.arange(50_000), 4)
    np.testing.assert_allclose(draws.mean(0), 1 / 2, atol=0.006)
    np.testing.assert_allclose(draws.var(0), 1 / 12, atol=0.002)
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.02
    assert abs(np.corrcoef(draws[1:, 0], draws[:-1, 0])[0, 1]) < 0.02


def test_scenes_without_options_are_those_of_earlier_runs():
    """Compares the sentences, and the fingerprint that runs have recorded, with constants of the first version."""
    known = {'train': (3517350089, 'fb88025059d42747'), 'test': (3214837314, '4bdad9f668b7f876')}
    for split, (checksum, digest) in known.items():
        source = scenes(8, split=split)
        assert zlib.crc32('\n'.join(source.captions(np.arange(300))).encode()) == checksum
        assert source.fingerprint().digest == digest


def test_scenes_have_the_number_of_shapes_that_is_chosen():
    every = np.arange(100)
    for shapes in (1, 3):
        source = scenes(16, fields=tuple(declare(16, 3)), shapes=shapes)
        rows = source.rows(every)
        check(source, rows)
        np.testing.assert_array_equal(factor(rows, 'present').sum(1), shapes)
        assert [text.split().count('a') for text in source.captions(every)] == [shapes] * 100
    with pytest.raises(ConfigError, match='config.data.shapes=5: choose 1 to 4'):
        scenes(8, shapes=5)


def combinations(rows):
    """Returns kind, colour and place of every shape, int [shapes, 3], by the words of the place."""
    names = [captions.place(x, y) for y in (0.3, 0.5, 0.7) for x in (0.3, 0.5, 0.7)]
    present = factor(rows, 'present') > 0
    places = [names.index(captions.place(x, y)) for x, y in zip(factor(rows, 'x')[present], factor(rows, 'y')[present])]
    kinds, colours = (factor(rows, name)[present].astype(int) for name in ('kind', 'colour'))
    return np.stack([kinds, colours, places], 1)


@pytest.mark.parametrize('shapes', [0, 1])
def test_training_has_no_combination_that_is_held_out(shapes):
    rule = lambda rows: combinations(rows).sum(1) % 8 < 3
    options = dict(resolution=8, fields=('factors',), shapes=shapes)
    given = scenes(**options).rows(np.arange(4000))
    train = scenes(**options, hold_out=True).rows(np.arange(4000))
    assert not rule(train).any() and rule(given).mean() == pytest.approx(3 / 8, abs=0.03)
    kept = ~rule(given)
    before, after = combinations(given), combinations(train)
    np.testing.assert_array_equal(after[kept], before[kept])  # shapes that are not held out are as they were
    np.testing.assert_array_equal(after[:, 1:], before[:, 1:])
    np.testing.assert_allclose(np.bincount(after[~kept, 0]) / (~kept).sum(), 1 / 8, atol=0.02)
    test = scenes(split='test', **options, hold_out=True)
    np.testing.assert_array_equal(
        test.rows(np.arange(50))['factors'], scenes(split='test', **options).rows(np.arange(50))['factors']
    )
    digests = {scenes(shapes=n, hold_out=held).fingerprint().digest for n in (0, 1) for held in (False, True)}
    assert len(digests) == 4


def test_216_combinations_are_held_out_and_no_pair_of_their_parts():
    kinds, colours, places = np.indices((8, 8, 9))
    held = layout.held_out(kinds, colours, places)
    assert held.sum() == 216 and all((~held).sum(axis).min() >= 5 for axis in range(3))
