"""Tests configs: defaults, variants, schedules, phases, differences, suggestions, and shrinking of every config."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from genlab import config as configs
from genlab.config import (
    check_key,
    decays,
    differences,
    half_life,
    lazy,
    periods,
    phases,
    ramp,
    schedule,
    small,
    vary,
    weights,
)
from genlab.errors import ConfigError
from genlab.training.optimizers import adam
from genlab.training.program import _check_values

FILES = sorted((pathlib.Path(__file__).parents[1] / 'configs').glob('*.py'))


def model(**train):
    config = configs.defaults('vae')
    config.model.update(width=64, latent_size=32, blocks=dict(features=(4, 256), depth=3))
    config.losses.model = dict(reconstruction=1.0, kl=0.5)
    config.optimizer.model = adam(1e-3)
    config.train.update(train)
    return config


def shape(config):
    """Returns the keys of a config at every depth."""
    return {key: shape(value) if isinstance(value, ConfigDict) else None for key, value in config.items()}


def module(path):
    spec = importlib.util.spec_from_file_location('config', path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def everything():
    """Returns (file, variant) of every config."""
    return [
        pytest.param(path, variant, id=f'{path.stem}-{variant}')
        for path in FILES
        for variant in ('', *getattr(module(path), 'VARIANTS', {}))
    ]


def test_defaults_are_new_each_time_typed_and_complete():
    config = configs.defaults('gan')
    config.data.batch_size = 3
    assert configs.defaults('gan').data.batch_size == 64
    assert config.experiment == 'gan' and config.train.on_nan == 'stop'
    with pytest.raises(TypeError):
        config.train.steps = 'many'
    with pytest.raises(TypeError):
        config.data.resolution = 3.5


def test_a_variant_changes_the_config_it_is_applied_to():
    def wide(config):
        config.model.width = 128

    assert vary(model(), 'wide', {'wide': wide}).model.width == 128
    assert vary(model(), '', {'wide': wide}).model.width == 64
    with pytest.raises(ConfigError, match=r"variant='wied': choose one of wide, deep \(did you mean wide\?\)"):
        vary(model(), 'wied', {'wide': wide, 'deep': wide})
    with pytest.raises(ConfigError, match='choose one of none'):
        vary(model(), 'wide', {})


def test_a_ramp_is_plain_values_and_linear_between_constant_ends():
    value = ramp(2, 1, 4, begin=3)
    assert value.to_dict() == {'start': 2.0, 'end': 1.0, 'steps': 4, 'begin': 3}
    at = jax.jit(schedule(value))
    expected = [2, 2, 2, 2, 1.75, 1.5, 1.25, 1, 1]
    np.testing.assert_allclose([at(jnp.int32(step)) for step in range(9)], expected, rtol=1e-6)
    assert schedule(0.25) == 0.25
    np.testing.assert_allclose([schedule(ramp(0, 1, begin=2), 4)(step) for step in range(6)], [0, 0, 0, 0.5, 1, 1])


def test_variants_compose_in_order_and_apply_once():
    def wide(config):
        config.model.width = 128

    def wider(config):
        config.model.width *= 2

    def square(config):
        config.model.latent_shape.x = 1

    known = configs.variants(wide, wider, square)
    assert vary(model(), 'wide,wider', known).model.width == 256
    assert vary(model(), 'wider,wide', known).model.width == 128
    with pytest.raises(ConfigError, match='wide is named twice'):
        vary(model(), 'wide,wider,wide', known)
    with pytest.raises(ConfigError, match='square does not fit wide'):
        vary(model(), 'wide,square', known)


def test_a_run_has_one_length_and_each_player_one_turn_by_default():
    config = model(steps=10)
    config.losses.model.kl = ramp(0, 1)
    assert float(weights(config, 'model')['kl'](5)) == 0.5
    config.train.steps = 20
    assert float(weights(config, 'model')['kl'](5)) == 0.25
    config.losses.other = dict(kl=1.0)
    assert configs.order(config) == ('model', 'other')
    config.train.update(order=('other',), evaluate_every='end')
    assert configs.order(config) == ('other',)
    assert config.to_dict()['train']['evaluate_every'] == 'end' and small(config).train.evaluate_every == 0


def test_weights_are_numbers_or_schedules_and_nothing_else():
    config = model()
    config.losses.model.kl = ramp(0, 1, 10)
    found = weights(config, 'model')
    assert found['reconstruction'] == 1.0 and float(found['kl'](5)) == 0.5
    config.losses.model.kl = 'much'
    with pytest.raises(ConfigError, match=r"config\.losses\.model\.kl='much'"):
        weights(config, 'model')


def test_without_phases_one_phase_lasts_to_the_end():
    config = model(steps=70)
    (phase,) = phases(config)
    assert (phase.start, phase.end, phase.restart) == (0, 70, ())
    assert phase.config.to_dict() == config.to_dict() and phase.config is not config


def test_each_phase_overrides_the_config_itself():
    config = model(steps=100)
    config.phases = (
        {'until': 30, 'losses.model.kl': 0.0, 'data.batch_size': 8},
        {'until': 60, 'train.microbatches': 2},
        {'losses.model.kl': ramp(0, 1, 10), 'optimizer.model.learning_rate': 1e-4},
    )
    config.lock()
    starts, ends, over, _ = zip(*phases(config))
    assert starts == (0, 30, 60) and ends == (30, 60, 100)
    assert [phase.losses.model.kl for phase in over[:2]] == [0.0, 0.5] and over[2].losses.model.kl.end == 1
    assert [phase.data.batch_size for phase in over] == [8, 64, 64]
    assert [phase.train.microbatches for phase in over] == [1, 2, 1]
    assert [phase.optimizer.model.learning_rate for phase in over] == [1e-3, 1e-3, 1e-4]
    assert config.losses.model.kl == 0.5 and config.data.batch_size == 64
    config.train.steps = 40
    assert [phase.end for phase in phases(config)] == [30, 40, 40]


@pytest.mark.parametrize('ends', [(50,), (30, 30, None), (60, 30, None), (None, None), (None, 50)])
def test_phases_that_end_early_or_never_start_are_refused(ends):
    config = model(steps=100)
    config.phases = tuple({} if end is None else {'until': end} for end in ends)
    with pytest.raises(ConfigError, match='config.phases: until='):
        list(phases(config))


@pytest.mark.parametrize(
    'given',
    [5, {'until': 50}, (1, {}), ('abc', {}), ({5: 3}, {}), *(({'until': until}, {}) for until in ('x', 2.5, 0, -3))],
)
def test_phases_of_another_form_are_refused(given):
    config = model(steps=100)
    with config.ignore_type():
        config.phases = given
    with pytest.raises(ConfigError, match=r'(?s)^config.phases.*give'):
        list(phases(config))


def test_a_value_of_another_type_is_refused_in_a_phase():
    config = model(steps=100)
    config.phases = ({'until': 50, 'data.batch_size': 'many'}, {})
    with pytest.raises(ConfigError, match=r"config.data.batch_size='many': its type is int"):
        list(phases(config))
    config.phases = ({'until': 50}, {'restart': 'model'})
    with pytest.raises(ConfigError, match=r"restart='model': give a tuple of players"):
        list(phases(config))


@pytest.mark.parametrize(
    'key, value, hint',
    [
        ('seed', 2**32, 'give a number below 4294967296'),
        ('model.dtype', "'", 'choose one of float32, bfloat16, float16'),
        ('model.latent_size', 0, 'give whole numbers, at least 1'),
        ('model.blocks.features', (4, -1), 'give whole numbers, at least 1'),
        ('evaluate.maps', ('abc',), 'choose one of pca, tsne, umap'),
        ('evaluate.parts', ('abc',), 'choose one of quality'),
        ('evaluate.features', 'abc', 'choose one of auto'),
        ('evaluate.reference', 'abc', 'choose one of train, test'),
        ('train.sample_every', -5, "give a number of steps, 'end', or 0"),
        ('train.evaluate_every', 'ende', "give a number of steps, 'end', or 0"),
        ('explore.reach', -1.0, 'give a number above 0'),
        ('losses.model', 5, 'give names and values'),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_at_the_start(key, value, hint):
    config = model()
    with config.ignore_type():
        configs.put(config, key, value)
    with pytest.raises(ConfigError, match=rf'^config.{key}=.*{hint}'):
        _check_values(config)


@pytest.mark.parametrize('value', [1.5, -0.1, float('nan'), 'x', half_life(0), half_life(-3), ramp(0, 1)])
def test_a_decay_that_cannot_be_meant_is_refused(value):
    config = model()
    config.average.model = value
    with pytest.raises(ConfigError, match=r'(?s)^config.average.model.*give'):
        decays(config)


@pytest.mark.parametrize('value', [half_life(3), ramp(0, 1, -3), ramp(0, 1, begin=-1)])
def test_a_weight_that_is_no_ramp_is_refused(value):
    config = model()
    config.losses.model.kl = value
    with pytest.raises(ConfigError, match=r'^config.losses.model.kl.*give'):
        weights(config, 'model')


@pytest.mark.parametrize('key', ['seed', 'placement', 'train.steps', 'train.on_nan', 'checkpoint.keep', 'experiment'])
def test_a_key_of_the_whole_run_is_refused_in_a_phase(key):
    config = model(steps=100)
    config.phases = ({'until': 50, key: 1}, {})
    with pytest.raises(ConfigError, match=f'^config.phases: config.{key} holds for the whole run: set it outside'):
        list(phases(config))


def test_optimizers_that_restart_belong_to_players():
    config = model(steps=100)
    config.phases = ({'until': 50}, {'restart': ('model',)})
    assert [phase.restart for phase in phases(config)] == [(), ('model',)]
    config.phases = ({'restart': ('modell',)},)
    with pytest.raises(ConfigError, match=r"config.phases: restart='modell': choose one of model \(did you mean model"):
        list(phases(config))


def test_a_lazy_weight_is_multiplied_by_its_period():
    config = model(steps=100)
    config.losses.model.kl = lazy(0.5, every=16)
    assert weights(config, 'model')['kl'] == 8 and periods(config) == {'model/kl': 16}
    config.losses.model.kl = lazy(ramp(0, 1, 10), every=4)
    assert weights(config, 'model')['kl'](5) == 2
    assert small(config).losses.model.kl.every == 2
    config.losses.model.kl.every = 0
    with pytest.raises(ConfigError, match=r'config.losses.model.kl.every=0: give a number of steps, at least 1'):
        weights(config, 'model')


def test_a_half_life_counts_the_images_that_replace_half_of_an_average():
    config = model(steps=100)
    config.data.batch_size = 50
    config.average.model = half_life(1000)
    assert decays(config)['model'](7) ** 20 == pytest.approx(0.5)
    config.average.model = half_life(1000, rampup=0.1)
    decay = decays(config)['model']
    assert decay(0) == 0 and decay(20) == pytest.approx(0.5 ** (50 / 100)) and decay(500) ** 20 == pytest.approx(0.5)
    config.average.model = 0.9
    assert decays(config) == {'model': 0.9}


def test_an_unknown_key_of_a_phase_is_named_with_a_suggestion():
    config = model(steps=10)
    config.phases = ({'losses.model.kll': 0.0},)
    with pytest.raises(
        ConfigError,
        match=r'^config\.phases: unknown key config\.losses\.model\.kll: did you mean '
        r'config\.losses\.model\.kl\?',
    ):
        list(phases(config))


@pytest.mark.parametrize(
    'key, hint',
    [
        ('train.stpes', 'did you mean config.train.steps?'),
        ('trian.steps', 'did you mean config.train?'),
        ('losses.modle.kl', 'did you mean config.losses.model?'),
        ('seed.x', 'config.seed has no keys'),
        ('checkpoint.zzz', 'config.checkpoint has best, every, keep'),
    ],
)
def test_an_unknown_key_raises_with_a_suggestion_or_the_known_keys(key, hint):
    with pytest.raises(ConfigError) as error:
        check_key(model(), key)
    assert str(error.value) == f'unknown key config.{key}: {hint}'


def test_known_keys_pass_at_every_depth():
    for key in ('seed', 'train', 'train.steps', 'model.blocks.depth', 'losses.model.kl'):
        check_key(model(), key)


def test_differences_are_dotted_keys_below_those_that_are_ignored():
    old = {'a': 1, 'b': {'c': 1, 'd': {'e': [1, 2]}}, 'only_old': None, 'f': {'g': 1}}
    new = {'a': 1, 'b': {'c': 2, 'd': {'e': [1, 3]}}, 'only_new': 0, 'f': 1}
    assert differences(old, new) == ['b.c', 'b.d.e', 'f', 'only_new', 'only_old']
    assert differences(old, new, ignore=('b.c', 'f', 'only_new', 'only_old')) == ['b.d.e']
    assert differences(old, new, ignore=('b',)) == ['f', 'only_new', 'only_old']
    assert differences(old, new, ignore=('c', 'd.e')) == ['b.c', 'b.d.e', 'f', 'only_new', 'only_old']
    assert differences(old, old) == []


def test_small_caps_sizes_and_leaves_the_rest_of_the_model():
    config = model(steps_per_call=50, microbatches=8)
    config.data.update(source='tfds', name='cifar10', channels=3, flip=True)
    shrunk = small(config)
    assert shrunk.model.to_dict() == {
        'dtype': 'float32',
        'width': 8,
        'latent_size': 8,
        'blocks': {'features': (4, 16), 'depth': 2},
    }
    assert (shrunk.data.source, shrunk.data.resolution, shrunk.data.batch_size) == ('digits', 16, 8)
    assert shrunk.data.channels == 3 and shrunk.data.flip and shrunk.losses == config.losses
    assert (shrunk.train.steps, shrunk.train.steps_per_call, shrunk.train.microbatches) == (4, 2, 2)
    assert config.model.width == 64 and config.data.source == 'tfds'
    config.data.source = 'toy'
    assert small(config).data.source == 'toy'


def test_small_leaves_the_number_of_classes_to_the_data_that_it_puts_in():
    config = model()
    config.model.update(classes=configs.counted(1000), words=0, blocks=dict(classes=5))
    assert small(config).model.classes == 1000  # the data stay
    config.data.source = 'folder'
    shrunk = small(config)
    assert (shrunk.model.classes, shrunk.model.words, shrunk.model.blocks.classes) == ('auto', 0, 'auto')
    config.model.classes = 'auto'
    config.model.classes = 3
    assert config.model.classes == 3


def test_small_keeps_the_slope_of_a_ramp_that_lasts_to_the_end():
    config = model(steps=9000)
    config.optimizer.model = adam(ramp(1e-3, 0.0))
    shrunk = small(config)
    assert shrunk.optimizer.model.learning_rate.steps == 9000 and config.optimizer.model.learning_rate.steps == 0
    config.optimizer.model = adam(ramp(1e-3, 0.0, 50))
    assert small(config).optimizer.model.learning_rate.steps == 50


def test_small_gives_every_phase_two_steps():
    config = model(steps=9000)
    config.phases = ({'until': 3000, 'losses.model.kl': 0.0}, {'until': 6000}, {'data.batch_size': 8})
    _, ends, over, _ = zip(*phases(small(config)))
    assert ends == (2, 4, 6) and over[0].losses.model.kl == 0


@pytest.mark.parametrize('path, variant', everything())
def test_small_shrinks_every_config_and_keeps_its_structure(path, variant):
    config = module(path).get_config(variant)
    shrunk = small(config)
    assert shape(shrunk) == shape(config)
    assert shrunk.data.source in (
        'digits',
        'toy',
        'faithful',
        'bars',
        'scenes',
        'stacked',
        'sequences',
        'codes',
        'speech',
    )
    assert shrunk.train.steps <= 2 * max(2, len(config.phases))
    assert shrunk.experiment == config.experiment and {*shrunk.train.order} == {*config.train.order}
    assert {name: {*terms} for name, terms in shrunk.losses.items()} == {
        name: {*terms} for name, terms in config.losses.items()
    }
    for phase in phases(shrunk):
        assert phase.end % phase.config.train.steps_per_call == 0 and phase.config.data.batch_size == 8
    with pytest.raises(ConfigError, match='variant=.*choose one of'):
        module(path).get_config('no-such-variant')


def test_small_lets_a_term_that_sets_in_late_set_in_at_once():
    config = model(steps=9000)
    config.losses.model.kl = ramp(0, 1, 1, begin=500)
    assert small(config).losses.model.kl.begin == 1 and config.losses.model.kl.begin == 500
