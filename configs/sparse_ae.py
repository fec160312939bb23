"""Sparse autoencoder (Ng 2011, CS294A lecture notes), 64-25-64, on scikit-learn's digits at their own size, 8x8.

    python -m genlab.main --config=configs/sparse_ae.py

Expect a mean activation within a tenth of its target of 0.05, four of 25 units above 0.1 per digit, and no dead unit.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import ramp
from genlab.models import autoencoder
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('autoencoder')
    config.data.update(source='digits', resolution=8, channels=1, batch_size=500, resident=True)
    config.model.update(
        autoencoder.settings(named('dense', features=(25,)), activation='sigmoid', code='sigmoid', rho=0.05)
    )
    config.losses.autoencoder = dict(squared_error=0.5, sparsity=3.0, l1=0.0)
    config.optimizer.autoencoder = adam(ramp(3e-3, 0.0))
    config.train.update(
        order=('autoencoder',),
        steps=10_000,
        steps_per_call=100,
        log_every=500,
        sample_every=5000,
        evaluate_every='end',
    )
    config.checkpoint.every = 5000
    return configs.vary(config, variant, VARIANTS)


def l1(config):
    """An L1 penalty on the activations in place of their divergence from a target: each example has a sparse code."""
    config.losses.autoencoder = dict(squared_error=0.5, sparsity=0.0, l1=0.1)


def mnist(config):
    """MNIST through TFDS, 28x28, 196 units."""
    configs.tfds(config, 'mnist', 28)
    config.model.networks.features = (196,)
    config.evaluate.count = 10_000


VARIANTS = configs.variants(l1, mnist)
