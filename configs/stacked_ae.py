"""Stacked autoencoder (greedy layer-wise training: Bengio et al. 2007) on scikit-learn's digits.

Each layer is trained on the frozen layers below it. Then all layers are fine-tuned together (Hinton & Salakhutdinov
2006, there after RBMs).

    python -m genlab.main --config=configs/stacked_ae.py

Expect the error of deep_ae.py, in fewer steps of the whole network. The greedy phases train one layer each: they are
cheap and give a better initialisation.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import ramp
from genlab.models import autoencoder
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('autoencoder')
    config.data.update(source='digits', resolution=8, channels=1, batch_size=100, resident=True)
    config.model.update(
        autoencoder.settings(named('dense', features=(256, 128, 64, 10)), greedy=True, activation='sigmoid')
    )
    config.train.update(steps_per_call=20, log_every=500, sample_every=5000, evaluate_every='end')
    config.checkpoint.every = 5000
    schedule(config, greedy=1000, together=6000, rate=1e-3)
    return configs.vary(config, variant, VARIANTS)


def schedule(config, greedy, together, rate):
    """Trains each layer for `greedy` steps from the bottom up, then all for `together` steps.

    Each learning rate decays from `rate` to zero."""
    layers = [f'block_{number + 1}' for number in range(len(config.model.networks.features))]
    config.losses, config.optimizer = configs.untyped(), configs.untyped()
    for player, steps in {**dict.fromkeys(layers, greedy), 'autoencoder': together}.items():
        config.losses[player] = dict(squared_error=1.0)
        config.optimizer[player] = adam(ramp(rate, 0.0, steps))
    config.phases = (
        *({'until': greedy * (number + 1), 'train.order': (layer,)} for number, layer in enumerate(layers)),
        {},
    )
    steps = greedy * len(layers) + together
    config.train.update(order=('autoencoder',), steps=steps)


def mnist(config):
    """MNIST through TFDS with layers 784-1000-500-250-30."""
    configs.tfds(config, 'mnist', 28)
    config.data.update(resident=False)
    config.train.steps_per_call = 1
    config.model.networks.features = (1000, 500, 250, 30)
    schedule(config, greedy=2000, together=16_000, rate=1e-3)
    config.evaluate.count = 10_000


def denoising(config):
    """Stacked denoising: each layer learns to remove masking noise (Vincent et al. 2010, section 3.4)."""
    config.model.corruption = named('masking', amount=0.25)


VARIANTS = configs.variants(mnist, denoising)
