"""Tests CycleGAN: its pool against a plain one, its terms by closed forms, and the direction of samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import cyclegan as config_file
from genlab import experiment
from genlab.choices import named
from genlab.config import schedule, small
from genlab.errors import ConfigError
from genlab.losses.adversarial import PAIRS
from genlab.models import cycle, translation
from genlab.networks.layers.convolution import Conv
from genlab.networks.layers.normalization import InstanceNorm
from genlab.noise import uniform
from genlab.training.state import initialize
from support.runs import Trained, with_sgd

SHAPE = (2, 2, 1)
PLACES, BATCH, BATCHES = 5, 4, 6


def keys_of(number):
    return jax.random.split(jax.random.key(number), BATCH)


def fakes_of(number):
    """Returns recognisable images of both directions: all pixels of one have the same number."""
    first = 1 + number * BATCH + np.arange(BATCH, dtype=np.float32)
    images = np.broadcast_to(first[:, None, None, None], (BATCH, *SHAPE))
    return {'forward': images, 'back': -images}


class PlainPool:
    """The pool of Shrivastava et al. 2017, one image after another."""

    def __init__(self, size):
        self.size, self.images = size, []

    def query(self, images, draws):
        shown = []
        for image, (whether, place) in zip(images, draws):
            if len(self.images) < self.size:
                self.images.append(image)
                shown.append(image)
            elif whether >= 0.5:
                place = int(place * self.size)
                shown.append(self.images[place])
                self.images[place] = image
            else:
                shown.append(image)
        return np.stack(shown)


@pytest.fixture(scope='module')
def pooled():
    """Returns what the pool of one device shows in each batch, and its variables at the end."""
    pool = cycle.Pool(PLACES)
    variables = pool.init(jax.random.key(0), fakes_of(0), keys_of(0), False)
    run = jax.jit(lambda variables, fakes, keys: pool.apply(variables, fakes, keys, True, mutable=['pool']))
    shown = []
    for number in range(BATCHES):
        seen, variables = run(variables, fakes_of(number), keys_of(number))
        shown.append(jax.device_get(seen))
    return shown, jax.device_get(variables)


def test_the_pool_is_that_of_a_loop(pooled):
    shown, variables = pooled
    for name in ('forward', 'back'):
        plain = PlainPool(PLACES)
        for number in range(BATCHES):
            draws = np.asarray(uniform(keys_of(number), (2,), f'pool {name}'))
            np.testing.assert_array_equal(shown[number][name], plain.query(fakes_of(number)[name], draws))
        np.testing.assert_array_equal(variables['pool'][name], np.stack(plain.images))
    assert variables['pool']['count'] == PLACES
    old = [shown[number]['forward'] != fakes_of(number)['forward'] for number in range(BATCHES)]
    assert 3 <= sum(part.any((1, 2, 3)).sum() for part in old) <= BATCH * BATCHES - PLACES - 3


def test_the_pool_of_several_devices_is_that_of_one(pooled):
    shown, variables = pooled
    pool = cycle.Pool(PLACES, 'devices')
    apply = lambda variables, fakes, keys: pool.apply(variables, fakes, keys, True, mutable=['pool'])
    run = jax.jit(jax.vmap(apply, (0, 0, 0), axis_name='devices'))
    split = lambda leaf: leaf.reshape(2, BATCH // 2, *leaf.shape[1:])
    held = {'pool': jax.tree.map(lambda leaf: jnp.zeros((2, *leaf.shape), leaf.dtype), variables['pool'])}
    for number in range(BATCHES):
        seen, held = run(held, jax.tree.map(split, fakes_of(number)), split(keys_of(number)))
        for name, images in seen.items():
            np.testing.assert_array_equal(images.reshape(BATCH, *SHAPE), shown[number][name])
    for found, expected in zip(*map(jax.tree.leaves, (held, variables))):
        np.testing.assert_array_equal(found, np.stack([expected] * 2))


class Tiny(nn.Module):
    """A generator of one convolution, which compiles fast."""

    @nn.compact
    def __call__(self, images, train, keys=None):
        x = Conv(images.shape[-1], (3, 3), padding='REFLECT', name='convolution')(images)
        return nn.tanh(InstanceNorm(name='normalization')(x))


def test_four_devices_agree_with_one(monkeypatch):
    """Trains three calls: after the first the pool is full, so discriminators meet fakes of other devices."""
    monkeypatch.setitem(translation.GENERATORS, 'tiny', lambda config, axis: Tiny())
    config = with_sgd(small(config_file.get_config('instance')), 0.01, clip=1.0)
    config.model.generator = named('tiny')
    config.model.update(pool=PLACES)
    devices = jax.devices()
    runs = [Trained(config, 'pmap', devices[:1]), Trained(config, 'pmap')]
    one, four = [jax.device_get(run.run((run.start, run.zero), 0, 3)) for run in runs]
    assert one[0].stats['pool']['pool']['count'] == PLACES
    for (where, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(four)):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5, err_msg=jax.tree_util.keystr(where))


class Shift(nn.Module):
    """Adds a number to images."""

    start: float

    @nn.compact
    def __call__(self, images, train, keys=None):
        return images + self.param('shift', lambda key: jnp.float32(self.start))


class Scale(nn.Module):
    """Takes the pixels of images times a number as logits of patches."""

    start: float

    @nn.compact
    def __call__(self, images, train):
        return images[..., 0] * self.param('scale', lambda key: jnp.float32(self.start))


SHIFTS, SCALES = {'forward': 0.5, 'back': -0.2}, {'forward': 2.0, 'back': 3.0}
BATCH_OF_IMAGES = {
    'style': np.full((BATCH, *SHAPE), 0.25, np.float32),
    'x': np.full((BATCH, *SHAPE), -1.0, np.float32),
}


def model_of(direction='forward'):
    modules = [
        {name: kind(start) for name, start in given.items()} for kind, given in ((Shift, SHIFTS), (Scale, SCALES))
    ]
    return cycle.CycleGAN(*modules, cycle.Pool(0), PAIRS['least_squares'], 'style', 'image', direction)


@functools.cache
def variables_of():
    return initialize(cycle.networks(model_of(), BATCH_OF_IMAGES), jax.random.key(0))


def test_the_terms_of_generators_that_shift():
    terms, _ = cycle.generator_terms(model_of(), variables_of(), BATCH_OF_IMAGES, keys_of(0), 0)
    found = {name: np.asarray(term()) for name, term in terms.items()}
    expected = {
        'adversarial_forward': (2 * (0.25 + 0.5) - 1) ** 2 / 2,
        'adversarial_back': (3 * (-1 - 0.2) - 1) ** 2 / 2,
        'cycle_forward': 0.3,
        'cycle_back': 0.3,
        'identity_forward': 0.5,
        'identity_back': 0.2,
    }
    assert {*found} == {*expected}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], np.full(BATCH, value), rtol=1e-6, err_msg=name)


def test_each_discriminator_compares_what_its_generator_makes_with_that_domain():
    terms, new = cycle.discriminator_terms(model_of(), variables_of(), BATCH_OF_IMAGES, keys_of(0), 0)
    forward = ((2 * -1 - 1) ** 2 + (2 * 0.75) ** 2) / 2
    back = ((3 * 0.25 - 1) ** 2 + (3 * -1.2) ** 2) / 2
    np.testing.assert_allclose(terms['adversarial_forward'], np.full(BATCH, forward), rtol=1e-6)
    np.testing.assert_allclose(terms['adversarial_back'], np.full(BATCH, back), rtol=1e-6)
    np.testing.assert_allclose(terms['logit_gap_forward'], np.full(BATCH, 2 * (-1 - 0.75)), rtol=1e-6)
    assert {*new} == {'discriminator_forward', 'discriminator_back'}


@pytest.mark.parametrize('direction, field, expected', [('forward', 'style', 0.75), ('back', 'image', -1.2)])
def test_samples_go_in_the_direction_that_is_asked_for(direction, field, expected):
    model, condition = model_of(direction), {'style': BATCH_OF_IMAGES['style'], 'image': BATCH_OF_IMAGES['x']}
    assert model.condition == field
    samples = cycle.sample(model, variables_of(), keys_of(0), {field: condition[field]})
    np.testing.assert_allclose(samples, np.full((BATCH, *SHAPE), expected), rtol=1e-6)


def test_both_cycles_are_measured_and_targets_are_reconstructed():
    measured = cycle.measure(model_of(), variables_of(), BATCH_OF_IMAGES, keys_of(0))
    assert {*measured} == {'cycle_forward', 'cycle_back'}
    np.testing.assert_allclose(list(measured.values()), np.full((2, BATCH), 0.3), rtol=1e-6)
    found = cycle.reconstruct(model_of(), variables_of(), BATCH_OF_IMAGES, keys_of(0))
    np.testing.assert_allclose(found['output'], found['input'] + 0.3, rtol=1e-6)


def test_a_condition_is_the_field_of_the_direction():
    config = small(config_file.get_config())
    build = experiment.load('cycle')
    assert build(config).conditions.fields == ('style',)
    config.sample.direction = 'back'
    assert build(config).conditions.fields == ('image',)
    config.sample.direction = 'sideways'
    with pytest.raises(ConfigError, match='config.sample.direction=.*choose one of forward, back'):
        build(config)


def test_a_map_of_classes_is_refused():
    for field in (np.zeros((BATCH, *SHAPE), np.int32), np.zeros((BATCH, 2, 2, 3), np.float32)):
        with pytest.raises(ConfigError, match='input=.style.: CycleGAN translates images of 1 channels both ways'):
            cycle.networks(model_of(), BATCH_OF_IMAGES | {'style': field})


def test_the_published_sizes_and_the_decay_of_the_rate():
    config = config_file.get_config('horse2zebra')
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    state = jax.eval_shape(experiment.load('cycle')(config).init, {'x': image, 'input': image}, jax.random.key(0))
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in state.params.items()}
    assert sizes == {
        'forward': 11_378_179,
        'back': 11_378_179,
        'discriminator_forward': 2_764_737,
        'discriminator_back': 2_764_737,
        'pool': 0,
    }
    assert state.stats['pool']['pool']['forward'].shape == (50, 256, 256, 3)
    rate = schedule(config.optimizer.generator.learning_rate, config.train.steps)
    half = config.train.steps // 2
    np.testing.assert_allclose(
        [rate(0), rate(half), rate(1.5 * half), rate(2 * half)], [2e-4, 2e-4, 1e-4, 0], rtol=1e-6
    )
