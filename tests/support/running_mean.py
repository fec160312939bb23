"""An experiment with a step of its own: a Gaussian whose moments are running sums over the data."""

import sys

import jax
import jax.numpy as jnp

from genlab import config as configs
from genlab.abilities import Likelihood, Sampler
from genlab.experiment import Experiment
from genlab.training.state import State


def build(config, axis=None):
    """Counts, sums and squares of pixels, added up over batches and devices."""

    def init(batch, key):
        shape = batch['x'].shape[1:]
        moments = {'sum': jnp.zeros(shape), 'squares': jnp.zeros(shape), 'count': jnp.zeros(())}
        return State(jnp.zeros((), jnp.int32), {'gaussian': {}}, {'gaussian': {'moments': moments}}, {}, {})

    def step(state, batches, key):
        x, old = batches['x'][0].astype(config.model.dtype), state.stats['gaussian']['moments']
        new = {'sum': x.sum(0), 'squares': jnp.square(x).sum(0), 'count': jnp.asarray(x.shape[0], jnp.float32)}
        new = jax.lax.psum(new, axis) if axis else new
        moments = jax.tree.map(jnp.add, old, new)
        metrics = {'model/mean': moments['sum'].mean() / moments['count'] * config.model.scale}
        return state.replace(step=state.step + 1, stats={'gaussian': {'moments': moments}}), metrics

    def statistics(variables):
        moments = variables['gaussian']['moments']
        mean = moments['sum'] / moments['count']
        return mean, jnp.maximum(moments['squares'] / moments['count'] - mean**2, 1e-3)

    def sample(variables, keys, condition):
        mean, variance = statistics(variables)
        noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape))(keys)
        return mean[None] + jnp.sqrt(variance)[None] * noise

    def exact(variables, batch, keys):
        mean, variance = statistics(variables)
        terms = jnp.square(batch['x'] - mean[None]) / variance[None] + jnp.log(2 * jnp.pi * variance)[None]
        return -terms.reshape(terms.shape[0], -1).sum(-1) / 2

    def measure(variables, batch, keys):
        return {'nll_bound': -exact(variables, batch, keys)}

    def start(state, source, placement):
        assert len(source) > 64  # more than the batch of `init`
        return state

    return Experiment(init, step, Sampler(sample), likelihood=Likelihood(exact=exact), measure=measure, start=start)


def get_config(variant=''):
    config = configs.defaults('running_mean')
    config.data.update(resolution=16, batch_size=8)
    config.model.scale = 1.0
    config.train.update(steps=12, log_every=2)
    config.sample.update(count=4, chunk=4)
    config.evaluate.update(count=8, parts=('held_out',))
    config.checkpoint.every = 4
    return config


VARIANTS = {}
sys.modules['experiments.running_mean'] = sys.modules[__name__]  # `experiment.load` finds it like any other
