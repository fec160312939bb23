"""DCGAN (Radford, Metz and Chintala 2015) on scikit-learn's handwritten digits, resized to 32x32.

python -m genlab.main --config=configs/dcgan.py

Expect all ten digits, each 6 % to 18 % of the samples, after about 5 minutes on 2 cores, installation included
(docs/systems/dcgan.md).
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import adversarial
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('gan')
    config.data.update(source='digits', resolution=32, channels=1, batch_size=64)
    config.model.update(adversarial.settings(named('dcgan', width=32), latent_size=100))
    config.losses.discriminator = dict(adversarial=1.0, logit_gap=0.0, real_sign=0.0)
    config.losses.generator = dict(adversarial=1.0)
    config.optimizer.discriminator = adam(2e-4, b1=0.5)
    config.optimizer.generator = adam(2e-4, b1=0.5)
    config.average.generator = 0.998
    config.train.update(order=('discriminator', 'generator'), steps=4000, sample_every=500, evaluate_every='end')
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST through TFDS, 32x32."""
    configs.tfds(config, 'mnist')
    config.sample.chunk = 256
    config.evaluate.count = 10_000


def paper64(config):
    """The size of the paper: 64x64 in colour, width 64. Give images by --config.data.dir=... (or data.source=tfds)."""
    config.data.update(source='folder', resolution=64, channels=3, flip=True)
    config.model.networks.width = 64
    config.train.update(steps=100_000, sample_every=2000, evaluate_every=0)
    config.checkpoint.every = 2000


VARIANTS = configs.variants(mnist, paper64)
