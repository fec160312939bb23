"""Linear autoencoder (Baldi & Hornik 1989) on scikit-learn's digits at their own size, 8x8.

It finds the span of the first principal components, which minimises the squared error.

    python -m genlab.main --config=configs/linear_ae.py

Expect the error of PCA to four digits. The kernel of the decoder spans the components. The weights of the encoder for
constant pixels are arbitrary.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import ramp
from genlab.models import autoencoder
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('autoencoder')
    config.data.update(source='digits', resolution=8, channels=1, batch_size=500, resident=True)
    config.model.update(autoencoder.settings(named('dense', features=(10,)), activation='linear', output='linear'))
    config.losses.autoencoder = dict(squared_error=1.0)
    config.optimizer.autoencoder = adam(ramp(3e-3, 0.0))
    config.train.update(
        order=('autoencoder',),
        steps=40_000,
        steps_per_call=100,
        log_every=2000,
        sample_every=20_000,
        evaluate_every='end',
    )
    config.checkpoint.every = 20_000
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST through TFDS, 28x28, 32 codes."""
    configs.tfds(config, 'mnist', 28)
    config.data.update(batch_size=2000)
    config.model.networks.features = (32,)
    config.optimizer.autoencoder = adam(ramp(1e-2, 0.0))  # large batches and steps: the last components differ little
    config.train.update(steps=20_000)
    config.evaluate.count = 10_000


def bare(config):
    """No biases: the codes span the first singular vectors of the uncentred pixels. Combine it: `mnist,bare`."""
    config.model.networks.use_bias = False


def ordered(config):
    """Nested dropout (Rippel, Gelbart & Adams 2014) orders the codes: each is a principal component."""
    config.losses.autoencoder = dict(nested=1.0, squared_error=0.0)


VARIANTS = configs.variants(mnist, bare, ordered)
