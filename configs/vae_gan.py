"""VAE-GAN (Larsen et al. 2016) on digits, 32x32: the reconstruction error is measured in features of a discriminator.

    python -m genlab.main --config=configs/vae_gan.py

`feature_reconstruction` contains a constant, log(2 pi) / 2 per feature.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import adversarial_autoencoder
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('adversarial_autoencoder')
    config.data.update(source='digits', resolution=32, channels=1, batch_size=64)
    config.model.update(
        adversarial_autoencoder.settings(named('convolutional', width=16), named('images', width=16), latent_size=32)
    )
    config.losses.encoder = dict(kl=1.0, feature_reconstruction=1.0)
    config.losses.decoder = dict(feature_reconstruction=0.01, adversarial=1.0)
    config.losses.discriminator = dict(adversarial=1.0, logit_gap=0.0)
    config.optimizer.update(encoder=adam(3e-4, b1=0.5), decoder=adam(3e-4, b1=0.5), discriminator=adam(3e-4, b1=0.5))
    config.average.update(encoder=0.998, decoder=0.998)
    config.train.update(
        order=('discriminator', 'decoder', 'encoder'), steps=3000, sample_every=500, evaluate_every='end'
    )
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST through TFDS, 32x32."""
    configs.tfds(config, 'mnist')
    config.sample.chunk = 500
    config.evaluate.count = 10_000


VARIANTS = configs.variants(mnist)
