"""Generative adversarial networks of two players (Goodfellow et al. 2014): any pair of losses, any penalties, images or points.

Terms: discriminator: adversarial, r1, r2, gradient_penalty, drift; generator: adversarial."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import optimizers, players, state
from genlab.config import weights
from genlab.errors import ConfigError
from genlab.experiment import Experiment
from genlab.losses import adversarial, penalties
from genlab.networks import dcgan
from genlab.networks.mlp import MLP


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """The experiment of `config.model`: networks 'dcgan' or 'dense', latents N(0, 1) of `latent_size`, a `pair` of losses."""
    generator, discriminator = networks(config, axis)
    pair = adversarial.PAIRS.get(config.model.pair)
    if pair is None:
        raise ConfigError(f'config.model.pair={config.model.pair!r}: choose one of {", ".join(adversarial.PAIRS)}')

    def generate(variables, keys, train):
        """Fakes, and the generator's statistics after it made them."""
        z = jax.vmap(lambda key: jax.random.normal(key, (config.model.latent_size,)))(keys)
        return generator.apply(variables['generator'], z, train, mutable=['batch_stats'] if train else [])

    def judge(variables, x):
        """Logits, and the discriminator's statistics after it saw these examples."""
        return discriminator.apply(variables['discriminator'], x, True, mutable=['batch_stats'])

    def discriminate(variables, batch, keys, step):
        fake, _ = generate(variables, keys, True)
        real_logits, stats = judge(variables, batch['x'])
        fake_logits, _ = judge({**variables, 'discriminator': {**variables['discriminator'], **stats}}, fake)

        def critic(x):
            return judge(variables, x)[0]

        mixing = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1)))(keys)
        return {'adversarial': pair.discriminator(real_logits, fake_logits),
                'r1': penalties.r1(critic, batch['x']),
                'r2': penalties.r2(critic, fake),
                'gradient_penalty': penalties.gradient_penalty(critic, batch['x'], fake, mixing),
                'drift': penalties.drift(real_logits)}, {'discriminator': stats}

    def deceive(variables, batch, keys, step):
        fake, stats = generate(variables, keys, True)
        fake_logits, _ = judge(variables, fake)
        real_logits, _ = judge(variables, batch['x'])
        return {'adversarial': pair.generator(fake_logits, real_logits)}, {'generator': stats}

    both = {name: players.Player((name,), objective, weights(config, name), optimizers.build(config.optimizer[name]))
            for name, objective in (('generator', deceive), ('discriminator', discriminate))}

    def init(batch, key):
        z = jnp.zeros((batch['x'].shape[0], config.model.latent_size))
        variables = state.initialize({'generator': state.Network(generator, (z, False)),
                                      'discriminator': state.Network(discriminator, (batch['x'], False))}, key)
        return state.create(variables, both, tuple(config.average))

    return Experiment(init, players.make_step(both, config, axis), lambda variables, keys, condition: generate(variables, keys, False)[0],
                      batches=players.batches_per_step(config.train.order))


def networks(config: ConfigDict, axis: str | None) -> tuple[nn.Module, nn.Module]:
    """(generator, discriminator). Both take (input, train)."""
    model, dtype = config.model, jnp.dtype(config.model.dtype)
    if model.networks == 'dcgan':
        shared = {'resolution': config.data.resolution, 'width': model.width, 'axis': axis, 'dtype': dtype}
        return (dcgan.Generator(channels=config.data.channels, latent_size=model.latent_size, **shared),
                dcgan.Discriminator(**shared))
    if model.networks == 'dense':
        return Dense((*model.features, 2), dtype), Critic((*model.features, 1), dtype)
    raise ConfigError(f'config.model.networks={model.networks!r}: choose dcgan or dense')
