"""PixelCNN++ (Salimans et al. 2017) of the grey levels of scikit-learn's handwritten digits, in their own size of 8x8.

    python -m genlab.main --config=configs/pixelcnn_pp.py

Expect 3.7 bits per dimension, exactly, after 8 minutes of one core.

The variant cifar10 has reference figures: 53,659,080 parameters and 2.92 bits per dimension.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import autoregressive
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('prior')
    config.data.update(source='digits', resolution=8, channels=1, batch_size=64, resident=True)
    network = named('pixelcnn_pp', width=24, blocks=1, mixtures=5, levels=2, dropout=0.1)
    config.model.update(autoregressive.settings(network))
    config.losses.prior = dict(cross_entropy=1.0)
    config.optimizer.prior = adam(configs.ramp(2e-3, 0.0), clip=100.0)
    config.average.prior = 0.99
    config.train.update(steps=5000, sample_every=1000, evaluate_every='end')
    config.sample.update(autoregressive.sampling())
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST, 28x28."""
    configs.tfds(config, 'mnist', 28)
    config.data.batch_size = 16
    config.model.network = named('pixelcnn_pp', width=40, blocks=2, mixtures=10, dropout=0.1)
    config.train.steps = 10_000
    config.evaluate.count = 10_000


def cifar10(config):
    """CIFAR-10 with the network of the paper."""
    configs.tfds(config, 'cifar10', 32)
    config.data.update(batch_size=16 * 8, flip=True, resident=False)
    config.model.network = named('pixelcnn_pp', width=160, blocks=5, mixtures=10, dropout=0.5, edge_bias=False)
    config.optimizer.prior = adam(1e-3)
    config.average.prior = 0.9995
    config.train.update(steps=200_000, sample_every=10_000, evaluate_every=0)
    config.checkpoint.every = 5000


VARIANTS = configs.variants(mnist, cifar10)
