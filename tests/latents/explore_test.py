"""Tests all tools on a linear autoencoder of digits, whose codes are principal components."""

import json
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genlab import config as configs
from genlab import data, modes
from genlab.abilities import Codec
from genlab.errors import UserError
from genlab.latents import explore as exploration
from genlab.latents.codes import learn
from genlab.run import images
from genlab.training import parallel
from genlab.training.state import State
from support.experiments import stub

SIZE = 20  # of the codes, [4, 5]


def settings(**changes):
    config = configs.defaults('linear')
    config.data.update(source='digits', resolution=8, batch_size=16)
    config.sample.update(count=4, chunk=16)
    config.explore.update(pairs=3, steps=5, dimensions=4, examples=300, inversions=2, inversion_steps=100)
    config.data.update(changes)
    return config


def encode(variables, batch):
    network = variables['linear']['params']
    return (batch['x'].reshape(-1, 64) - network['mean']) @ network['basis'].T


def decode(variables, codes):
    network = variables['linear']['params']
    return (codes.reshape(-1, SIZE) @ network['basis'] + network['mean']).reshape(-1, 8, 8, 1)


def prior(variables, keys):
    scale = variables['linear']['params']['scale']
    return jax.vmap(lambda key: scale * jax.random.normal(key, (SIZE,)))(keys).reshape(-1, 4, 5)


ABILITIES = {
    'encode': lambda variables, batch: encode(variables, batch).reshape(-1, 4, 5),
    'decode': decode,
    'prior': prior,
    'mix': lambda variables, coarse, fine: decode(variables, jnp.concatenate([coarse[:, :1], fine[:, 1:]], 1)),
}


class NearestMean:
    """Predicts the class with the nearest mean image."""

    classes = tuple('0123456789')

    def __init__(self, vectors, labels):
        self.means = np.stack([vectors[labels == label].mean(0) for label in range(10)])

    def probabilities(self, batch):
        distance = np.square(batch.reshape(-1, 1, 64) - self.means).sum(-1)
        weights = np.exp(-(distance - distance.min(1, keepdims=True)))
        return weights / weights.sum(1, keepdims=True)


@pytest.fixture(scope='module')
def linear():
    """Returns (placement, state, classifier): principal components of the training digits, on the devices."""
    rows = data.load(settings().data).rows(np.arange(1000))
    vectors = rows['image'].astype(np.float32).reshape(1000, 64) / 127.5 - 1
    mean = vectors.mean(0, keepdims=True)
    _, values, basis = np.linalg.svd(vectors - mean, full_matrices=False)
    params = {'mean': mean, 'basis': basis[:SIZE], 'scale': values[:SIZE] / np.sqrt(1000)}
    placement = parallel.place('pmap')
    state = State(np.int32(3), {'linear': parallel.replicate(placement, params)}, {'linear': {}}, {}, {})
    return placement, state, NearestMean(vectors, rows['label'])


@pytest.fixture(scope='module')
def written(linear, tmp_path_factory):
    """Returns the folder after --mode=explore of a model with all abilities."""
    placement, state, nearest = linear
    folder = tmp_path_factory.mktemp('run')
    (folder / 'explore').mkdir()
    (folder / 'explore' / 'inpainting.png').write_bytes(b'of an earlier command')
    phase = SimpleNamespace(config=settings(), experiment=stub(**ABILITIES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modes, 'restore', lambda *_: (3, state, phase, placement))
        patch.setattr(exploration.classifier, 'load', lambda _: nearest)
        modes.explore(settings(), None, folder)
    return folder


def test_all_files_are_written(written):
    names = {
        'interpolation_data.png',
        'interpolation_data.gif',
        'interpolation_prior.png',
        'interpolation_prior.gif',
        'traversal.png',
        'direction_thickness.png',
        'direction_classes.png',
        'inversion.png',
        'mixing.png',
    }
    assert {path.name for path in (written / 'explore').iterdir()} == names
    assert (written / 'report.html').exists()
    size = lambda name: Image.open(written / 'explore' / f'{name}.png').size
    side = lambda cells: 34 * cells - 2  # images of 8x8 are enlarged
    assert size('interpolation_data') == size('direction_thickness') == (side(5), side(3))
    assert size('traversal') == (side(5), side(4)) and size('direction_classes') == (side(5), side(10))
    assert size('mixing') == (side(4), side(4)) and size('inversion') == (side(2), side(2))
    gif = Image.open(written / 'explore' / 'interpolation_data.gif')
    assert (gif.n_frames, gif.size) == (2 * 4 * 4, (side(2), side(2)))


def test_the_figures_are_those_of_a_linear_model(linear, written):
    explored = json.loads((written / 'explore.json').read_text())
    assert explored['step'] == 3
    figures = explored['figures']
    thickness = np.array(list(figures['thickness'].values()))
    assert list(figures['thickness']) == ['-3.00', '-1.50', '+0.00', '+1.50', '+3.00']
    rows = data.load(settings().data).rows(np.arange(300))
    deviation = (rows['image'] / 255).mean((1, 2, 3)).std()
    np.testing.assert_allclose(np.diff(thickness), 1.5 * deviation, rtol=0.05)  # one unit is one standard deviation
    sure = np.array(list(figures['class_probability'].values()))
    assert sure[0] < 0.2 and sure[-1] > 0.95
    # the components are orthonormal: the initial code, the encoding, is optimal
    assert figures['inversion_error_after'] == pytest.approx(figures['inversion_error_before'], rel=1e-3)
    test = data.load(settings().data, 'test').rows(np.arange(2))['image'] / np.float32(127.5) - 1
    params = linear[1].params['linear']
    remade = (test.reshape(2, 64) - params['mean']) @ params['basis'].T @ params['basis'] + params['mean']
    assert figures['inversion_error_before'] == pytest.approx(
        np.square((test.reshape(2, 64) - remade) / 2).mean(), rel=1e-3
    )
    change = list(figures['traversal_change'].values())
    assert change == sorted(change, reverse=True) and set(figures['traversal_change']) == {'0', '1', '2', '3'}


def explored(linear, monkeypatch, config=None, codebook=0, **abilities):
    placement, state, nearest = linear
    monkeypatch.setattr(exploration.classifier, 'load', lambda _: nearest)
    return exploration.explore(
        config or settings(), stub(**abilities, **({'entries': codebook} if codebook else {})), placement, state
    )


def test_a_model_without_an_encoder_is_explored_by_its_samples(linear, monkeypatch):
    seen = explored(linear, monkeypatch, decode=decode, prior=prior)
    assert set(seen.pictures) == {
        'interpolation_prior',
        'traversal',
        'direction_thickness',
        'direction_classes',
        'inversion',
    }
    assert set(seen.animations) == {'interpolation_prior'}
    thickness = np.array(list(seen.figures['thickness'].values()))
    assert (np.diff(thickness) > 0.02).all() and seen.figures['class_probability']['+3.00'] > 0.95
    assert seen.figures['inversion_error_after'] < seen.figures['inversion_error_before'] / 4


def test_a_model_without_a_prior_is_explored_by_examples(linear, monkeypatch):
    seen = explored(linear, monkeypatch, decode=decode, encode=ABILITIES['encode'], mix=ABILITIES['mix'])
    assert set(seen.animations) == {'interpolation_data'} and 'mixing' in seen.pictures


def test_points_are_drawn_as_curves_without_those_that_are_not_finite(linear, monkeypatch, capfd):
    config = settings(source='toy', name='ring', observe='point')
    seen = explored(
        linear,
        monkeypatch,
        config,
        decode=lambda variables, z: jnp.where(z > 2, jnp.nan, jnp.tanh(z)),
        encode=lambda _, batch: batch['x'],
    )
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and re.search(r'explored samples: \d+ of \d+ \(.*%\) are not finite', lines[0])
    assert set(seen.pictures) == {'interpolation_data', 'traversal', 'inversion'}
    assert seen.pictures['traversal'].shape == (384, 384, 3)


def test_mixing_takes_coarse_codes_from_the_left_and_fine_ones_from_above(linear):
    placement, state, _ = linear
    codes = learn(settings(), stub(**ABILITIES).codec, placement, state.variables())
    sheet = exploration.mix(settings(), codes, None).pictures['mixing']
    beside, above = codes.prior(6)[:3], codes.prior(6)[3:]
    mixed = np.concatenate([beside[2:3, :5], above[:1, 5:]], 1)  # third row, first column; codes are [4, 5]
    expected = codes.decode(mixed)
    cell = lambda row, column: np.int32(sheet[34 * row :: 4, 34 * column :: 4][:8, :8])  # images of 8x8, enlarged
    np.testing.assert_allclose(cell(3, 1), images.to_uint8(expected)[0], atol=1)
    np.testing.assert_allclose(cell(0, 1), images.to_uint8(codes.decode(above[:1]))[0], atol=1)
    np.testing.assert_allclose(cell(3, 0), images.to_uint8(codes.decode(beside[2:]))[0], atol=1)


def test_discrete_codes_are_explored_before_quantisation_or_skipped_with_a_message(linear, monkeypatch, capsys):
    assert explored(linear, monkeypatch, codebook=8, decode=decode, prior=prior) == ({}, {}, {})
    assert 'codebook' in capsys.readouterr().err
    continuous = Codec(decode)
    assert explored(linear, monkeypatch, codebook=8, decode=decode, prior=prior, continuous=continuous) == ({}, {}, {})
    assert 'no continuous codes' in capsys.readouterr().err
    continuous = Codec(decode, prior=prior)
    seen = explored(linear, monkeypatch, codebook=8, decode=decode, prior=prior, continuous=continuous)
    assert {'interpolation_prior', 'traversal'} <= {*seen.pictures} and not capsys.readouterr().err


@pytest.mark.parametrize('abilities', [{'prior': prior}, {'decode': decode}])
def test_without_codes_or_a_decoder_a_message_is_shown(linear, monkeypatch, abilities):
    with pytest.raises(UserError, match='no codes to decode'):
        explored(linear, monkeypatch, **abilities)


def as_tree(codes):
    """Splits a code into two arrays of different shape: 20 = 3 * 2 + 14."""
    flat = codes.reshape(-1, SIZE)
    return {'bottom': flat[:, :6].reshape(-1, 3, 2), 'top': flat[:, 6:]}


def from_tree(tree):
    return jnp.concatenate([tree['bottom'].reshape(-1, 6), tree['top']], 1)


TREES = {
    'encode': lambda variables, batch: as_tree(encode(variables, batch)),
    'decode': lambda variables, codes: decode(variables, from_tree(codes)),
    'prior': lambda variables, keys: as_tree(prior(variables, keys)),
    'mix': lambda variables, coarse, fine: decode(
        variables, from_tree({'bottom': coarse['bottom'], 'top': fine['top']})
    ),
}


def test_codes_that_are_trees_give_the_same_figures_as_arrays(linear, monkeypatch):
    """Expects equal results of all tools except mixing for the same numbers as two arrays per code."""
    array, tree = (explored(linear, monkeypatch, **abilities) for abilities in (ABILITIES, TREES))
    assert jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-5), array.figures, tree.figures))
    assert {*array.pictures} == {*tree.pictures} and 'mixing' in tree.pictures
    for name in {*array.pictures} - {'mixing'}:
        np.testing.assert_allclose(np.int32(array.pictures[name]), np.int32(tree.pictures[name]), atol=1)
    placement, state, _ = linear
    codes = learn(settings(), stub(**TREES).codec, placement, state.variables())
    assert codes.known.shape == (300, SIZE) and codes.layout.size == SIZE
    coarse, fine = codes.known[:3], codes.known[3:6]
    np.testing.assert_allclose(
        codes.mix(coarse, fine), codes.decode(np.concatenate([coarse[:, :6], fine[:, 6:]], 1)), atol=1e-5
    )


def test_filters_are_scaled_alone_and_the_largest_come_first():
    weights = np.zeros((3, 2, 2, 1), np.float32)
    weights[0, 0, 0], weights[1, 1, 1], weights[2, 0, 1] = 0.1, -4.0, 2.0
    found = exploration.draw_filters(Codec(None, filters=lambda variables: weights), {}).pictures['filters'][..., 0]
    expected = images.picture(np.sign(weights[[1, 2, 0]]))[..., 0]
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) >= {0, 128, 255}
    assert exploration.draw_filters(Codec(None), {}).pictures == {}


def test_pairs_are_of_different_classes_where_possible():
    first, second = exploration.pair_up(np.array([1, 1, 1, 2, 3, 3, 1, 1]), 4)
    assert list(zip(first, second)) == [(0, 3), (1, 4), (2, 5), (6, 7)]
    assert [len(side) for side in exploration.pair_up(np.zeros(20), 3)] == [3, 3]


def test_block_sizes_and_devices_do_not_change_the_codes(linear):
    """Uses blocks of 7, which 4 devices do not divide, and a last block that is not full."""
    placement, state, _ = linear
    config = settings()
    config.sample.chunk, config.explore.examples = 7, 40
    codes = learn(config, stub(**ABILITIES).codec, placement, state.variables())
    batch = {'x': data.load(config.data).rows(np.arange(40))['image'] / np.float32(127.5) - 1}
    params = {'linear': {'params': jax.device_get(state.params['linear'])}}
    np.testing.assert_allclose(codes.known, encode(params, batch), atol=1e-5)
    np.testing.assert_allclose(codes.decode(codes.known[:9]), decode(params, codes.known[:9]), atol=1e-5)
    np.testing.assert_array_equal(codes.prior(9)[:5], codes.prior(5))
    grid = codes.known[:6].reshape(2, 3, SIZE)
    np.testing.assert_array_equal(codes.decode_all(grid)[1, 2], codes.decode(codes.known[5:6])[0])


def test_inpainting_and_image_to_image_are_shown_beside_their_input():
    """Uses a model that fills with white and one that inverts black, so that output differs from input."""

    def inpaint(variables, batch, mask, keys, condition):
        return jnp.where(mask > 0, batch['x'], 1.0)

    def image_to_image(variables, batch, keys, condition):
        return -batch['x']

    config = settings()
    experiment = stub(sample=image_to_image, inpaint=inpaint, image_to_image=image_to_image)
    placement = parallel.place('pmap')
    variables, kept = parallel.replicate(placement, {'scale': np.float32(1)}), []
    seen = exploration.edit(config, experiment, placement, variables, kept)
    assert [len(finite) for finite in kept] == [12, 12] and np.all(kept)
    state = State(np.int32(0), {'network': {'scale': variables['scale']}}, {'network': {}}, {}, {})
    alone = exploration.explore(config, experiment, placement, state)  # the model has no codes
    assert {*alone.pictures} == {*seen.pictures}
    assert set(seen.pictures) == {'inpainting', 'image_to_image'}
    x = np.asarray(exploration.drawing.examples(config)(np.arange(3))['x'])
    pairs = exploration.beside_first(np.repeat(x, exploration.VERSIONS, 0), -np.repeat(x, exploration.VERSIONS, 0))
    np.testing.assert_array_equal(seen.pictures['image_to_image'], exploration.strips.strip(pairs))
    mask = exploration.masks((4, 8, 8, 1))
    assert mask[0, :, :4].all() and not mask[0, :, 4:].any()
    assert mask[1].sum() == 64 - 16 and not mask[1, 2:6, 2:6].any()
