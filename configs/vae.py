"""Variational autoencoder (Kingma and Welling 2014) on scikit-learn's handwritten digits, binarised anew at each sight, 28x28.

    python -m genlab.main --config=configs/vae.py
"""

from genlab import config as configs
from genlab.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('variational')
    config.data.update(source='digits', resolution=28, channels=1, batch_size=100, binarise=True, resident=True)
    config.model.update(networks='dense', features=(200, 200), latent_size=20, likelihood='bernoulli', scale=0.0, classes=0,
                        dimensions=0)
    config.losses.vae = dict(reconstruction=1.0, kl=1.0)
    config.optimizer.vae = adam(1e-3)
    config.average.update(encoder=0.999, decoder=0.999)
    config.train.update(order=('vae',), steps=10_000, steps_per_call=50, log_every=250, sample_every=2500, evaluate_every=10_000)
    config.checkpoint.every = 2500
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST, binarised anew, 784-200-200-50 (Burda et al. 2016)."""
    config.data.update(source='tfds', name='mnist')
    config.model.latent_size = 50


VARIANTS = {'mnist': mnist}
