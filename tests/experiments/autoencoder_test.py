"""Tests the autoencoder experiment: greedy blocks on frozen ones, corruption in training only, linear solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from genlab import experiment
from genlab.choices import named
from genlab.config import phases, small
from genlab.errors import ConfigError
from genlab.noise import stream
from genlab.sampling import drawing
from genlab.training import parallel
from genlab.training.players import example_keys
from genlab.training.program import make_init, metric_names, programs
from support.runs import FILES, module_of

CONFIGS = {path.stem: module_of(path) for path in FILES}


def built(config):
    """Returns (experiment, state, eight held-out examples, their keys)."""
    model, batch = experiment.load('autoencoder')(config), drawing.examples(config)(np.arange(8))
    return model, jax.jit(model.init)(batch, jax.random.key(0)), batch, drawing.keys(0, 0, 8)


@pytest.fixture(scope='module')
def stacked():
    """Returns a config with two greedy phases and fine-tuning."""
    config = small(CONFIGS['stacked_ae'].get_config())
    config.model.networks.features = (12, 6)
    CONFIGS['stacked_ae'].schedule(config, greedy=2, together=4, rate=1e-3)
    return config


def test_a_greedy_phase_trains_one_block_on_frozen_ones(stacked):
    _, state, batch, _ = built(stacked)
    batches = jax.tree.map(lambda leaf: leaf[None], batch)
    for number, (_, _, phase, _) in enumerate(phases(stacked)):
        step = jax.jit(experiment.load('autoencoder')(phase).step)
        after, metrics = step(state, batches, jax.random.key(0))
        moved = {
            name
            for name in state.params
            if any(
                not np.array_equal(a, b)
                for a, b in zip(jax.tree.leaves(state.params[name]), jax.tree.leaves(after.params[name]))
            )
        }
        assert moved == ({f'block_{number + 1}'} if number < 2 else {*state.params})
        assert {name.split('/')[0] for name in metrics} == {f'block_{number + 1}' if number < 2 else 'autoencoder'}


def test_a_block_learns_from_clean_codes_below_and_corrupts_its_own_input(stacked):
    """Computes the error of block 2 by hand: corrupted codes of block 1 in, clean ones as the target."""
    config = stacked.copy_and_resolve_references()
    config.model.corruption = named('masking', amount=0.5)
    config.train.order = ('block_2',)
    config.phases = ()
    model, state, batch, _ = built(config)
    _, metrics = jax.jit(model.step)(state, jax.tree.map(lambda leaf: leaf[None], batch), jax.random.key(3))
    keys = example_keys(jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 0), 0), batch['position'])
    keys = stream(keys, 'corruption')
    lower, upper = (dict(state.params[name]) for name in ('block_1', 'block_2'))

    def layer(x, params):
        return x @ np.asarray(params['kernel'], np.float64) + np.asarray(params['bias'])

    clean = expit(layer(np.asarray(batch['x']).reshape(8, -1), lower['encoder_0']))
    masked = np.where(jax.vmap(lambda key: jax.random.bernoulli(key, 0.5, (12,)))(keys), 0, clean)
    output = expit(layer(layer(masked, upper['encoder_0']), upper['decoder_0']))  # the top code is linear
    expected = np.square(output - clean).sum(1).mean()
    np.testing.assert_allclose(metrics['block_2/squared_error'], expected, rtol=1e-5)


def test_a_stack_of_blocks_equals_the_deep_autoencoder(stacked):
    """Checks that the same kernels encode and reconstruct equally as blocks and as one network."""
    model, state, batch, keys = built(stacked)
    config = stacked.copy_and_resolve_references()
    config.model.greedy, config.phases = False, ()
    for player in state.params:  # the players of the blocks
        del config.losses[player], config.optimizer[player]
    deep, whole, _, _ = built(config)
    params = {}
    for number in range(2):
        block = state.params[f'block_{number + 1}']
        params |= {f'encoder_{number}': block['encoder_0'], f'decoder_{1 - number}': block['decoder_0']}
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, whole.params['block_1'])
    variables = {'block_1': {'params': params}}
    np.testing.assert_allclose(
        model.codec.encode(state.variables(), batch), deep.codec.encode(variables, batch), atol=1e-6
    )
    for name, values in model.reconstruct(state.variables(), batch, keys).items():
        np.testing.assert_allclose(values, deep.reconstruct(variables, batch, keys)[name], atol=1e-6)


def test_encode_and_decode_use_the_blocks_of_the_phase(stacked):
    model, state, batch, _ = built(stacked)
    for (_, _, phase, _), size in zip(phases(stacked), (12, 6, 6)):
        made = experiment.load('autoencoder')(phase)
        codes = made.codec.encode(state.variables(), batch)
        assert codes.shape == (8, size) and made.codec.decode(state.variables(), codes).shape == batch['x'].shape


def test_codes_and_measures_are_of_clean_images_and_reconstructions_of_corrupted_ones():
    config = small(CONFIGS['denoising_ae'].get_config())
    model, state, batch, keys = built(config)
    measure, reconstruct = jax.jit(model.measure), jax.jit(model.reconstruct)
    clean, others = (measure(state.variables(), batch, keys) for keys in (keys, keys[::-1]))
    np.testing.assert_array_equal(clean['squared_error'], others['squared_error'])
    codes = model.codec.encode(state.variables(), batch)
    error = np.square((model.codec.decode(state.variables(), codes) - batch['x']) / 2).sum(
        (1, 2, 3)
    )  # of images in [0, 1]
    np.testing.assert_allclose(clean['squared_error'], error, rtol=1e-5)
    seen = reconstruct(state.variables(), batch, keys)
    np.testing.assert_allclose((seen['input'] - batch['x']).std(), 1.0, rtol=0.05)
    again = reconstruct(state.variables(), batch, keys[::-1])
    assert not np.allclose(again['output'], seen['output'])
    config.model.corruption = named('none')
    np.testing.assert_array_equal(
        experiment.load('autoencoder')(config).reconstruct(state.variables(), batch, keys)['input'], batch['x']
    )


def test_every_term_is_offered_and_some_need_sigmoids():
    terms = dict.fromkeys(
        ('squared_error', 'absolute_error', 'cross_entropy', 'nested', 'isometry', 'l1', 'sparsity'), 0.1
    )

    def names(name):
        config = small(CONFIGS[name].get_config())
        config.losses.autoencoder = terms
        (program,) = programs(config, experiment.load('autoencoder'), parallel.place('pmap'))
        return metric_names(program, parallel.place('pmap'), jax.eval_shape(make_init(program)))

    assert {f'autoencoder/{term}' for term in terms} <= {*names('sparse_ae')}
    with pytest.raises(ConfigError, match='autoencoder.cross_entropy: autoencoder offers no such term'):
        names('linear_ae')


@pytest.mark.parametrize(
    'key, value, message',
    [
        (
            'corruption',
            named('snow'),
            "config.model.corruption='snow': choose one of none, gaussian, masking, salt_and_pepper",
        ),
        ('activation', 'step', "config.model.activation='step': choose one of linear, sigmoid, tanh, relu, cos"),
        ('output', 'tanh', "config.model.output='tanh': choose one of linear, sigmoid"),
        ('code', 'softmax', "config.model.code='softmax': choose one of"),
        (
            'networks',
            named('dcgan', features=(8,)),
            "config.model.networks='dcgan': choose one of dense, convolutional",
        ),
    ],
)
def test_an_unknown_name_is_refused(key, value, message):
    config = small(CONFIGS['deep_ae'].get_config())
    config.model[key] = value
    with pytest.raises(ConfigError, match=message):
        experiment.load('autoencoder')(config)


def test_a_greedy_convolutional_stack_has_dense_blocks_above_the_first():
    config = small(CONFIGS['stacked_ae'].get_config())
    config.model.networks = named('convolutional', features=(6, 4), width=2, halvings=1)
    config.phases, config.train.order = (), ('block_1',)
    for player in [*config.losses]:
        if player not in ('block_1', 'block_2', 'autoencoder'):
            del config.losses[player], config.optimizer[player]
    _, state, _, _ = built(config)
    assert 'down_0' in state.params['block_1'] and {*state.params['block_2']} == {'encoder_0', 'decoder_0'}
    config.model.networks.wdth = 3
    with pytest.raises(ConfigError, match='config.model.networks.wdth: convolutional has no such option'):
        built(config)
