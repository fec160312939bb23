"""Denoising autoencoder (Vincent et al. 2010) with an overcomplete code, on scikit-learn's digits at 8x8.

    python -m genlab.main --config=configs/denoising_ae.py

Expect a peak signal-to-noise ratio of 15.7 dB, against 9.4 of the corrupted images, with values clipped to the range.
On MNIST expect more than 19 dB; the best tuned Gaussian, Wiener or total-variation filter reaches less than 16.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import ramp
from genlab.models import autoencoder
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('autoencoder')
    config.data.update(source='digits', resolution=8, channels=1, batch_size=100, resident=True)
    # The amount of Gaussian noise is its standard deviation in images of [-1, 1]: 1.0 is 0.5 in [0, 1]. The amount of
    # the other corruptions is a fraction of the pixels.
    config.model.update(
        autoencoder.settings(named('dense', features=(256, 128)), code='relu', corruption=named('gaussian', amount=1.0))
    )
    config.losses.autoencoder = dict(squared_error=1.0)
    config.optimizer.autoencoder = adam(ramp(1e-3, 0.0))
    config.train.update(
        order=('autoencoder',), steps=10_000, steps_per_call=20, log_every=500, sample_every=5000, evaluate_every='end'
    )
    config.checkpoint.every = 5000
    return configs.vary(config, variant, VARIANTS)


def masking(config):
    """Masking noise: half of the pixels become black."""
    config.model.corruption = named('masking', amount=0.5)


def salt_and_pepper(config):
    """Salt-and-pepper noise: a quarter of the pixels become black or white."""
    config.model.corruption = named('salt_and_pepper', amount=0.25)


def mnist(config):
    """MNIST through TFDS, 28x28."""
    configs.tfds(config, 'mnist', 28)
    config.data.update(resident=False)
    config.model.networks.features = (1000, 500)
    config.optimizer.autoencoder = adam(ramp(1e-3, 0.0))
    config.train.update(steps=12_000, steps_per_call=1)
    config.evaluate.count = 10_000


VARIANTS = configs.variants(masking, salt_and_pepper, mnist)
