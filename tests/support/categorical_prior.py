"""The least prior over the codes of a tokenizer: each place of the grid has a categorical distribution per class."""

import sys

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab import config as configs
from genlab.abilities import Codec, Sampler
from genlab.conditioning import Conditions
from genlab.experiment import Role, compose
from genlab.models.tokenizer import take
from genlab.training import pretrained
from genlab.training.optimizers import sgd
from genlab.training.state import Network


class Table(nn.Module):
    """Logits [B, *shape, entries] of labels int32 [B]."""

    classes: int
    shape: tuple[int, ...]
    entries: int
    dtype: str

    @nn.compact
    def __call__(self, label):
        table = self.param('logits', nn.initializers.zeros, (self.classes, *self.shape, self.entries))
        return table.astype(self.dtype)[label]


def build(config, axis=None):
    found = pretrained.tokenizer_of(config)
    tokenizer, classes = found.tokenizer, config.model.classes
    table = Table(classes, tokenizer.shapes, tokenizer.entries, config.model.dtype)

    def networks(batch):
        return {**tokenizer.networks(batch), 'prior': Network(table, (batch['label'],))}

    def nll(variables, batch):
        log = jax.nn.log_softmax(table.apply(variables['prior'], batch['label']))
        chosen = jnp.take_along_axis(log, take(tokenizer, batch)[..., None], -1)
        return -chosen.reshape(len(chosen), -1).sum(1)

    def terms(variables, batch, keys, step):
        return {'nll': nll(variables, batch)}, {}

    def measure(variables, batch, keys):
        return {'nll_codes': nll(variables, batch)}

    def draw(variables, keys, condition):
        return jax.vmap(jax.random.categorical)(keys, table.apply(variables['prior'], condition['label']))

    def sample(variables, keys, condition):
        return tokenizer.decode(variables, draw(variables, keys, condition))

    return compose(
        config,
        axis,
        networks,
        {'prior': Role(('prior',), terms)},
        sampler=Sampler(sample),
        codec=Codec(
            tokenizer.decode, encode=lambda variables, batch: take(tokenizer, batch), entries=tokenizer.entries
        ),
        measure=measure,
        conditions=Conditions(classes=classes),
        start=found.start,
    )


def get_config(variant=''):
    config = configs.defaults('categorical_prior')
    configs.codes(config, 'runs/vq_vae')
    config.data.batch_size = 8
    config.model.classes = configs.counted('auto')
    config.losses.prior = dict(nll=1.0)
    config.optimizer.prior = sgd(0.5)
    config.train.update(steps=4, log_every=2)
    config.sample.update(count=4, chunk=4)
    config.evaluate.update(count=8, parts=('held_out',))
    config.checkpoint.every = 2
    return config


VARIANTS = {}
sys.modules['experiments.categorical_prior'] = sys.modules[__name__]  # `experiment.load` finds it like any other
