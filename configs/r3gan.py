"""R3GAN (Huang et al. 2024) on scikit-learn's handwritten digits, resized to 32x32: relativistic losses, R1 and R2.

python -m genlab.main --config=configs/r3gan.py
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import adversarial
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('gan')
    config.data.update(source='digits', resolution=32, channels=1)
    config.model.update(adversarial.settings(named('r3gan')))
    config.losses.discriminator = dict(adversarial=1.0, logit_gap=0.0, real_sign=0.0)
    config.losses.generator = dict(adversarial=1.0)
    recipe(config)
    config.average.generator = 0.998
    config.train.update(order=('discriminator', 'generator'), sample_every=500, evaluate_every='end')
    return configs.vary(config, variant, VARIANTS)


def recipe(config):
    """Sets R3GAN's network, losses, penalties and optimizers, and a length that suits digits."""
    config.model.networks = named('r3gan', base=256, most=64, blocks=1)
    config.model.update(latent_size=64, pair='relativistic')
    config.losses.discriminator.update(r1=0.5, r2=0.5)
    for player in ('discriminator', 'generator'):
        config.optimizer[player] = adam(5e-4, b1=0.0, b2=0.99)
    config.data.batch_size, config.train.steps = 32, 3000


def mnist(config):
    """MNIST through TFDS, 32x32. Expect a Frechet distance of about 4 after 10,000 steps (docs/systems/gans.md)."""
    configs.tfds(config, 'mnist')
    config.train.update(steps=12_000, sample_every=1000)
    config.evaluate.count = 10_000


def cifar10(config):
    """CIFAR-10 with classes as in the paper: 20,781,952 and 21,280,512 parameters; FID 1.96."""
    configs.tfds(config, 'cifar10', 32)
    config.data.update(batch_size=512, flip=True)
    config.model.update(latent_size=64, classes=10)
    config.model.networks.update(base=768 * 32, most=768, blocks=2)
    config.losses.discriminator.update(r1=configs.ramp(0.5, 0.05, 20_000), r2=configs.ramp(0.5, 0.05, 20_000))
    for player in ('discriminator', 'generator'):
        config.optimizer[player].learning_rate = 2e-4
    config.train.update(steps=400_000, sample_every=5000, evaluate_every=0)
    config.checkpoint.every = 5000


VARIANTS = configs.variants(mnist, cifar10)
