"""Tests rejection: the best candidate of each sample is kept, whatever the batch, and what has no score is refused."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import config as configs
from genlab import noise
from genlab.abilities import Sampler
from genlab.choices import named
from genlab.conditioning import Conditions
from genlab.errors import ConfigError
from genlab.evaluation.features import classifier
from genlab.sampling import drawing, rejection
from genlab.training import parallel
from support.experiments import stub


def digits(**changes):
    config = configs.defaults('x')
    config.data.update(source='digits', resolution=8, batch_size=8)
    config.sample.update(changes)
    return config


def numbers(variables, keys, condition):
    """Draws a point [N, 3] per key."""
    return jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys) * variables['scale']


def nearest():
    """Returns the score of points: how near the first number is to 0.3. Points left of -1 have no score."""

    def near(sampler, variables, keys, condition):
        rows.append(len(keys))
        points = sampler.sample(variables, keys, condition)
        return points, jnp.where(points[:, 0] < -1, jnp.nan, -jnp.abs(points[:, 0] - 0.3))

    rows = []
    return rejection.Score(near, lambda config, experiment: None, lambda config: {}), rows


@pytest.fixture
def points(monkeypatch):
    """Returns a function that draws points by the score `nearest`, and the rows of each trace."""
    (score, rows), placement = nearest(), parallel.place('pmap')
    monkeypatch.setitem(rejection.SCORES, 'nearest', lambda: score)
    variables, model = parallel.replicate(placement, {'scale': np.float32(2)}), stub(sample=numbers)

    def draw(count, candidates, chunk=16, how=rejection.draw):
        config = digits(candidates=candidates, chunk=chunk, score=named('nearest'))
        return how(model, placement, variables, config, count)

    return draw, rows


def test_the_best_of_the_candidates_of_each_sample_is_kept(points):
    draw, rows = points
    found = draw(10, 4)
    keys = drawing.keys(0, 0, 10)
    candidates = np.stack(
        [numbers({'scale': 2}, keys, {})]
        + [numbers({'scale': 2}, noise.stream(keys, 'candidate', number), {}) for number in (1, 2, 3)]
    )
    scores = np.where(candidates[..., 0] < -1, -np.inf, -np.abs(candidates[..., 0] - 0.3))
    assert np.isinf(scores).any() and len(set(scores.argmax(0))) > 1
    np.testing.assert_allclose(found, candidates[scores.argmax(0), np.arange(10)], rtol=1e-6)
    assert rows == [16]  # the chunk is that of all candidates, and one program draws all chunks


def test_one_candidate_changes_nothing_and_is_not_scored(points):
    draw, rows = points
    np.testing.assert_array_equal(draw(10, 1), draw(10, 1, how=drawing.draw))
    assert not rows


def test_a_selected_sample_depends_neither_on_the_chunk_nor_on_the_count(points):
    draw, _ = points
    ten = draw(10, 4)
    np.testing.assert_allclose(draw(3, 4, chunk=40), ten[:3], rtol=1e-6)
    np.testing.assert_allclose(draw(10, 4, chunk=2), ten, rtol=1e-6)  # less than the candidates of one sample


@pytest.fixture(scope='module')
def params():
    return jax.jit(classifier.Network(10).init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))['params']


def pictures(variables, keys, condition):
    return jax.vmap(lambda key: jax.random.uniform(key, (8, 8, 1), minval=-1))(keys)


def test_the_classifier_prefers_the_asked_class_and_no_class_keeps_the_first(params, monkeypatch):
    monkeypatch.setattr(rejection.features, 'load', lambda of: SimpleNamespace(params=params))
    model, placement = stub(sample=pictures, conditions=Conditions(classes=10)), parallel.place('pmap')
    threes = lambda numbers: {'label': np.full(len(numbers), 3)}
    drawn = [
        rejection.draw(model, placement, {}, digits(candidates=candidates, chunk=64), 32, conditions=threes)
        for candidates in (1, 8)
    ]
    sure = [np.asarray(classifier.log_probabilities(params, images))[:, 3] for images in drawn]
    assert (sure[1] >= sure[0]).all() and (sure[1] > sure[0]).sum() > 20
    held = classifier.Classifier((), 0.0, params).probabilities(drawn[1])  # as the evaluator computes them
    np.testing.assert_allclose(np.log(held[:, 3]), sure[1], atol=1e-5)
    score, keys = rejection.of(digits()), drawing.keys(0, 0, 4)
    ability = rejection.best_of(score, model.sampler, 8)
    given = {rejection.CLASSIFIER: params}
    free = jax.jit(ability)(given, keys, {'label': jnp.full(4, 10)})  # the null class
    np.testing.assert_array_equal(free, pictures({}, keys, {}))
    assert ability is rejection.best_of(rejection.of(digits()), model.sampler, 8)  # so that it compiles once


OF_CLASSES = stub(sample=pictures, conditions=Conditions(classes=10))
EXACT = stub(sample=pictures, with_likelihood=lambda *given: given)


@pytest.mark.parametrize(
    'model, changes, message',
    [
        (stub(sample=pictures), {}, 'classifier needs a model of images .* set config.sample.candidates=1, or train'),
        (EXACT, {}, 'set config.sample.candidates=1, or config.sample.score=likelihood, or train'),
        (stub(), {}, 'classifier needs a model of images'),
        (OF_CLASSES, {'score': named('likelihood')}, 'likelihood needs an autoregressive model'),
        (OF_CLASSES, {'score': named('information')}, 'information needs an autoregressive model'),
        (EXACT, {'score': named('information')}, 'information needs a condition and a null condition'),
        (OF_CLASSES, {'score': named('clasifier')}, "config.sample.score='clasifier'.*did you mean classifier"),
        (OF_CLASSES, {'score': named('clasifier'), 'candidates': 1}, 'did you mean classifier'),
        (OF_CLASSES, {'score': named('classifier', share=0.5)}, 'config.sample.score.share'),
    ],
)
def test_a_score_that_a_model_does_not_have_is_refused(model, changes, message):
    with pytest.raises(ConfigError, match=message) as raised:
        rejection.check(digits(**{'candidates': 2, **changes}), model)
    assert '\n' not in str(raised.value)


def test_information_is_the_likelihood_that_the_condition_adds():
    likelihoods = jnp.array([-3.0, -1.0]), jnp.array([-9.0, -2.0])
    sampler = Sampler(pictures, with_likelihood=lambda *given: (pictures(*given), *likelihoods))
    scores = {
        name: rejection.SCORES[name]().draw(sampler, {}, drawing.keys(0, 0, 2), {})[1].tolist()
        for name in ('likelihood', 'information')
    }
    assert scores == {'likelihood': [-3, -1], 'information': [6, 1]}


def test_points_of_classes_have_no_classifier_and_other_models_pass():
    config = digits(candidates=2)
    rejection.check(config, OF_CLASSES)
    config.sample.score = named('likelihood')
    rejection.check(config, EXACT)
    config = digits(candidates=2)
    config.data.update(source='toy', name='ring', observe='point')
    with pytest.raises(ConfigError, match='a model of images'):
        rejection.check(config, OF_CLASSES)


def test_candidates_name_the_protocol_and_the_folder_only_if_there_are_several():
    one, other, more = digits(), digits(score=named('likelihood')), digits(candidates=2, score=named('likelihood'))
    assert rejection.protocol(one) == rejection.protocol(other) == {}
    assert rejection.protocol(more) == {'candidates': 2, 'score': {'name': 'likelihood'}}
    folders = [drawing.folder_name(config, 3, 0) for config in (one, other, more, digits(candidates=2))]
    assert folders[0] == folders[1] and len({*folders}) == 3
