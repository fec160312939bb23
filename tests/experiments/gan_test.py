"""Tests the GAN experiment: every pair of losses, every penalty and the precision are set by the config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import experiment
from genlab.config import small
from genlab.losses.adversarial import PAIRS
from genlab.models import adversarial
from genlab.training import parallel, totals
from genlab.training.program import make_init, metric_names, programs
from support.runs import FILES, Trained, module_of, with_sgd

CONFIGS = {path.stem: module_of(path) for path in FILES}
PENALTIES = ('r1', 'r2', 'gradient_penalty', 'drift')


@pytest.mark.parametrize('pair', PAIRS)
def test_any_pair_and_any_penalty_is_a_config(pair):
    config = small(CONFIGS['gan'].get_config())
    config.model.pair = pair
    config.losses.discriminator.update(dict.fromkeys(PENALTIES, 0.1))
    config.train.order = ('discriminator',) * 3 + ('generator',)
    (program,) = programs(config, experiment.load('gan'), parallel.place('pmap'))
    assert program.experiment.batches == 3
    names = metric_names(program, parallel.place('pmap'), jax.eval_shape(make_init(program)))
    assert {f'discriminator/{penalty}' for penalty in PENALTIES} <= set(names)


def test_every_gan_reports_the_gap_and_the_signs_of_its_logits():
    losses = {
        f'{name}:{variant}': config.losses.discriminator
        for name, module in CONFIGS.items()
        for variant in ('', *getattr(module, 'VARIANTS', ()))
        if (config := module.get_config(variant)).experiment == 'gan'
    }
    assert len(losses) > 20
    silent = [name for name, terms in losses.items() if not terms.get('logit_gap') == terms.get('real_sign') == 0.0]
    assert silent == []


def test_bfloat16_computation_keeps_float32_parameters():
    config = small(CONFIGS['gan'].get_config())
    config.model.dtype = 'bfloat16'
    run = Trained(config)
    state, sums = run.run((run.start, run.zero), 0, 1)
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(state))
    assert totals.first_bad(jax.device_get(sums)) is None
    assert 'bf16' in run.compiled.as_text()


def test_the_mean_of_path_lengths_is_of_all_devices():
    config = small(CONFIGS['stylegan2'].get_config())
    config.data.resolution = 8
    config.model.update(mixing=0.9, path_decay=0.01)
    config.losses.generator.path_length = 2.0
    config.train.update(order=('generator',), steps_per_call=1)
    run = Trained(with_sgd(config))
    state, sums = run.run((run.start, run.zero), 0, 1)
    assert totals.first_bad(jax.device_get(sums)) is None
    shards = [
        float(np.ravel(shard.data)[0]) for shard in state.stats['path_length']['path_length']['mean'].addressable_shards
    ]
    assert len(shards) == 4 and set(shards) == {shards[0]} and shards[0] > 0


def test_gradients_pass_through_the_mean_of_path_lengths():
    module, lengths = adversarial.PathMean(0.5), jnp.asarray([1.0, 3.0])
    old = {'path_length': {'mean': jnp.asarray(4.0)}}

    def penalty(lengths):
        mean, new = module.apply(old, lengths, True, mutable=['path_length'])
        return jnp.square(lengths - mean).sum(), (mean, new['path_length']['mean'])

    found, means = jax.grad(penalty, has_aux=True)(lengths)
    expected = jax.grad(lambda lengths: jnp.square(lengths - (4 + lengths.mean()) / 2).sum())(lengths)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(means, 3.0)


def test_the_generator_runs_once_for_both_players():
    """Checks that players of one turn share the fakes: the forward pass of the generator is compiled once."""
    config = small(CONFIGS['gan'].get_config())
    config.model.networks.features, config.train.steps_per_call = (256, 256), 1
    config.losses.discriminator.r1 = 0.0

    def flops(order):
        config.train.order = order
        run = Trained(config, devices=jax.devices()[:1])
        return run.compiled.cost_analysis()['flops']

    both, critic, maker = (
        flops(order) for order in (('discriminator', 'generator'), ('discriminator',), ('generator',))
    )
    batch, width, latent = config.data.batch_size, 256, config.model.latent_size
    generator = 2 * batch * (latent * width + width * width + width * 2)
    np.testing.assert_allclose(both, critic + maker - generator, rtol=0.05)
