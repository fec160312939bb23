"""Tests extractors: their protocols, equal features for equal images, and distances that increase with damage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import config as configs
from genlab import data
from genlab.errors import ConfigError
from genlab.evaluation.blocks import in_blocks
from genlab.evaluation.features import classifier, extractors, inception


def config(kind='auto', **changes):
    made = configs.defaults('x')
    made.data.update(source='digits', resolution=16)
    made.data.update(changes)
    made.evaluate.update(features=kind, features_file='')
    return made


POINTS = dict(source='toy', name='ring', observe='point')


@pytest.fixture(scope='module')
def untrained():
    """Returns an untrained classifier."""
    draw = np.random.RandomState(0)
    shapes = jax.eval_shape(classifier.Network(10).init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))['params']
    params = jax.tree.map(lambda leaf: np.float32(draw.normal(size=leaf.shape) / 10), shapes)
    return classifier.Classifier(tuple('0123456789'), 0.5, params)


@pytest.fixture(scope='module')
def images():
    source = data.load(config().data, 'test')
    return source.rows(np.arange(297))['image'] / np.float32(127.5) - 1


def test_blocks_are_of_one_shape_and_keep_the_order():
    shapes = []

    def double(block):
        shapes.append(block.shape)
        return 2 * block

    for count in (1, 4, 7, 8):
        examples = np.arange(count * 3.0).reshape(count, 3)
        found = in_blocks(double, examples, 4)
        np.testing.assert_array_equal(found, 2 * examples)
        assert found.dtype == np.float32
    assert set(shapes) == {(4, 3)} and len(shapes) == 6


def test_blocks_compute_in_full_precision():
    traced = []

    @jax.jit
    def product(block):
        traced.append(jax.config.jax_default_matmul_precision)
        return block @ block.T

    in_blocks(product, np.ones((2, 2)), 2)
    assert traced == ['highest']


def test_the_default_features_fit_the_data(monkeypatch):
    default = lambda made: extractors.default_for(made, data.load(made.data, 'test'))
    assert default(config()) == 'classifier'
    assert default(config(**POINTS)) == 'pixels'
    assert default(config('inception')) == 'inception'
    source = data.load(config().data, 'test')
    unlabelled = data.source.from_arrays(
        'x', {'image': np.zeros((2, 4, 4, 1), np.uint8)}, {'image': source.fields['image']}
    )
    assert extractors.default_for(config(), unlabelled) == 'random'
    monkeypatch.setattr(data, 'load', lambda *arguments: unlabelled)
    assert extractors.load(config()).name == 'random-1'
    with pytest.raises(ConfigError, match='needs images with labels, and image of x has none: choose random or pixels'):
        extractors.load(config('classifier'))


@pytest.mark.parametrize(
    'made, message',
    [
        (config('inceptoin'), 'did you mean inception'),
        (config('random', **POINTS), 'point of ring/test is not an image: choose pixels'),
        (config('classifier', **POINTS), 'choose pixels'),
        (config('inception'), 'give the path of pt_inception-2015-12-05'),
    ],
)
def test_features_that_do_not_apply_are_refused_in_one_line(made, message):
    with pytest.raises(ConfigError, match=message) as error:
        extractors.load(made)
    assert '\n' not in str(error.value)


def test_classifier_features(untrained, images, monkeypatch):
    monkeypatch.setattr(classifier, 'load', lambda config_data: untrained)
    found = extractors.load(config())
    extracted, probabilities = found.extract(images), found.probabilities(images)
    assert (found.name, found.dimensions, found.classes) == ('classifier-1', 128, untrained.classes)
    assert extracted.shape == (297, 128) and extracted.dtype == np.float32
    np.testing.assert_allclose(probabilities, found.classify(extracted), rtol=1e-6)
    logits, expected = jax.jit(classifier.Network(10).apply)({'params': untrained.params}, images)
    np.testing.assert_allclose(extracted, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probabilities, jax.nn.softmax(logits), rtol=1e-4, atol=1e-6)
    other = untrained._replace(params=jax.tree.map(lambda leaf: leaf * 1.01, untrained.params))
    assert extractors.from_classifier(other).protocol['weights'] != found.protocol['weights']


def test_random_features_are_the_same_everywhere(images):
    found = extractors.load(config('random'))
    assert found.protocol['weights'] == extractors.random((16, 16, 1)).protocol['weights'] == 'bbbc71d2'
    assert found.probabilities is None and found.classes == ()
    extracted = found.extract(images)
    assert extracted.shape == (297, 128) and extracted.dtype == np.float32
    np.testing.assert_allclose(found.extract(images[5:6]), extracted[5:6], rtol=1e-4, atol=1e-5)


def frechet(first, second):
    """Returns |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2), the root by the eigenvalues of the product."""
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(one @ two).real, 0))
    return np.sum((first.mean(0) - second.mean(0)) ** 2) + np.trace(one) + np.trace(two) - 2 * roots.sum()


def test_distances_in_random_features_increase_with_damage(images):
    """Covers noise, blur and missing classes: more damage is farther, and all are farther than real images."""
    draw, extract = np.random.RandomState(0), extractors.random((16, 16, 1)).extract
    source = data.load(config().data, 'train')
    rows = source.rows(np.arange(1500))
    train, labels = rows['image'] / np.float32(127.5) - 1, rows['label']
    distance = lambda damaged: frechet(extract(train), extract(np.float32(damaged)))
    blur = lambda x: (x + np.roll(x, 1, 1) + np.roll(x, 1, 2) + np.roll(x, (1, 1), (1, 2))) / 4
    noise = draw.normal(size=train.shape)
    real = distance(images)
    for ladder in (
        [train + 0.2 * noise, train + 0.4 * noise],
        [blur(blur(train)), blur(blur(blur(blur(train))))],
        [train[labels < 5], train[labels < 1]],
    ):
        little, much = map(distance, ladder)
        assert real < little < much


def test_pixels():
    found = extractors.load(config('pixels'))
    images = np.random.RandomState(0).normal(size=(3, 16, 16, 1))
    np.testing.assert_array_equal(found.extract(images), np.float32(images).reshape(3, 256))
    points = extractors.load(config(**POINTS))
    assert (found.dimensions, points.dimensions) == (256, 2) and points.extract(np.ones((4, 2))).dtype == np.float32


def test_inception_features(monkeypatch):
    """Tests the extractor with a network of one product."""
    variables = {'params': {'fc': {'kernel': np.random.RandomState(0).normal(size=(2048, 1008)).astype(np.float32)}}}
    monkeypatch.setattr(inception, 'load', lambda path: (variables, path[-8:]))
    means = lambda variables, x: jnp.broadcast_to(x.mean((1, 2, 3))[:, None], (len(x), 2048))
    monkeypatch.setattr(inception, 'features', means)
    made = config('inception')
    made.evaluate.features_file = '/x/abcdef01'
    found, images = extractors.load(made), np.random.RandomState(0).uniform(-1, 1, (33, 4, 4, 1))
    extracted = found.extract(images)
    np.testing.assert_allclose(extracted[:, 7], images.mean((1, 2, 3)), rtol=1e-4, atol=1e-6)
    assert extracted.shape == (33, found.dimensions) and found.protocol['weights'] == 'abcdef01'
    assert found.probabilities(images).shape == (33, len(found.classes)) == (33, 1008)
