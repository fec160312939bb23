"""SNGAN (Miyato et al. 2018) on scikit-learn's handwritten digits, resized to 32x32: spectral norm and hinge losses.

python -m genlab.main --config=configs/sngan.py
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import adversarial
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('gan')
    config.data.update(source='digits', resolution=32, channels=1, batch_size=64)
    config.model.update(adversarial.settings(named('resnet', width=16, spectral=True), latent_size=128, pair='hinge'))
    config.losses.discriminator = dict(adversarial=1.0, logit_gap=0.0, real_sign=0.0)
    config.losses.generator = dict(adversarial=1.0)
    config.optimizer.discriminator = adam(2e-4, b1=0.0, b2=0.9)
    config.optimizer.generator = adam(2e-4, b1=0.0, b2=0.9)
    config.average.generator = 0.998
    config.train.update(
        order=('discriminator',) * 2 + ('generator',), steps=2000, sample_every=500, evaluate_every='end'
    )
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST through TFDS, 32x32."""
    configs.tfds(config, 'mnist')
    config.train.steps = 4000
    config.evaluate.count = 10_000


def conditional(config):
    """Class labels: projection in the discriminator, batch normalisation per class in the generator."""
    config.model.classes = 'auto'


def cifar10(config):
    """CIFAR-10 as in table 4 of the paper: five critic turns per round. FID 21.7, Inception score 8.22."""
    configs.tfds(config, 'cifar10', 32)
    config.data.flip = True
    config.model.networks.update(width=256, critic_width=128)
    for player in ('discriminator', 'generator'):
        config.optimizer[player].learning_rate = configs.ramp(2e-4, 0.0)
    config.train.update(
        order=('discriminator',) * 5 + ('generator',), steps=100_000, sample_every=5000, evaluate_every=0
    )
    config.checkpoint.every = 5000


VARIANTS = configs.variants(mnist, conditional, cifar10)
