"""GANs on stacked digits: three of scikit-learn's digits are the color channels of an image, which gives 1,000 modes.

python -m genlab.main --config=configs/stacked_digits.py

The network is DCGAN's. The evaluation counts the modes that 25,600 samples cover, and KL(samples || uniform).
"""

from configs.r3gan import recipe
from genlab import config as configs
from genlab.choices import named
from genlab.models import adversarial
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('gan')
    config.data.update(source='stacked', stacked='digits', resolution=32, channels=3, batch_size=64)
    config.model.update(adversarial.settings(named('dcgan', width=32), latent_size=100))
    config.losses.discriminator = dict(adversarial=1.0, logit_gap=0.0, real_sign=0.0)
    config.losses.generator = dict(adversarial=1.0)
    config.optimizer.discriminator = adam(2e-4, b1=0.5)
    config.optimizer.generator = adam(2e-4, b1=0.5)
    config.average.generator = 0.998
    config.train.update(order=('discriminator', 'generator'), steps=4000, sample_every=500, evaluate_every='end')
    config.sample.chunk = 256
    config.evaluate.update(parts=('stacked',), count=25_600)
    return configs.vary(config, variant, VARIANTS)


def r3gan(config):
    """R3GAN's network, losses and penalties (Huang et al. 2024)."""
    recipe(config)


def mnist(config):
    """Digits of MNIST through TFDS."""
    config.data.update(stacked='tfds', name='mnist')


VARIANTS = configs.variants(r3gan, mnist)
