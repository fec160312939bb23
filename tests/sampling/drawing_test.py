"""Tests sampling: sample i depends on the seed and i only, not on the chunk, the count or the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import conditioning, data
from genlab import config as configs
from genlab.abilities import Sampler
from genlab.conditioning import Conditions, Given
from genlab.data import captions
from genlab.errors import ConfigError
from genlab.experiment import Experiment
from genlab.sampling import drawing
from genlab.training import parallel


def digits(**changes):
    config = configs.defaults('x')
    config.data.update(source='digits', resolution=8, batch_size=8, **changes)
    return config


def experiment(traces, conditional=False):
    def sample(variables, keys, condition):
        traces.append(1)
        z = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
        if condition:
            z = z + condition['label'][:, None]
        return z * variables['scale']

    return Experiment(None, None, Sampler(sample), conditions=Conditions(classes=10 if conditional else 0))


def test_samples_that_are_not_finite_are_counted_in_one_line(capfd):
    """Covers `sample` and the pictures of training, which both draw."""
    sample = lambda variables, keys, condition: jnp.full((len(keys), 8, 8, 1), variables['value'])
    model, config, placement = Experiment(None, None, Sampler(sample)), digits(), parallel.place('pmap')
    config.sample.update(count=8, chunk=4)
    for value, said in ((np.nan, 'samples: 8 of 8 (100.0%) are not finite'), (np.float32(0.5), '')):
        variables = parallel.replicate(placement, {'value': np.float32(value)})
        picture = drawing.show(model, placement, variables, config, data.load(config.data)).picture
        lines = capfd.readouterr().err.splitlines()
        assert picture.ndim == 3 and len(lines) == bool(said) and said in ''.join(lines)


@pytest.mark.parametrize('conditional', [False, True])
def test_sample_i_depends_neither_on_the_chunk_nor_on_the_count(conditional):
    traces = []
    model, config = experiment(traces, conditional), digits(dequantise=True)
    config.sample.condition, config.seed = conditional, 1
    placement = parallel.place('pmap')
    variables = parallel.replicate(placement, {'scale': np.float32(2)})

    def draw(count, chunk, **kwargs):
        config.sample.chunk = chunk
        return drawing.draw(model, placement, variables, config, count, **kwargs)

    ten = draw(10, 4)
    assert ten.shape == (10, 3) and isinstance(ten, np.ndarray) and len(np.unique(ten)) == 30
    assert len(traces) == 1
    np.testing.assert_array_equal(draw(5, 4), ten[:5])
    assert len(traces) == 1  # compiled once for all chunks and calls
    np.testing.assert_allclose(draw(7, 3), ten[:7], rtol=1e-6)  # 3 do not divide over 4 devices
    np.testing.assert_allclose(draw(10, 64), ten, rtol=1e-6)
    config.sample.count = 6
    np.testing.assert_array_equal(draw(None, 4), ten[:6])
    assert not np.isclose(draw(10, 4, seed=0), ten).any()
    np.testing.assert_array_equal(draw(10, 4, seed=config.seed), ten)


def test_each_purpose_has_its_own_random_stream():
    def rows(keys):
        return {tuple(row) for row in np.asarray(jax.random.key_data(keys)).reshape(-1, 2).tolist()}

    seed = jax.random.key(5)
    training = rows(jax.random.split(seed)) | rows(seed)
    samples, prepared = drawing.keys(5, 0, 50), drawing.keys(5, 0, 50, 'prepare')
    assert len(training | rows(samples) | rows(prepared)) == 3 + 50 + 50
    np.testing.assert_array_equal(jax.random.key_data(drawing.keys(5, 20, 3)), jax.random.key_data(samples[20:23]))
    assert not rows(samples) & rows(drawing.keys(6, 0, 50))


def test_held_out_examples_cycle_through_the_test_set_in_order():
    config = digits()
    source = data.load(config.data, 'test')
    around = drawing.examples(config)(np.arange(294, 300))
    expected = source.rows(np.array([294, 295, 296, 0, 1, 2]))
    np.testing.assert_allclose(around['x'], expected['image'] / np.float32(127.5) - 1, atol=1e-6)
    np.testing.assert_array_equal(around['label'], expected['label'])
    np.testing.assert_array_equal(around['position'], np.arange(294, 300))


def test_held_out_examples_are_prepared_as_in_a_test_with_their_own_noise():
    config = digits(dequantise=True, flip=True)
    held_out = drawing.examples(config)
    one, other = held_out(np.arange(4)), held_out(np.arange(2, 6))
    np.testing.assert_array_equal(one['x'][2:], other['x'][:2])
    levels = data.load(config.data, 'test').rows(np.arange(4))['image']
    np.testing.assert_array_equal(np.floor((np.asarray(one['x'], np.float64) + 1) * 128), levels)  # not mirrored
    assert not np.array_equal(one['x'], held_out(np.arange(297, 301))['x'])


def test_held_out_data_are_loaded_once(monkeypatch):
    loaded, load = [], data.load
    monkeypatch.setattr(data, 'load', lambda *arguments: loaded.append(arguments) or load(*arguments))
    drawing.prepared.cache_clear()
    for _ in range(3):
        drawing.examples(digits())(np.arange(2))
    assert len(loaded) == 1
    drawing.examples(digits(binarise=True))(np.arange(2))
    assert len(loaded) == 2


def scenes():
    config = configs.defaults('x')
    config.data.update(source='scenes', resolution=16, channels=3, fields=('caption',))
    return config


CLASSES, CAPTIONS = Conditions(classes=10), Conditions(words=len(captions.VOCABULARY))


def test_a_prompt_or_a_label_conditions_every_sample():
    condition = drawing.condition_at(digits(), CLASSES, given=Given(label='3'))(np.arange(4))
    np.testing.assert_array_equal(condition['label'], [3, 3, 3, 3])
    prompt = 'A small red ring, on grey.'
    condition = drawing.condition_at(scenes(), CAPTIONS, given=Given(prompt=prompt))(np.arange(2))
    np.testing.assert_array_equal(condition['caption'], captions.tokens([prompt] * 2))
    source = data.load(scenes().data, 'test')
    assert conditioning.describe(source, condition) == ['a small red ring on grey'] * 2
    assert drawing.condition_at(digits(), Conditions())(np.arange(2)) == {}


def test_classes_without_names_are_numbers():
    ring = configs.defaults('x')
    ring.data.update(source='toy', name='ring', observe='point')
    condition = drawing.condition_at(ring, Conditions(classes=8), given=Given(label='7'))(np.arange(1))
    assert conditioning.describe(data.declared(ring.data), condition) == ['7']
    null = conditioning.null(Conditions(classes=8), 1)
    assert conditioning.describe(data.declared(ring.data), null) == ['no class']
    assert conditioning.describe(data.declared(digits().data), {'label': np.array([3, 10])}) == ['3', 'no class']


def test_an_error_lists_the_first_of_many_classes_and_a_near_one():
    with pytest.raises(ConfigError, match=r'n38, n39, \.\.\. \(did you mean n321\?\)$'):
        conditioning.class_number('nn321', [f'n{number}' for number in range(1000)])


def test_without_a_prompt_the_condition_is_held_out_or_random():
    config, plain = scenes(), digits()
    config.sample.condition = plain.sample.condition = True
    source = data.load(config.data, 'test')
    condition = drawing.condition_at(config, CAPTIONS)(np.arange(5))
    assert conditioning.describe(source, condition) == source.captions(np.arange(5))
    labels = data.load(plain.data, 'test').rows(np.array([296, 0]))['label']
    np.testing.assert_array_equal(drawing.condition_at(plain, CLASSES)(np.array([296, 297]))['label'], labels)
    plain.sample.condition = False
    some, rest = (
        drawing.condition_at(plain, CLASSES, seed=1)(np.arange(*ends))['label'] for ends in ((0, 90), (90, 200))
    )
    assert set(np.concatenate([some, rest])) == set(range(10))
    np.testing.assert_array_equal(rest[:5], drawing.condition_at(plain, CLASSES, seed=1)(np.arange(90, 95))['label'])


FIELDS = Conditions(words=len(captions.VOCABULARY), fields=('segmentation', 'style'))


def with_fields():
    config = scenes()
    config.data.fields = ('caption', 'segmentation', 'style')
    return config


def test_fields_are_conditions_of_held_out_examples_or_of_given_files():
    config, numbers = with_fields(), np.arange(3)
    held_out = drawing.examples(config)(numbers)
    condition = drawing.condition_at(config, FIELDS)(numbers)
    assert {*condition} == {'caption', 'segmentation', 'style'} and not condition['caption'].any()
    np.testing.assert_array_equal(condition['segmentation'], held_out['segmentation'])
    np.testing.assert_array_equal(condition['style'], held_out['style'])
    given = Given(
        'a red circle', fields={'style': np.stack([np.zeros((16, 16, 3)), np.ones((16, 16, 3))])}, names=('a', 'b')
    )
    condition = drawing.condition_at(config, FIELDS, given=given)(numbers)
    assert [captions.text(row) for row in condition['caption']] == ['a red circle'] * 3
    assert condition['style'].mean((1, 2, 3)).tolist() == [0, 1, 0] and drawing.names(given, 3) == ['a', 'b', 'a-2']
    np.testing.assert_array_equal(condition['segmentation'], held_out['segmentation'])
    config.sample.condition = True
    source = data.load(config.data, 'test')
    captioned = drawing.condition_at(config, FIELDS)(numbers)['caption']
    assert [captions.text(row) for row in captioned] == source.captions(numbers)


def test_translated_images_are_shown_below_their_input():
    samples = np.zeros((2, 32, 32, 3), np.float32)
    classes = np.zeros((2, 16, 16, 1), np.int32)
    classes[:, :8] = 4
    sheet = drawing.picture(samples, {'segmentation': classes, 'caption': np.zeros((2, 5), np.int32)})
    assert sheet.shape == (66, 66, 3)
    assert (sheet[:16, :32] == 255).all() and (sheet[16:32, :32] == 0).all() and (sheet[34:, :32] == 128).all()


@pytest.mark.parametrize(
    'config, conditions, words, says',
    [
        (scenes(), CAPTIONS, {'prompt': 'a small red rnig'}, 'did you mean ring'),
        (scenes(), CAPTIONS, {'prompt': 'a red elephant'}, 'elephant.*there are a, on'),
        (scenes(), CAPTIONS, {'prompt': 'a ' * 27}, '1 to 26 words, not 27'),
        (scenes(), CAPTIONS, {'prompt': '!'}, '1 to 26 words, not 0'),
        (scenes(), CAPTIONS, {'label': '3'}, 'not conditioned on classes: leave it out, or give --prompt'),
        (digits(), Conditions(), {'label': '3'}, 'not conditioned on classes'),
        (digits(), CLASSES, {'prompt': 'three'}, 'not conditioned on captions: leave it out, or give --label'),
        (digits(), CLASSES, {'label': '10'}, 'no such class: choose one of 0, 1, 2'),
        (digits(), CLASSES, {'label': 'cat'}, 'no such class: choose one of 0, 1, 2'),
        (digits(), CLASSES, {'label': '-1'}, 'no such class: choose one of 0, 1, 2'),
    ],
)
def test_an_impossible_condition_is_refused(config, conditions, words, says):
    with pytest.raises(ConfigError, match=says):
        drawing.condition_at(config, conditions, given=Given(**words))


def test_a_folder_of_samples_is_named_by_all_that_they_depend_on():
    def name(change=(), step=20, seed=3, **given):
        config = digits()
        config.update_from_flattened_dict(dict(change))
        return drawing.folder_name(config, step, seed, Given(**given))

    names = [name(), name(label='+'), name(label='-'), name(label='='), name(prompt='+'), name(prompt='red circle')]
    names += [name(label='red', prompt='circle'), name({'sample.condition': True}), name(seed=4), name(step=21)]
    names += [name(fields={'input': np.full(4, value)}, names=('cat',)) for value in (0.0, 1.0)]
    assert names[-1].startswith('step-20-seed-3-cat-')
    assert len({*names}) == len(names) and names[5].startswith('step-20-seed-3-red-circle-')
    assert name({'sample.count': 5, 'sample.chunk': 5}) == name()  # sample i is the same


def test_points_are_drawn_over_real_points_and_images_alone():
    assert drawing.reference(data.load(digits().data), digits()) is None
    config = configs.defaults('x')
    config.data.update(source='toy', name='ring', observe='point')
    source = data.load(config.data)
    points = drawing.reference(source, config)
    np.testing.assert_array_equal(points, source.rows(np.arange(2000))['point'])


def test_jitted_gives_the_same_object_for_the_same_function():
    def double(x):
        return 2 * x

    assert drawing.jitted(double) is drawing.jitted(double) and drawing.jitted(double)(jnp.int32(2)) == 4


def test_a_field_that_the_data_lack_is_refused():
    source = data.load(digits().data)
    conditioning.check(Conditions(fields=('image',)), source)
    with pytest.raises(
        ConfigError, match="conditioned on 'speech', and digits/train has image, label: set config.data"
    ):
        conditioning.check(Conditions(fields=('image', 'speech')), source)
    scenes = configs.defaults('x').data
    scenes.update(source='scenes', channels=3)
    with pytest.raises(ConfigError, match=r"conditioned on 'boxes': set config.data.fields=\('boxes',\)"):
        conditioning.check(Conditions(fields=('boxes',)), data.load(scenes))
