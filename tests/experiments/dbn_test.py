"""Tests deep belief networks: greedy phases, and their unrolling into an autoencoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import experiment
from genlab.config import phases, small
from genlab.errors import ConfigError
from genlab.models import autoencoder, belief
from genlab.sampling import drawing
from genlab.training import parallel
from support.runs import FILES, module_of
from support.tokenizers import small_run

MODULES = {path.stem: module_of(path) for path in FILES}
FEATURES = (16, 16, 16, 10)  # of the small versions of both configs


def made_up(model, seed=0):
    """Returns random variables of the machines of a network for images [8, 8, 1]."""
    draw, below, variables = np.random.default_rng(seed).standard_normal, 64, {}
    for name, machine in model.machines.items():
        above = machine.module.hidden
        params = {'weights': draw((below, above)) / 2, 'visible': draw(below), 'hidden': draw(above)}
        variables[name] = {'params': jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)}
        below = above
    return variables


@pytest.mark.parametrize('kind', ['deep_ae', 'stacked_ae'])
def test_the_unrolled_autoencoder_computes_the_mean_field_pass(kind):
    """One block of all layers, and a block per layer."""
    config = MODULES['dbn'].get_config()
    config.model.features = (12, 8, 5)
    model = belief.from_config(config)
    variables, x = made_up(model), jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (6, 8, 8, 1)), jnp.float32)
    config = MODULES[kind].get_config()
    config.model.networks.features = (12, 8, 5)
    stack = autoencoder.from_config(config)
    assert len(stack.names) == (1 if kind == 'deep_ae' else 3)

    @jax.jit
    def both(variables, x):
        made = autoencoder.unrolled(stack, [own['params'] for own in variables.values()])
        own = {name: {'params': params} for name, params in made.items()}
        codes = autoencoder.encode(stack, stack.names, own, x)
        h = belief.up(model, model.names, variables, x)
        return (
            codes,
            h,
            autoencoder.decode(stack, stack.names, own, codes),
            belief.down(model, model.names, variables, h),
        )

    codes, h, output, mean_field = both(variables, x)
    np.testing.assert_allclose(codes, h, atol=2e-5)
    np.testing.assert_allclose(output, mean_field, atol=2e-5)
    assert np.std(h, axis=0).min() > 0.01 and np.std(output) > 0.1  # they depend on the images


def test_an_autoencoder_starts_with_the_weights_of_a_run():
    folder, config = small_run('dbn'), small(MODULES['deep_ae'].get_config())
    config.model.pretrained = folder
    placement, model = parallel.place('pmap', jax.devices()[:1]), experiment.load('autoencoder')(config)
    batch = drawing.examples(config)(np.arange(4))
    fresh = parallel.initial(placement, lambda: model.init(batch, jax.random.key(0)))
    state = model.start(fresh, None, placement)
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.sharding), one.params) for one in (fresh, state)]
    assert shapes[0] == shapes[1]
    run, variables = autoencoder.pretrained.load(folder, placement, 'flag')
    network = belief.from_config(run)
    expected = belief.reconstruct(network, network.names, variables, batch, None)['output']
    output = model.reconstruct(state.variables(), batch, drawing.keys(0, 0, 4))['output']
    np.testing.assert_allclose(output, expected, atol=2e-5)
    assert np.std(output) > 0.01


@pytest.mark.parametrize(
    'change, message',
    [
        ({'networks.tied': True}, 'tied=False'),
        ({'networks.features': (16, 10)}, 'features'),
        ({'activation': 'relu'}, 'activation'),
        ({'code': 'sigmoid'}, 'code'),
    ],
)
def test_another_autoencoder_is_refused(change, message):
    config, run = MODULES['deep_ae'].get_config(), MODULES['dbn'].get_config()
    with config.model.networks.unlocked():
        config.model.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=message):
        autoencoder.check_layers(config, run)
    autoencoder.check_layers(MODULES['deep_ae'].get_config(), run)
    with pytest.raises(ConfigError, match='configs/dbn.py'):
        autoencoder.check_layers(MODULES['deep_ae'].get_config(), MODULES['rbm'].get_config())


def test_phases_train_the_machines_from_the_bottom_up():
    config = MODULES['dbn'].get_config()
    found = [(phase.config.train.order, phase.end - phase.start) for phase in phases(config)]
    assert found == [((f'machine_{number}',), 1000) for number in (1, 2, 3, 4)]
    model = belief.from_config(config)
    assert [belief.active(phase.config, model)[-1] for phase in phases(config)] == [*model.names]
    code = model.machines['machine_4']
    assert code.hidden is not code.visible and code.learning is not code.machine
