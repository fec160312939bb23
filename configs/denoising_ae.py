"""A denoising autoencoder (Vincent et al. 2010) with a code wider than its input, on scikit-learn's digits as they are, 8x8.

    python -m genlab.main --config=configs/denoising_ae.py

Expect 15.7 dB where the noise leaves 9.4 (peak signal to noise, clipped to the range), and on MNIST more than 19 dB, where the
best tuned Gaussian, Wiener or total-variation filter reaches less than 16.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import ramp
from genlab.models import autoencoder
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('autoencoder')
    config.data.update(source='digits', resolution=8, channels=1, batch_size=100, resident=True)
    # The amount of Gaussian noise is its deviation in images of [-1, 1]: 1.0 is 0.5 in [0, 1]. That of the others is a share.
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
    """Half of the pixels go black."""
    config.model.corruption = named('masking', amount=0.5)


def salt_and_pepper(config):
    """A quarter of the pixels goes black or white."""
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
