"""Tests the evaluators on models with known figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import config as configs
from genlab import data
from genlab.choices import named
from genlab.conditioning import Conditions
from genlab.data.source import only, unpaired
from genlab.data.sources.scenes import layout
from genlab.evaluation.evaluators import anomaly, codes, held_out, points, quality, reconstruction, scenes, translation
from genlab.evaluation.metrics.codes import linear_probe
from genlab.evaluation.subject import Subject
from genlab.training import parallel
from support.classifiers import train
from support.experiments import stub


def digits(**changes):
    config = configs.defaults('x')
    config.data.update(source='digits', resolution=8, batch_size=128)
    config.data.update(changes)
    return config


def subject_of(config, variables=None, **abilities):
    placement = parallel.place('pmap')
    return Subject(
        config,
        stub(**abilities),
        placement,
        parallel.replicate(placement, variables or {'scale': np.float32(1)}),
    )


@pytest.mark.parametrize('count, batch_size', [(1000, 128), (100, 64)])
def test_measures_are_means_over_each_held_out_example_once(count, batch_size):
    config = digits(batch_size=batch_size)
    config.evaluate.count = count
    source = data.load(config.data, 'test')
    total = min(count, len(source))
    assert total % batch_size

    def measure(variables, batch, keys):
        return {
            'label': batch['label'] * variables['scale'],
            'one': jnp.ones(len(keys)),
            'noise': jax.vmap(jax.random.normal)(keys),
        }

    found = held_out.evaluate(subject_of(config, {'scale': np.float32(2)}, measure=measure)).figures
    assert found['one'] == 1
    assert found['label'] == pytest.approx(2 * source.rows(np.arange(total))['label'].mean(), rel=1e-6)
    assert 0 < abs(found['noise']) < 4 / np.sqrt(total)


def test_exact_likelihoods_refer_to_the_levels_of_the_requested_examples():
    """Uses a uniform density over [-1, 1)^64, 2^-64: each level has probability 1 / 256, eight bits."""
    config = digits(dequantise=True)
    config.evaluate.exact = 100
    asked = []

    def log_likelihood(variables, batch, keys):
        jax.debug.callback(lambda count: asked.append(int(count)), jnp.asarray(len(keys)))
        return jnp.full(len(keys), -64 * np.log(2))

    part = held_out.evaluate(subject_of(config, measure=lambda *_: {'one': jnp.ones(128)}, exact=log_likelihood))
    assert part.figures['bits_per_dimension_exact'] == pytest.approx(8)
    assert part.protocol == {'held_out': 297, 'exact': 100} and asked == [128]
    config.data.dequantise = False
    part = held_out.evaluate(subject_of(config, measure=lambda *_: {'one': jnp.ones(128)}, exact=log_likelihood))
    assert part.figures['negative_log_density'] == pytest.approx(64 * np.log(2)) and 'nll_exact' not in part.figures


def test_likelihoods_are_also_given_in_bits_per_dimension():
    """Uses weights of e^-64 log 2 or twice that with equal probability, so both bounds are known."""
    config = digits()
    config.evaluate.update(importance=4000, importance_chunk=500)
    nat = 64 * np.log(2)

    def log_weight(variables, batch, keys):
        return -nat + jnp.log(2.0) * jax.vmap(jax.random.bernoulli)(keys)

    def measure(variables, batch, keys):
        return {'nll_bound': -log_weight(variables, batch, keys)}

    part = held_out.evaluate(subject_of(config, measure=measure, log_weight=log_weight))
    assert part.figures['nll_importance_weighted'] == pytest.approx(nat - np.log(1.5), abs=0.01)
    assert part.figures['nll_bound'] == pytest.approx(nat - np.log(2) / 2, abs=0.1)
    assert part.figures['bits_per_dimension_bound'] == pytest.approx(part.figures['nll_bound'] / nat)
    assert part.protocol == {'held_out': 297, 'importance': 4000}


@pytest.mark.parametrize('dequantise', [False, True])
def test_an_estimated_normaliser_gives_a_likelihood_with_its_interval(dequantise):
    """Uses estimates of Z that are 1 or 3 with equal probability, and log p(x) + log Z = -100."""
    config = digits(dequantise=dequantise)
    config.evaluate.update(annealed=4000, temperatures=7)
    part = held_out.evaluate(
        subject_of(
            config,
            measure=lambda *_: {'one': jnp.ones(128)},
            unnormalised=lambda variables, batch, keys: jnp.full(len(keys), -100.0),
            annealed=lambda variables, keys: jnp.log1p(2.0 * jax.vmap(jax.random.bernoulli)(keys)),
        )
    )
    figures, levels = part.figures, 64 * np.log(128) if dequantise else 0
    assert figures['log_partition_ais'] == pytest.approx(np.log(2), abs=0.03)
    assert figures['nll_ais'] == pytest.approx(100 + levels + figures['log_partition_ais'])
    error = 3 / np.sqrt(4000)
    assert figures['nll_ais_low'] == pytest.approx(figures['nll_ais'] + np.log1p(-error / 2), abs=2e-3)
    assert figures['nll_ais_high'] == pytest.approx(figures['nll_ais'] + np.log1p(error / 2), abs=2e-3)
    assert figures['bits_per_dimension_ais'] == pytest.approx(figures['nll_ais'] / (64 * np.log(2)))
    assert part.protocol == {'held_out': 297, 'ais_runs': 4000, 'ais_temperatures': 7}


def principal(size):
    """Returns an experiment that computes PCA by scikit-learn."""
    from sklearn.decomposition import PCA

    train = data.load(digits().data)
    fitted = PCA(size).fit(train.rows(np.arange(len(train)))['image'].reshape(len(train), -1) / 127.5 - 1)
    variables = {'axes': fitted.components_.T.astype(np.float32), 'mean': fitted.mean_.astype(np.float32)}

    def encode(variables, batch):
        return (batch['x'].reshape(-1, 64) - variables['mean'][None]) @ variables['axes']

    def decode(variables, z):
        return (z @ variables['axes'].T + variables['mean'][None]).reshape(-1, 8, 8, 1)

    def measure(variables, batch, keys):
        wrong = decode(variables, encode(variables, batch)) - batch['x']
        return {'squared_error': jnp.square(wrong).sum((1, 2, 3)) / 4}

    def reconstruct(variables, batch, keys):
        return {'input': batch['x'], 'output': decode(variables, encode(variables, batch))}

    return variables, {'encode': encode, 'decode': decode, 'measure': measure, 'reconstruct': reconstruct}


@pytest.fixture(scope='module')
def pca_model():
    return principal(10)


def test_a_pca_model_has_the_figures_of_pca(pca_model):
    variables, abilities = pca_model
    subject = subject_of(digits(), variables, **abilities)
    part = codes.evaluate(subject)
    assert part.figures['code_size'] == 10
    error = held_out.evaluate(subject).figures['squared_error']
    assert part.figures['squared_error_of_pca'] == pytest.approx(error, rel=1e-4)
    assert part.figures['angle_to_pca'] < 0.01
    assert part.figures['linear_probe'] == pytest.approx(part.figures['linear_probe_of_pca'], abs=0.01)
    assert 0.85 < part.figures['linear_probe'] < 1 and part.figures['nmi'] > 0.5
    assert part.protocol == {'held_out': 297, 'fitted_to': 1500}
    assert part.pictures['codes_by_pca'].ndim == 3


def test_reconstructions_are_compared_with_originals_and_filters(pca_model):
    variables, abilities = pca_model
    part = reconstruction.evaluate(subject_of(digits(), variables, **abilities))
    assert 'psnr_of_input' not in part.figures and 10 < part.figures['psnr'] < 40 and 0.5 < part.figures['ssim'] < 1

    def restore(variables, batch, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, (8, 8, 1)))(keys)
        return {'input': batch['x'] + 0.5 * noise, 'output': batch['x'] + 0.05 * noise}

    part = reconstruction.evaluate(subject_of(digits(), reconstruct=restore))
    assert part.figures['psnr'] - part.figures['psnr_of_input'] == pytest.approx(20, abs=1e-3)  # a tenth of the noise
    best = max(value for name, value in part.figures.items() if name.startswith('psnr_of_') and name != 'psnr_of_input')
    assert part.figures['psnr_above_filters'] == pytest.approx(part.figures['psnr'] - best, abs=1e-4)
    assert best > part.figures['psnr_of_input'] and {*part.pictures} == {'reconstructions', 'filters'}


def test_a_class_left_out_is_detected_by_a_measure():
    config = digits(leave_out=(3,))

    def measure(variables, batch, keys):
        return {'squared_error': (batch['label'] == 3) + 0.01 * jax.vmap(jax.random.uniform)(keys)}

    subject = subject_of(config, measure=measure)
    assert anomaly.applies(subject) and not anomaly.applies(subject_of(digits(), measure=measure))
    part = anomaly.evaluate(subject)
    assert all(part.figures[f'anomaly_{name}'] == pytest.approx(1) for name in ('auroc', 'aupr', 'recall'))
    assert part.protocol == {'held_out': 297, 'left_out': [3], 'score': 'squared_error'}
    assert len(subject.train) < 1500 and len(subject.test) == 297


def test_discrete_codes_are_counted():
    config = digits()

    def encode(variables, batch):
        return jnp.tile(batch['label'][:, None], (1, 4))

    part = codes.evaluate(subject_of(config, encode=encode, decode=None, entries=20))
    assert part.figures['codebook_used'] == 0.5 and 9.5 < part.figures['perplexity'] <= 10


def test_two_grids_of_discrete_codes_are_counted_separately():
    def encode(variables, batch):
        return {'top': batch['label'][:, None], 'bottom': jnp.tile(batch['label'][:, None] % 5, (1, 4))}

    part = codes.evaluate(subject_of(digits(), encode=encode, decode=None, entries=20))
    assert part.figures['codebook_used_by_grid'] == {'bottom': 0.25, 'top': 0.5}
    assert part.figures['codebook_used'] == 0.375
    assert part.figures['perplexity'] == pytest.approx(np.mean([*part.figures['perplexity_by_grid'].values()]))


def test_codes_that_are_trees_have_the_figures_of_vectors(pca_model):
    variables, abilities = pca_model

    def encode(variables, batch):
        z = abilities['encode'](variables, batch)
        return {'bottom': z[:, :6].reshape(-1, 3, 2), 'top': z[:, 6:]}

    def decode(variables, z):
        return abilities['decode'](variables, jnp.concatenate([z['bottom'].reshape(-1, 6), z['top']], 1))

    array = codes.evaluate(subject_of(digits(), variables, **abilities))
    tree = codes.evaluate(subject_of(digits(), variables, **{**abilities, 'encode': encode, 'decode': decode}))
    assert {*array.figures} == {*tree.figures} and 'angle_to_pca' in tree.figures
    for name, figure in array.figures.items():
        assert tree.figures[name] == pytest.approx(figure, rel=1e-4, abs=1e-4), name


def translator(name, sample, **changes):
    """Returns a subject that translates a field of scenes, evaluated by feature maps of random weights."""
    config = configs.defaults('x')
    config.data.update(source='scenes', resolution=32, channels=3, batch_size=8, fields=(name,), limit=40, **changes)
    config.evaluate.update(count=12, features='random')
    config.sample.chunk = 8
    return subject_of(config, sample=sample, conditions=Conditions(fields=(name,)))


@pytest.mark.parametrize('unpaired', ['', 'style'])
def test_samples_are_compared_with_the_field_that_they_resemble(unpaired):
    """Uses a model that makes the style of pictures: it is perfect for samples of styles, and not for pictures."""
    config = translator('style', None, unpaired=unpaired).config
    known = data.load(config.data, 'test').rows(np.arange(12))
    pictures, styles = (jnp.asarray(known[name] / np.float32(127.5) - 1) for name in ('image', 'style'))

    def sample(variables, keys, condition):
        same = jnp.square(condition['image'][:, None] - pictures[None]).sum((2, 3, 4)).argmin(1)
        return styles[same]

    subject = subject_of(config, sample=sample, field='style', conditions=Conditions(fields=('image',)))
    assert translation.applies(subject)
    figures = translation.evaluate(subject).figures
    assert figures['translation_l1'] < 1e-6 < figures['translation_l1_of_input']
    assert figures['translation_l1_of_input'] == pytest.approx(float(jnp.abs(pictures - styles).mean()) / 2, rel=1e-5)
    mean = subject.train.rows(np.arange(40))['style'].mean(0)
    if not unpaired:
        assert figures['translation_l1_of_mean'] == pytest.approx(np.abs(known['style'] - mean).mean() / 255, rel=1e-5)
    assert quality.evaluate(subject).protocol['reference'].startswith('scenes')
    assert subject.whole.data.observe == 'style'


def test_translated_images_are_compared_with_their_counterparts():
    """Uses the identity, so the figures of samples are those of the input, and the mean of the training images."""
    subject = translator('style', lambda variables, keys, condition: condition['style'])
    assert translation.applies(subject)
    part = translation.evaluate(subject)
    rows = subject.test.rows(np.arange(12))
    image, style = (rows[name].astype(np.float64) / 255 for name in ('image', 'style'))
    mean = subject.train.rows(np.arange(40))['image'].mean(0) / 255
    figures = part.figures
    assert figures['translation_l1'] == pytest.approx(np.abs(image - style).mean(), rel=1e-5)
    assert figures['translation_l1_of_mean'] == pytest.approx(np.abs(image - mean).mean(), rel=1e-5)
    for name in ('l1', 'ssim', 'distance'):
        assert figures[f'translation_{name}'] == figures[f'translation_{name}_of_input']
    assert figures['translation_distance'] > 0 and figures['translation_ssim'] < 1
    assert (part.protocol['held_out'], part.protocol['mean_of'], part.protocol['condition']) == (12, 40, 'style')
    assert part.pictures['translations'].shape[1:] == (12 * 34 - 2, 3)


def test_the_classes_of_translated_maps_are_read():
    """Uses a model that knows the pictures of half of the held-out maps and paints the rest white."""
    source = data.load(translator('segmentation', None).config.data, 'test').rows(np.arange(12))
    pictures = jnp.asarray(source['image'] / np.float32(127.5) - 1)
    maps = jnp.asarray(source['segmentation'], jnp.int32)

    def sample(variables, keys, condition):
        same = (condition['segmentation'][:, None] == maps[None]).all((2, 3, 4))
        return jnp.where((same.argmax(1) % 2 == 0)[:, None, None, None], pictures[same.argmax(1)], 1.0)

    subject = translator('segmentation', sample)
    figures = translation.evaluate(subject).figures
    assert 'translation_l1_of_input' not in figures
    assert (
        figures['translation_pixel_accuracy_of_data'] > 0.998 and figures['translation_class_accuracy_of_data'] > 0.98
    )
    background = (source['segmentation'][1::2] == 0).mean()
    assert figures['translation_pixel_accuracy'] == pytest.approx((0.99 + background) / 2, abs=0.02)
    assert 0.3 < figures['translation_class_accuracy'] < 0.8
    assert figures['translation_class_accuracy_by_chance'] < 0.4
    broken = translator('segmentation', lambda variables, keys, condition: jnp.nan * pictures[: len(keys)])
    assert translation.evaluate(broken).figures == {'translation_l1': '12 samples are not finite'}


def test_translation_needs_counterparts():
    identity = lambda variables, keys, condition: condition['style']
    assert translation.applies(translator('style', identity, unpaired='style'))  # held-out examples are pairs
    assert not translation.applies(translator('boxes', identity))
    assert not translation.applies(subject_of(digits(), sample=identity))
    apart = translator('style', identity)
    apart.test = unpaired(only(apart.test, ['image', 'label']), only(apart.test, ['style']))
    assert not translation.applies(apart)


def test_samples_of_scenes_are_compared_with_their_captions():
    """Uses a model that paints the right picture of every second caption that is held out, and else nothing."""
    config = configs.defaults('x')
    config.data.update(source='scenes', resolution=32, channels=3, batch_size=16, shapes=1, hold_out=True)
    config.evaluate.count, config.sample.chunk = 20, 16
    source = data.load(config.data, 'test', ('caption', 'factors'))
    rows = source.rows(np.arange(200))
    place = layout.places_of(*(rows['factors'][:, layout.FACTORS.index(name)] for name in ('x_0', 'y_0')))
    numbers = [rows['factors'][:, layout.FACTORS.index(name)] for name in ('kind_0', 'colour_0')]
    held = np.flatnonzero((sum(numbers) + place) % 8 < 3)[:20]
    pictures = rows['image'][held] / np.float32(127.5) - 1
    pictures[1::2] = 0
    variables = {'captions': rows['caption'][held], 'pictures': pictures}

    def sample(variables, keys, condition):
        same = (condition['caption'][:, None] == variables['captions'][None]).all(-1)
        return jnp.where(same.any(1)[:, None, None, None], variables['pictures'][same.argmax(1)], jnp.nan)

    reconstruct = lambda variables, batch, keys: {'input': batch['x'], 'output': batch['x']}
    conditions = Conditions(words=len(source.vocabulary))
    subject = subject_of(config, variables, sample=sample, conditions=conditions, reconstruct=reconstruct)
    assert scenes.applies(subject)
    part = scenes.evaluate(subject)
    assert part.protocol == {'captions': 20, 'held_out_combinations': True}
    assert part.figures['scene_all_of_data'] == part.figures['scene_all_of_reconstructions'] >= 0.95
    assert part.figures['scene_kind'] == part.figures['scene_colour'] == 0.5 and part.figures['scene_all'] >= 0.45
    assert part.figures['scene_kind_by_chance'] < 0.2 and part.pictures['scenes'].ndim == 3
    assert not scenes.applies(subject_of(config, sample=sample))
    assert not scenes.applies(subject_of(digits(), reconstruct=reconstruct))

    # Of a model that paints nothing for most keys, the candidates with a picture have the higher likelihood.
    def drawn(variables, keys, condition):
        paints = jax.vmap(jax.random.uniform)(keys) < 0.3
        painted = jnp.where(paints[:, None, None, None], sample(variables, keys, condition), 0)
        return painted, paints.astype(float), jnp.zeros(len(keys))

    config.sample.update(candidates=16, score=named('likelihood'))
    lucky = lambda *given: drawn(*given)[0]
    best = scenes.evaluate(subject_of(config, variables, sample=lucky, conditions=conditions, with_likelihood=drawn))
    assert best.protocol['candidates'] == 16
    assert best.figures['scene_kind'] == best.figures['scene_colour'] == 0.5


def test_samples_of_points_are_compared_with_held_out_points():
    config = configs.defaults('x')
    config.data.update(source='toy', name='moons', observe='point', batch_size=64)
    config.sample.chunk = 1000

    def sample(variables, keys, condition):
        return jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)

    part = points.evaluate(subject_of(config, sample=sample))
    assert part.figures['sliced_wasserstein'] > 3 * part.figures['sliced_wasserstein_of_data'] > 0


def test_one_class_and_missing_anomalies_give_texts_instead_of_numbers(pca_model):
    variables, abilities = pca_model
    one = digits()
    one.data.leave_out = tuple(range(1, 10))  # as for anomaly detection trained on one class
    figures = codes.evaluate(subject_of(one, variables, **abilities)).figures
    assert figures['linear_probe'] == 'the training set has one class, and a probe needs two'
    assert np.isfinite(figures['nmi'])
    few = digits()
    few.data.leave_out, few.evaluate.count = (0,), 2
    labels = data.load(few.data, 'test').rows(np.arange(2))['label']
    few.data.leave_out = tuple({*range(10)} - {*labels.tolist()})[:1]
    figures = anomaly.evaluate(subject_of(few, variables, measure=abilities['measure'])).figures
    assert figures == {'anomaly_auroc': 'needs an anomaly and two others, there are 0 and 2'}


@pytest.fixture(scope='module')
def quick_classifier(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        train(patch, tmp_path_factory.mktemp('cache'), digits(), 100)
        yield


def real_digits(count, chosen=slice(None), **evaluate):
    """Evaluates a model that samples training images, or a subset of them."""
    config = digits()
    config.evaluate.update(count=count, **evaluate)
    config.sample.chunk = count
    rows = data.load(config.data).rows(np.arange(1500))
    images = (rows['image'][chosen(rows['label'])] if callable(chosen) else rows['image'][chosen]) / np.float32(
        127.5
    ) - 1

    def sample(variables, keys, condition):
        return variables['images'][jax.vmap(lambda key: jax.random.randint(key, (), 0, len(images)))(keys)]

    return quality.evaluate(subject_of(config, {'images': images}, sample=sample))


def test_real_images_have_high_quality_and_are_memorised(quick_classifier):
    part = real_digits(500)
    assert part.figures['precision'] == 1 and part.figures['memorised'] == 1 and part.figures['finite'] == 1
    assert part.figures['coverage'] > 0.6 and part.figures['class_divergence'] < 0.05
    assert part.protocol['reference'] == 'digits/train, 1,500' and part.protocol['features'] == 'classifier'
    assert part.figures['smallest_share'] > 0.05 and part.figures['inception_score'] > 3
    picture = part.pictures['nearest_neighbours']
    np.testing.assert_array_equal(picture[:8, :8], picture[:8, 16:24])  # the nearest to a copy is its original


def test_a_model_of_one_class_is_far_from_the_data(quick_classifier):
    one, all_of_them = real_digits(500, lambda label: label == 4), real_digits(500)
    assert one.figures['frechet_distance'] > 5 * all_of_them.figures['frechet_distance']
    assert one.figures['kernel_distance'] > 5 * abs(all_of_them.figures['kernel_distance'])
    assert one.figures['recall'] < 0.3 < all_of_them.figures['recall'] and one.figures['class_divergence'] > 2
    assert (
        one.figures['inception_score'] < 1.5
        and one.figures['birthday_support'] < all_of_them.figures['birthday_support']
    )


@pytest.mark.parametrize('held_out_labels', [False, True])
def test_the_asked_classes_are_those_of_the_samples(held_out_labels):
    config = digits()
    config.evaluate.update(count=50, seed=3)
    config.sample.update(chunk=20, condition=held_out_labels)
    fill = lambda variables, keys, condition: condition['label'][:, None, None, None] * jnp.ones((1, 8, 8, 1))
    subject = subject_of(config, sample=fill, conditions=Conditions(classes=10))
    np.testing.assert_array_equal(subject.samples[:, 0, 0, 0], subject.asked)
    labels = data.load(config.data, 'test').rows(np.arange(50))['label']
    assert np.array_equal(subject.asked, labels) == held_out_labels and subject.selected == {}
    assert subject_of(config, sample=fill).asked is None


@pytest.mark.parametrize('understood', [None, 4, 64])
def test_samples_are_compared_with_what_is_understood_of_their_condition(quick_classifier, understood):
    """The samples are the images that condition them, of which the model understands the first pixels, or all."""
    config = digits()
    config.data.limit = 300
    config.evaluate.count = config.sample.chunk = 64
    embed = lambda variables, condition: condition['image'].reshape(len(condition['image']), -1)[:, :understood]
    abilities = {} if understood is None else {'embed_condition': embed}
    copy = lambda variables, keys, condition: condition['image']
    part = quality.evaluate(subject_of(config, sample=copy, conditions=Conditions(fields=('image',)), **abilities))
    accuracy = part.figures['condition_accuracy']
    assert accuracy > 0.7
    if understood is None:
        assert not {'condition_probe', 'condition_kept'} & {*part.figures, *part.protocol}
        return
    rows = (data.load(config.data, split).rows(np.arange(count)) for split, count in (('train', 300), ('test', 64)))
    flat = [(row['image'].reshape(len(row['image']), -1)[:, :understood], row['label']) for row in rows]
    probe = part.figures['condition_probe']
    assert probe == pytest.approx(linear_probe(*flat[0], *flat[1]), abs=0.02)
    assert (probe > 0.8) == (understood == 64)
    assert part.figures['condition_kept'] == pytest.approx(accuracy / probe)
    assert part.protocol['condition_probe'] == 'linear, fitted to 300, on 64'


def test_too_few_samples_give_texts_instead_of_numbers(quick_classifier):
    figures = real_digits(64).figures
    assert figures['frechet_distance'] == 'needs at least 129 samples, there are 64'
    for name in ('kernel_distance', 'precision', 'coverage', 'memorised', 'birthday_support', 'inception_score'):
        assert figures[name].startswith('needs at least 100 samples'), name
    assert isinstance(figures['largest_share'], float)


def test_other_features_change_the_protocol(quick_classifier):
    pixels, random = (real_digits(200, features=name) for name in ('pixels', 'random'))
    assert pixels.protocol['features'] == 'pixels' and random.protocol['features'] == 'random'
    assert pixels.figures['frechet_distance'] != random.figures['frechet_distance']
    assert 'inception_score' not in random.figures and 'class_share' in random.figures


def test_likelihoods_are_computed_in_float32_on_accelerators(monkeypatch):
    def product():
        with held_out.precise():
            return str(jax.make_jaxpr(jnp.matmul)(jnp.ones((2, 2)), jnp.ones((2, 2))))

    assert 'HIGHEST' not in product()
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    assert 'HIGHEST' in product()
