"""Tests loading from another run: the saved weights are restored, and errors name the key of the config."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from genlab import experiment
from genlab.config import small
from genlab.errors import ConfigError, UserError, warn
from genlab.run import workdir
from genlab.training import parallel, pretrained
from genlab.training.checkpoint import Checkpoints
from genlab.training.loop import Loop
from genlab.training.program import make_init, programs
from support.runs import FILES, module_of

FLAG = 'config.model.first_stage'
CONFIGS = {path.stem: module_of(path) for path in FILES}


def autoencoder():
    config = small(CONFIGS['vae'].get_config('spatial'))
    config.model.networks.update(width=4, multipliers=(1, 2))
    return config


@pytest.fixture(scope='module')
def placement():
    return parallel.place('pmap', jax.devices()[:1])


def made_up(program):
    """Returns a state with random parameters, which is faster than to compile the initialisation."""
    noise = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: noise.normal(size=leaf.shape).astype(leaf.dtype), jax.eval_shape(make_init(program))
    )


@pytest.fixture(scope='module')
def saved(tmp_path_factory, placement):
    """Returns (the folder of a run with one checkpoint, its state); averages differ from the parameters."""
    folder, config = tmp_path_factory.mktemp('run'), autoencoder()
    program = programs(config, experiment.load(config.experiment), placement)[0]
    state = made_up(program)
    workdir.claim(folder, config)
    with Checkpoints(folder / 'checkpoints', warn=warn) as checkpoints:
        checkpoints.save(7, parallel.replicate(placement, state.replace(step=np.int32(7))), {})
    return folder, state


def test_it_restores_averages_where_they_were_saved(saved, placement):
    folder, state = saved
    config, variables = pretrained.load(str(folder), placement, FLAG)
    assert config.model.networks.multipliers == (1, 2) and isinstance(config.train.order, tuple)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(variables), state.variables(averaged=True))
    assert pretrained.restore(config, experiment.load(config.experiment), folder, placement)[0] == 7


def test_a_state_takes_given_networks_and_keeps_the_rest(saved, placement):
    state = saved[1]
    taken = jax.tree.map(lambda leaf: leaf * 0, state.variables()['decoder'])
    new = pretrained.replace_networks(state, {'decoder': taken})
    for tree in (new.params['decoder'], new.average['decoder']):
        assert not any(leaf.any() for leaf in jax.tree.leaves(tree))
    assert new.params['encoder'] is state.params['encoder'] and new.average['encoder'] is state.average['encoder']
    assert jax.tree.structure(new) == jax.tree.structure(state)


def test_a_run_starts_with_the_networks_of_another(saved, placement):
    config = small(CONFIGS['latent_diffusion'].get_config('frozen'))
    config.model.first_stage = str(saved[0])
    config.model.autoencoder.networks.update(width=4, multipliers=(1, 2))
    program = programs(config, experiment.load(config.experiment), placement)[0]
    own = made_up(program)
    state = Loop.fresh(SimpleNamespace(placement=placement), program, lambda: own)
    jax.tree.map(np.testing.assert_array_equal, state.params['denoiser'], own.params['denoiser'])
    for name, variables in saved[1].variables(averaged=True).items():
        jax.tree.map(np.testing.assert_array_equal, state.variables()[name], variables)


def test_errors_name_the_key_and_the_folder(tmp_path, placement):
    with pytest.raises(ConfigError, match=f'{FLAG}=nowhere: there is no run'):
        pretrained.load('nowhere', placement, FLAG)
    workdir.claim(tmp_path, autoencoder())
    with pytest.raises(UserError, match=f'{FLAG}=.*: there is no checkpoint yet: train first'):
        pretrained.load(str(tmp_path), placement, FLAG)


@pytest.mark.parametrize('first, then, variant', [('spatial', 'latent_diffusion', 'frozen'), ('kl_f8', 'dit', 's2')])
def test_first_stages_of_the_configs_match_the_second_stages(first, then, variant):
    config = CONFIGS[then].get_config(variant)
    pretrained.expect(CONFIGS['vae'].get_config(first), config.model.autoencoder, FLAG, 'config.model.autoencoder')
    assert config.model.first_stage == f'runs/vae-{first}'  # the folder that main uses


def test_a_different_model_is_refused(saved, placement):
    config = pretrained.load(str(saved[0]), placement, FLAG)[0]
    wanted = autoencoder().model
    pretrained.expect(config, wanted, FLAG, 'config.model.autoencoder')
    wanted.networks.multipliers = (1, 1)
    with pytest.raises(
        ConfigError, match=r'networks.multipliers=\[1, 2\], and here .*autoencoder.networks.multipliers=\[1, 1\]'
    ):
        pretrained.expect(config, wanted, FLAG, 'config.model.autoencoder')
