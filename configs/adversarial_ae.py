"""Adversarial autoencoder (Makhzani et al. 2016) on digits, 28x28.

A discriminator, in place of a KL divergence, matches the distribution of the codes to a standard normal prior.

    python -m genlab.main --config=configs/adversarial_ae.py

Expect samples of all ten digits after a minute. Expect a discriminator loss near log 4 = 1.39 nats: the discriminator
cannot distinguish codes from samples of the prior.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import adversarial_autoencoder
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('adversarial_autoencoder')
    config.data.update(source='digits', resolution=28, channels=1, batch_size=100, resident=True)
    config.model.update(
        adversarial_autoencoder.settings(
            named('dense', features=(400, 400)), named('codes', features=(200, 200)), latent_size=8
        )
    )
    config.losses.encoder = dict(reconstruction=0.05, adversarial=1.0)
    config.losses.decoder = dict(reconstruction=1.0)
    config.losses.discriminator = dict(adversarial=1.0, logit_gap=0.0)
    config.optimizer.update(encoder=adam(3e-4, b1=0.5), decoder=adam(1e-3), discriminator=adam(3e-4, b1=0.5))
    config.average.update(encoder=0.998, decoder=0.998)
    config.train.update(
        order=('discriminator', 'encoder', 'decoder'),
        steps=10_000,
        steps_per_call=50,
        log_every=250,
        sample_every=2500,
        evaluate_every='end',
    )
    config.checkpoint.every = 2500
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST through TFDS, 28x28."""
    configs.tfds(config, 'mnist')
    config.sample.chunk = 500
    config.evaluate.count = 10_000


VARIANTS = configs.variants(mnist)
