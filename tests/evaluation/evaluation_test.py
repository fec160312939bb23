"""Tests figures with known values: modes and class shares of constructed samples, the classifier, exact means."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import config as configs
from genlab import data, evaluation
from genlab.data import fingerprint
from genlab.data.sources.messages import say
from genlab.errors import ConfigError
from genlab.evaluation.evaluators.quality import class_shares
from genlab.evaluation.features import classifier
from genlab.evaluation.metrics import toy
from genlab.run.protocol import VERSION
from genlab.training import parallel
from genlab.training.state import State
from support.classifiers import train
from support.experiments import stub


def ring(count=1000):
    config = configs.defaults('x')
    config.data.update(source='toy', name='ring', observe='point', batch_size=64)
    config.evaluate.count, config.sample.chunk = count, 100
    return config


def digits(**changes):
    config = configs.defaults('x')
    config.data.update(source='digits', resolution=16, batch_size=128)
    config.data.update(changes)
    return config


@pytest.fixture(scope='module')
def source():
    return data.load(ring().data, 'test')


def test_modes_of_constructed_samples(source):
    centres, spread = source.centres, source.spread
    assert toy.modes(np.repeat(centres, 5, 0), source) == {'modes': 8, 'of_modes': 8, 'high_quality': 1.0}
    assert toy.modes(np.repeat(centres[:3], 5, 0), source) == {'modes': 3, 'of_modes': 8, 'high_quality': 1.0}
    away = np.array([1.0, 0.0]) * spread
    assert toy.modes(np.repeat(centres, 5, 0) + 2.9 * away, source)['high_quality'] == 1
    assert toy.modes(np.repeat(centres, 5, 0) + 3.1 * away, source) == {'modes': 0, 'of_modes': 8, 'high_quality': 0.0}
    half = np.concatenate([np.repeat(centres, 5, 0), np.zeros((40, 2))])
    assert toy.modes(half, source) == {'modes': 8, 'of_modes': 8, 'high_quality': 0.5}
    assert toy.modes(np.full((10, 2), np.nan), source) == {'modes': 0, 'of_modes': 8, 'high_quality': 0.0}


def test_a_mode_is_covered_by_at_least_a_quarter_of_an_equal_share(source):
    def samples(of_the_first):  # 8 modes and 96 samples: an equal share is 12
        return np.concatenate(
            [source.centres[:1].repeat(of_the_first, 0), source.centres[1:2].repeat(96 - of_the_first, 0)]
        )

    assert [toy.modes(samples(number), source)['modes'] for number in (2, 3)] == [1, 2]


def test_real_points_have_every_mode(source):
    found = toy.modes(source.rows(np.arange(2000))['point'], source)
    assert found['modes'] == 8 and 0.98 < found['high_quality'] < 0.995  # 1 - exp(-9/2) = 0.989


class Stub:
    """Classifies by brightness; the second pixel of an image is the confidence."""

    classes = ('dark', 'grey', 'bright')

    def probabilities(self, images):
        chosen, confidence = images[:, 0, 0, 0].astype(int), images[:, 0, 1, 0]
        rest = np.repeat(((1 - confidence) / 2)[:, None], 3, 1)
        rest[np.arange(len(images)), chosen] = confidence
        return rest


def test_class_shares_of_constructed_images():
    images = np.zeros((8, 2, 2, 1))
    images[:, 0, 0, 0] = [0, 0, 0, 2, 2, 2, 2, 2]
    images[:, 0, 1, 0] = [1, 0.9, 0.9, 1, 1, 1, 1, 0.8]
    figures = class_shares(Stub().probabilities(images), Stub.classes)
    assert figures['class_share'] == {'dark': 0.375, 'grey': 0.0, 'bright': 0.625}
    assert (figures['smallest_share'], figures['largest_share']) == (0.0, 0.625)
    assert figures['confidence'] == pytest.approx(0.95)
    json.dumps(figures)
    figures = class_shares(Stub().probabilities(images[:3]), Stub.classes)
    assert figures['class_share'] == {'dark': 1.0, 'grey': 0.0, 'bright': 0.0}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Returns the classifier of the embedded digits, trained for a fifth of its steps, and its cache."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp('cache')
        train(patch, cache, digits(), 200)
        yield classifier.load(digits().data), cache


def test_the_classifier_is_accurate(trained):
    found, _ = trained
    test = data.load(digits().data, 'test')
    rows = test.rows(np.arange(len(test)))
    images = rows['image'].astype(np.float32) / 127.5 - 1
    probabilities = found.probabilities(images)
    assert probabilities.shape == (297, 10) and found.classes == tuple('0123456789')
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    accuracy = (probabilities.argmax(1) == rows['label']).mean()
    assert accuracy == found.accuracy > 0.97
    assert found.features(images[:7]).shape == (7, 128)
    shares = class_shares(found.probabilities(images), found.classes)
    np.testing.assert_allclose(list(shares['class_share'].values()), np.bincount(rows['label']) / 297, atol=0.02)


def test_the_block_size_does_not_change_the_outputs(trained, monkeypatch):
    found, _ = trained
    images = np.random.default_rng(0).uniform(-1, 1, (23, 16, 16, 1)).astype(np.float32)
    whole = found.probabilities(images)
    monkeypatch.setattr(classifier, 'BLOCK', 10)
    np.testing.assert_allclose(found.probabilities(images), whole, rtol=1e-4, atol=1e-6)


def test_the_classifier_is_trained_once_per_data_set_and_version(trained, monkeypatch):
    found, cache = trained
    calls = []
    monkeypatch.setenv('GENLAB_CACHE', str(cache))
    monkeypatch.setattr(classifier, '_fit', lambda *arguments: calls.append(arguments) or found.params)
    again = classifier.load(digits().data)
    assert calls == [] and again.accuracy == found.accuracy
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, found.params))

    monkeypatch.setattr(classifier, 'VERSION', classifier.VERSION + 1)
    classifier.load(digits().data)
    assert len(calls) == 1
    classifier.load(digits().data)
    assert len(calls) == 1
    load = data.load

    def corrected(config_data, split):  # one label far behind the first batch
        source = load(config_data, split)
        relabel = lambda i: {
            **source.rows(i),
            'label': np.where(i == 1400, 9 - source.rows(i)['label'], source.rows(i)['label']),
        }
        return dataclasses.replace(source, rows=relabel)

    monkeypatch.setattr(data, 'load', corrected)
    classifier.load(digits().data)
    assert len(calls) == 2


def test_training_the_classifier_is_announced_and_deterministic(monkeypatch, capsys):
    say.cache_clear()
    monkeypatch.setattr(classifier, 'STEPS', 3)
    train = data.load(digits().data)
    one, two = classifier._fit(train, 10), classifier._fit(train, 10)
    assert capsys.readouterr().err.count('training the classifier of digits') == 1
    assert jax.tree.all(jax.tree.map(np.array_equal, one, two))


def on_devices(tree):
    placement = parallel.place('pmap')
    return placement, parallel.replicate(placement, tree)


def test_evaluate_uses_the_averages_and_records_the_conditions_of_its_figures(tmp_path, source):
    config = ring(count=400)
    centres = jnp.asarray(source.centres, jnp.float32)

    def sample(variables, keys, condition):
        mode = jax.vmap(lambda key: jax.random.randint(key, (), 0, 8))(keys)
        return centres[mode] + variables['g']['params'][None]

    def measure(variables, batch, keys):
        return {'offset': jnp.ones(len(keys)) * variables['g']['params'][0]}

    params = {'g': np.full(2, 5, np.float32)}
    state = State(np.int32(3), params, {'g': {}}, {}, {'g': np.zeros(2, np.float32)})
    placement, state = on_devices(state)
    evaluated = evaluation.evaluate(config, stub(sample=sample, measure=measure), placement, state)
    assert (
        evaluated.figures['offset'] == 0 and evaluated.figures['modes'] == 8 and evaluated.figures['high_quality'] == 1
    )
    assert evaluated.protocol['held_out'] == {
        'id': evaluated.protocol['held_out']['id'],
        'figures': ['offset'],
        'held_out': 400,
        'data': 'ring/test',
        'fingerprint': evaluated.protocol['points']['fingerprint'],
        'observed': '2, points',
        'seed': 0,
        'parameters': 'averaged',
    }
    raw = evaluation.evaluate(config, stub(sample=sample), placement, state.replace(average={}))
    assert raw.protocol['points']['parameters'] == 'raw' and raw.figures['modes'] == 0
    assert raw.alarms and 'modes' in raw.alarms[0] and not evaluated.alarms

    assert evaluation.steps(tmp_path) == set()
    picture = {'old': np.zeros((2, 2, 3), np.uint8)}
    evaluation.write(tmp_path, 2, evaluated._replace(pictures=picture))
    evaluation.write(tmp_path, 3, evaluated)
    assert evaluation.steps(tmp_path) == {3} and not [*(tmp_path / 'evaluation').iterdir()]
    written = json.loads((tmp_path / 'evaluation.json').read_text())
    assert (
        written == {'step': 3, 'version': VERSION, **evaluation.plain(evaluated)}
        and written['figures'] == evaluated.figures
    )
    for damaged in ('', '[]', '{}'):
        (tmp_path / 'evaluation.json').write_text(damaged)
        assert evaluation.steps(tmp_path) == set()


def test_the_id_depends_on_the_conditions_of_the_figures():
    ids = []
    for change in ({}, {'evaluate.count': 200}, {'evaluate.seed': 1}, {'seed': 7}, {}):
        config = ring(count=100)
        config.update_from_flattened_dict(change)
        placement, state = on_devices(State(np.int32(0), {'g': np.zeros(2, np.float32)}, {'g': {}}, {}, {}))
        model = stub(sample=lambda variables, keys, condition: jnp.zeros((len(keys), 2)))
        ids.append(evaluation.evaluate(config, model, placement, state).protocol['points']['id'])
    assert ids[0] == ids[3] == ids[4] and len({*ids}) == 3  # the training seed does not matter


def test_the_id_follows_the_data_and_not_their_name(monkeypatch):
    load, ids = data.load, []
    placement, state = on_devices(State(np.int32(0), {'g': np.zeros(2, np.float32)}, {'g': {}}, {}, {}))
    model = stub(sample=lambda variables, keys, condition: jnp.zeros((len(keys), 2)))
    moved = lambda source: dataclasses.replace(source, name='elsewhere')
    other = lambda source: dataclasses.replace(
        source, fingerprint=lambda: fingerprint.Fingerprint(f'other {source.name}')
    )
    for change in (lambda source: source, moved, other):
        monkeypatch.setattr(data, 'load', lambda *arguments, change=change: change(load(*arguments)))
        evaluated = evaluation.evaluate(ring(count=100), model, placement, state)
        ids.append(evaluated.protocol['points']['id'])
    assert ids[0] == ids[1] != ids[2]


def test_the_id_does_not_depend_on_a_limit_of_training_examples():
    """Samples of a model of few images are compared with all images."""
    placement, state = on_devices(State(np.int32(0), {'g': np.zeros(2, np.float32)}, {'g': {}}, {}, {}))
    model = stub(sample=lambda variables, keys, condition: jnp.zeros((len(keys), 2)))
    ids = set()
    for limit in (0, 50):
        config = ring(count=100)
        config.data.limit = limit
        ids.add(evaluation.evaluate(config, model, placement, state).protocol['points']['id'])
    assert len(ids) == 1


def test_an_unknown_part_is_refused():
    config = ring(count=8)
    config.evaluate.parts = ('qualty',)
    placement, state = on_devices(State(np.int32(0), {'g': np.zeros(2, np.float32)}, {'g': {}}, {}, {}))
    with pytest.raises(ConfigError, match='parts has qualty: choose from quality, points'):
        evaluation.evaluate(config, stub(), placement, state)


def test_samples_that_are_not_finite_raise_an_alarm():
    config = ring(count=8)
    placement, state = on_devices(State(np.int32(0), {'g': np.zeros(2, np.float32)}, {'g': {}}, {}, {}))

    def sample(variables, keys, condition):
        return jnp.full((len(keys), 2), jnp.nan)

    evaluated = evaluation.evaluate(config, stub(sample=sample), placement, state)
    assert evaluated.figures['finite'] == 0 and 'not finite' in evaluated.alarms[0]


def test_scalars_are_the_figures_of_one_number():
    evaluated = evaluation.Evaluation({'a': 1, 'b': 0.5, 'c': {'x': 1}, 'd': 'needs more'}, {}, [], {}, {})
    assert evaluation.scalars(evaluated) == {'a': 1, 'b': 0.5}
