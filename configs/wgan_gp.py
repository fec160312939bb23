"""WGAN-GP (Gulrajani et al. 2017) on scikit-learn's handwritten digits, resized to 32x32.

python -m genlab.main --config=configs/wgan_gp.py
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import adversarial
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('gan')
    config.data.update(source='digits', resolution=32, channels=1, batch_size=32)
    config.model.update(
        adversarial.settings(named('resnet', width=16, spectral=False), latent_size=128, pair='wasserstein')
    )
    config.losses.discriminator = dict(adversarial=1.0, gradient_penalty=10.0, logit_gap=0.0, real_sign=0.0)
    config.losses.generator = dict(adversarial=1.0)
    config.optimizer.discriminator = adam(2e-4, b1=0.0, b2=0.9)
    config.optimizer.generator = adam(2e-4, b1=0.0, b2=0.9)
    config.average.generator = 0.998
    config.train.update(
        order=('discriminator',) * 5 + ('generator',), steps=1500, sample_every=500, evaluate_every='end'
    )
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST through TFDS, 32x32."""
    configs.tfds(config, 'mnist')
    config.train.steps = 5000
    config.evaluate.count = 10_000


def cifar10(config):
    """CIFAR-10 as in appendix C of the paper: 128 channels, 100,000 rounds with a linear decay."""
    configs.tfds(config, 'cifar10', 32)
    config.data.update(batch_size=64, flip=True)
    config.model.networks.width = 128
    for player in ('discriminator', 'generator'):
        config.optimizer[player].learning_rate = configs.ramp(2e-4, 0.0)
    config.train.update(steps=100_000, sample_every=5000, evaluate_every=0)
    config.checkpoint.every = 5000


VARIANTS = configs.variants(mnist, cifar10)
