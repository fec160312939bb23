"""Tests autoencoders with a discriminator: both published ones are configs of one experiment, and errors."""

import jax
import numpy as np
import pytest

from genlab import experiment
from genlab.config import small
from genlab.errors import ConfigError
from support.runs import FILES, module_of

CONFIGS = {path.stem: module_of(path) for path in FILES}
build = experiment.load('adversarial_autoencoder')
BATCH = {
    'x': np.sign(np.random.RandomState(0).uniform(-1, 1, (4, 16, 16, 1)).astype(np.float32)),
    'position': np.arange(4),
}


def step(config):
    """Returns (metrics of a first step, parameters that changed)."""
    model = build(config)
    state = jax.jit(model.init)(BATCH, jax.random.key(0))
    after, metrics = jax.jit(model.step)(state, jax.tree.map(lambda leaf: leaf[None], BATCH), jax.random.key(1))
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), state.params, after.params)
    return metrics, {network for network, tree in moved.items() if any(jax.tree.leaves(tree))}


def test_a_player_changes_its_own_network_only():
    """Checks that the encoder learns through decoder and discriminator without changing either."""
    config = small(CONFIGS['adversarial_ae'].get_config())
    config.train.order = ('encoder',)
    metrics, moved = step(config)
    assert moved == {'encoder'}
    assert {metric.split('/')[0] for metric in metrics} == {'encoder'}


@pytest.mark.parametrize('name', ['vae_gan', 'adversarial_ae'])
def test_every_term_is_offered_to_both_players(name):
    config = small(CONFIGS[name].get_config())
    offered = dict.fromkeys(
        ('reconstruction', 'kl', 'adversarial', *['feature_reconstruction'] * (name == 'vae_gan')), 0.5
    )
    config.losses.update(encoder=offered, decoder=offered)
    model = build(config)
    state = jax.eval_shape(model.init, BATCH, jax.random.key(0))
    metrics = jax.eval_shape(model.step, state, jax.tree.map(lambda leaf: leaf[None], BATCH), jax.random.key(1))[1]
    assert {f'{player}/{term}' for player in ('encoder', 'decoder') for term in offered} <= {*metrics}


def test_a_discriminator_of_codes_has_no_features_of_images():
    config = small(CONFIGS['adversarial_ae'].get_config())
    config.losses.encoder.feature_reconstruction = 1.0
    with pytest.raises(ConfigError, match='encoder offers no such term; it offers adversarial, kl, reconstruction'):
        step(config)


@pytest.mark.parametrize('key, value', [('discriminator.name', 'both'), ('pair', 'none'), ('networks.name', 'ladder')])
def test_an_unknown_choice_is_refused(key, value):
    config = CONFIGS['vae_gan'].get_config()
    config.model.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=f"config.model.{key.removesuffix('.name')}='{value}': choose"):
        build(config)
