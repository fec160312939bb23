"""Tests images from speech: batches of several devices, which network each player moves, and mismatched pairs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import speech2image as config_file
from genlab import config as configs
from genlab import experiment
from genlab.config import small
from genlab.errors import ConfigError
from genlab.models import spoken
from genlab.training import state

build = experiment.load('spoken')
RANDOM = np.random.default_rng(0)
LABELS = np.array([0, 1, 0, 2, 1, 1, 1, 0], np.int32)
BATCH = {
    'x': RANDOM.uniform(-1, 1, (8, 16, 16, 1)).astype(np.float32),
    'speech': RANDOM.normal(size=(8, 7, 5)).astype(np.float32),
    'speech_length': np.array([7, 3, 5, 7, 1, 2, 6, 4], np.int32),
    'label': LABELS,
    'position': np.arange(8, dtype=np.int32),
}
KEYS = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(8))


def config_of(resolution=16, stages=2):
    config = small(config_file.get_config())
    config.data.resolution = resolution
    with config.ignore_type():  # a number in place of 'auto'
        config.model.classes = 3
    config.model.update(embedding_size=6, condition_size=3, latent_size=4, stages=stages)
    config.model.speech.update(width=4, layers=1, features=4)
    config.model.generator.width = config.model.discriminator.width = config.model.teacher.width = 2
    return config


def filled(config, batch):
    """Returns variables without zeros; running variances are positive."""
    networks = functools.partial(spoken.networks, spoken.from_config(config, None))
    shapes = jax.eval_shape(lambda: state.initialize(networks(batch), jax.random.key(0)))
    return jax.tree.map(lambda leaf: jnp.array(RANDOM.uniform(0.1, 0.9, leaf.shape), leaf.dtype), shapes)


def values_of(axis, variables, batch, keys):
    """Returns all terms of the players whose terms compare examples, and the new collections."""
    model, step = spoken.from_config(config_of(), axis), jnp.zeros((), jnp.int32)
    return {
        name: getattr(spoken, f'{name}_terms')(model, variables, batch, keys, step)
        for name in ('speech', 'discriminator')
    }


def test_four_devices_compare_the_examples_of_the_whole_batch():
    variables = filled(config_of(), BATCH)
    one = jax.jit(functools.partial(values_of, None))(variables, BATCH, KEYS)
    split = lambda leaf: leaf.reshape(4, 2, *leaf.shape[1:])
    four = jax.pmap(functools.partial(values_of, 'batch'), 'batch', in_axes=(None, 0, 0))(
        variables, *jax.tree.map(split, (BATCH, KEYS))
    )
    for name, (terms, new) in four.items():
        for term, value in terms.items():
            np.testing.assert_allclose(value.reshape(8), one[name][0][term], rtol=2e-4, atol=1e-5, err_msg=term)
        for path, leaf in jax.tree.leaves_with_path(new):  # batch statistics
            assert np.ptp(np.asarray(leaf), axis=0).max() < 1e-5, path
    assert np.asarray(one['speech'][0]['triplet']).max() > 0


def test_a_mismatched_condition_is_of_the_next_example_of_another_class():
    model = spoken.from_config(config_of(), None)
    own = jnp.arange(8.0)[:, None]
    found = jax.jit(functools.partial(spoken._mismatched, model))
    other, exists = found(own, LABELS)
    assert other[:, 0].tolist() == [1, 2, 3, 4, 7, 7, 7, 1] and exists.all()
    assert not found(own, np.zeros(8, np.int32))[1].any()


def test_each_player_moves_its_own_networks_and_the_embedding_is_fixed():
    """By gradients of each player's terms with respect to all networks: no other network has one, but the judge."""
    config, batch = config_of(8, stages=1), {**BATCH, 'x': BATCH['x'][:, ::2, ::2]}
    model, variables = spoken.from_config(config, None), filled(config, batch)
    batch = jax.tree.map(jnp.asarray, batch)
    params = {name: tree['params'] for name, tree in variables.items()}

    players = ('teacher', 'speech', 'discriminator', 'generator')

    def total(params, player):
        moved = {name: {**variables[name], 'params': params[name]} for name in params}
        terms, _ = getattr(spoken, f'{player}_terms')(model, moved, batch, KEYS, jnp.zeros((), jnp.int32))
        return sum(value.mean() for value in terms.values())

    slopes = jax.jit(lambda params: {player: jax.grad(total)(params, player) for player in players})(params)
    reached = {
        player: {name for name, tree in slope.items() if any(map(np.any, jax.tree.leaves(tree)))}
        for player, slope in jax.device_get(slopes).items()
    }
    assert reached == {
        'teacher': {'teacher'},
        'speech': {'speech'},
        'discriminator': {'discriminator_0'},
        'generator': {'generator', 'discriminator_0'},
    }


def test_the_published_sizes():
    """Those of discriminators are counted by hand: a part that all have, and more convolutions per doubling."""
    config = config_file.get_config('paper')
    with config.ignore_type():
        config.model.classes = 200
    shape = lambda *sizes: jax.ShapeDtypeStruct(sizes, jnp.float32)
    batch = {'x': shape(2, 256, 256, 3), 'speech': shape(2, 80, 40), 'speech_length': jnp.ones(2, jnp.int32)}
    networks = functools.partial(spoken.networks, spoken.from_config(config, None))
    shapes = jax.eval_shape(lambda batch: state.initialize(networks(batch), jax.random.key(0)), batch)
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(tree['params'])) for name, tree in shapes.items()}
    halving = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512) + 2 * (128 + 256 + 512)
    common = halving + 9 * (512 + 128) * 512 + 2 * 512 + 2 * (16 * 512 + 1)
    at_128 = 16 * 512 * 1024 + 2 * 1024 + 9 * 1024 * 512 + 2 * 512
    at_256 = at_128 + 16 * 1024 * 2048 + 2 * 2048 + 9 * 2048 * 1024 + 2 * 1024
    assert counts['generator'] == 21_239_696
    assert [counts[f'discriminator_{stage}'] for stage in range(3)] == [common, common + at_128, common + at_256]


def test_what_does_not_fit_is_refused():
    config = config_of()
    config.model.stages = 3
    with pytest.raises(ConfigError, match='config.model.stages=3, config.data.resolution=16: .*take fewer'):
        build(config)
    config.model.stages = 2
    with config.ignore_type():
        config.model.classes = 0
    with pytest.raises(ConfigError, match='the teacher learns classes: label the data'):
        build(config)


def test_the_phases_train_the_encoders_first():
    first, second = configs.phases(config_file.get_config())
    assert configs.order(first.config) == ('teacher', 'speech') and first.end == second.start == config_file.ALIGNED
    assert configs.order(second.config) == ('discriminator', 'generator')
