"""Finite scalar quantisation (Mentzer et al. 2023) on scikit-learn's handwritten digits, 16x16: a 4x4 grid of codes.

    python -m genlab.main --config=configs/fsq_vae.py

There is no codebook: each of three channels is rounded to 4 levels, which gives 64 codes and the 96 bits per digit of
configs/vq_vae.py.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import quantized
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('vq_vae')
    config.data.update(source='digits', resolution=16, channels=1, batch_size=64, resident=True)
    config.model.update(
        quantized.settings(named('residual', width=32, halvings=2, blocks=2), named('scalar', levels=(4, 4, 4)))
    )
    config.losses.vae = dict(reconstruction=1.0, perplexity=0.0)
    config.optimizer.vae = adam(1e-3)
    config.train.update(steps=2000, steps_per_call=10, log_every=100, sample_every=500, evaluate_every='end')
    config.checkpoint.every = 500
    return configs.vary(config, variant, VARIANTS)


def cifar10(config):
    """CIFAR-10, with an 8x8 grid of 1,000 codes, the paper's levels for about 2^10 (table 1)."""
    configs.tfds(config, 'cifar10', 32)
    config.data.update(batch_size=32, resident=False)
    config.model.networks.width = 128
    config.model.quantizer.levels = (8, 5, 5, 5)
    config.optimizer.vae = adam(3e-4)
    config.train.update(steps=10_000, steps_per_call=1, sample_every=2500)
    config.checkpoint.every = 1000
    config.evaluate.count = 10_000


VARIANTS = configs.variants(cifar10)
