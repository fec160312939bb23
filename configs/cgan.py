"""Conditional GAN on scikit-learn's handwritten digits, resized to 32x32: the networks of DCGAN, with class labels.

python -m genlab.main --config=configs/cgan.py

The label is concatenated to the inputs (Mirza and Osindero 2014). The variants are the other ways to use it.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import adversarial
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('gan')
    config.data.update(source='digits', resolution=32, channels=1, batch_size=64)
    config.model.update(adversarial.settings(named('dcgan', width=32), latent_size=100, classes='auto'))
    config.losses.discriminator = dict(adversarial=1.0, logit_gap=0.0, real_sign=0.0)
    config.losses.generator = dict(adversarial=1.0)
    config.optimizer.discriminator = adam(2e-4, b1=0.5)
    config.optimizer.generator = adam(2e-4, b1=0.5)
    config.average.generator = 0.998
    config.train.update(order=('discriminator', 'generator'), steps=3000, sample_every=500, evaluate_every='end')
    config.sample.condition = True
    return configs.vary(config, variant, VARIANTS)


def projection(config):
    """The discriminator projects its features onto the label (Miyato and Koyama 2018)."""
    config.model.networks.discriminator = 'projection'


def normalization(config):
    """The generator's batch normalisations have a scale and a shift per class (Dumoulin et al. 2017)."""
    config.model.networks.generator = 'normalization'


def classification(config):
    """The discriminator also classifies, real and generated images (AC-GAN, Odena et al. 2017)."""
    config.model.networks.discriminator = 'classification'
    config.losses.discriminator.classification = 1.0
    config.losses.generator.classification = 1.0


def mnist(config):
    """MNIST through TFDS, 32x32."""
    configs.tfds(config, 'mnist')
    config.sample.chunk = 256
    config.evaluate.count = 10_000


VARIANTS = configs.variants(projection, normalization, classification, mnist)
