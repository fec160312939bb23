"""Convolutional autoencoder (after Masci et al. 2011, strides replace pooling) on scikit-learn's digits at 16x16.

    python -m genlab.main --config=configs/conv_ae.py

Expect less than half the squared error of PCA with the same number of components.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import ramp
from genlab.models import autoencoder
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('autoencoder')
    config.data.update(source='digits', resolution=16, channels=1, batch_size=100)
    config.model.update(autoencoder.settings(named('convolutional', features=(16,), width=16, halvings=2)))
    config.losses.autoencoder = dict(squared_error=1.0)
    config.optimizer.autoencoder = adam(ramp(1e-3, 0.0))
    config.train.update(order=('autoencoder',), steps=4000, log_every=200, sample_every=1000, evaluate_every='end')
    config.checkpoint.every = 2000
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST through TFDS, 28x28, 30 codes."""
    configs.tfds(config, 'mnist', 28)
    config.model.networks.update(width=32, features=(30,))
    config.optimizer.autoencoder = adam(ramp(2e-3, 0.0))
    config.train.update(steps=12_000)
    config.evaluate.count = 10_000


VARIANTS = configs.variants(mnist)
