"""Generative adversarial networks (Goodfellow et al. 2014): two players, any pair of losses, any penalties, images or points.

Terms. discriminator: adversarial, r1, r2, gradient_penalty, drift, and to be watched (weight 0) logit_gap, how much more real
the real looks. generator: adversarial."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab.errors import ConfigError
from genlab.experiment import Experiment, compose
from genlab.losses import adversarial, penalties
from genlab.networks.adversarial import dcgan
from genlab.networks.layers.mlp import MLP
from genlab.training.state import Network


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """`config.model`: networks ('dcgan' or 'dense'), latent_size of z ~ N(0, 1), the `pair` of adversarial losses."""
    generator, discriminator = networks(config, axis)
    if config.model.pair not in adversarial.PAIRS:
        raise ConfigError(f'config.model.pair={config.model.pair!r}: choose one of {", ".join(adversarial.PAIRS)}')
    pair = adversarial.PAIRS[config.model.pair]

    def prior(variables, keys):
        return jax.vmap(lambda key: jax.random.normal(key, (config.model.latent_size,)))(keys)

    def generate(variables, keys, train):
        """Fakes, and the generator's statistics after making them."""
        return generator.apply(variables['generator'], prior(variables, keys), train, mutable=['batch_stats'])

    def decode(variables, z):
        return generator.apply(variables['generator'], z, False)

    def judge(variables, x):
        """Logits [B], and the discriminator's statistics after judging. Real and fake are separate batches to BatchNorm."""
        logits, stats = discriminator.apply(variables['discriminator'], x, True, mutable=['batch_stats'])
        return logits.reshape(x.shape[0]), stats

    def discriminate(variables, batch, keys, step):
        real, (fake, _) = batch['x'], generate(variables, keys, True)
        real_logits, stats = judge(variables, real)
        fake_logits, stats = judge({'discriminator': {**variables['discriminator'], **stats}}, fake)

        def critic(x):
            return judge(variables, x)[0]

        mixing = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1)))(keys)
        return {
            'adversarial': pair.discriminator(real_logits, fake_logits),
            'r1': lambda: penalties.r1(critic, real),
            'r2': lambda: penalties.r2(critic, fake),
            'gradient_penalty': lambda: penalties.gradient_penalty(critic, real, fake, mixing),
            'drift': penalties.drift(real_logits),
            'logit_gap': real_logits - fake_logits,
        }, {'discriminator': stats}

    def deceive(variables, batch, keys, step):
        fake, stats = generate(variables, keys, True)
        fake_logits, real_logits = judge(variables, fake)[0], judge(variables, batch['x'])[0]
        return {'adversarial': pair.generator(fake_logits, real_logits)}, {'generator': stats}

    def start(batch):
        z = jnp.zeros((batch['x'].shape[0], config.model.latent_size))
        return {
            'generator': Network(generator, (z, False)),
            'discriminator': Network(discriminator, (batch['x'], False)),
        }

    return compose(
        config,
        axis,
        start,
        {'discriminator': (('discriminator',), discriminate), 'generator': (('generator',), deceive)},
        sample=lambda variables, keys, condition: decode(variables, prior(variables, keys)),
        prior=prior,
        decode=decode,
    )


def networks(config: ConfigDict, axis: str | None) -> tuple[nn.Module, nn.Module]:
    """(generator, discriminator); both take (input, train)."""
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    if model.networks == 'dcgan':
        shared = {'resolution': config.data.resolution, 'width': model.width, 'axis': axis, 'dtype': dtype}
        generator = dcgan.Generator(channels=config.data.channels, latent_size=model.latent_size, **shared)
        return generator, dcgan.Discriminator(**shared)
    if model.networks == 'dense':
        return MLP((*model.features, model.dimensions), dtype=dtype), MLP((*model.features, 1), dtype=dtype)
    raise ConfigError(f'config.model.networks={model.networks!r}: choose dcgan or dense')
