"""Improved DDPM (Nichol and Dhariwal 2021): the cosine schedule and learned variances.

The network predicts the variance of each reverse step in addition to the noise.

    python -m genlab.main --config=configs/improved_ddpm.py

Learned variances allow sampling in few ancestral steps: 50 here.

Expect a Frechet distance of about 14 after 10 minutes on 2 cores (docs/diffusion.md).
"""

from genlab import config as configs
from genlab.choices import named
from genlab.diffusion import settings
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('diffusion')
    config.data.update(source='digits', resolution=16, channels=1, batch_size=64, resident=True)
    network = named(
        'unet', width=16, multipliers=(1, 3), blocks=1, patch=1, attention=(8,), heads=4, dropout=0.0, scale_shift=True
    )
    config.model.update(
        settings.model(network, process=named('cosine', steps=1000), learned_variance=True, bound=named('discrete'))
    )
    config.losses.denoiser = dict(epsilon=1.0, variance=0.001)
    config.optimizer.denoiser = adam(1e-3, clip=1.0, warmup=200)
    config.average.denoiser = 0.999
    config.train.update(steps=2000, log_every=100, sample_every=1000, evaluate_every='end')
    config.sample.update(settings.sample(sampler=named('ancestral', variance='learned'), steps=50))
    config.evaluate.parts = ('quality', 'held_out')
    config.explore.update(examples=64, inversions=0)
    config.checkpoint.every = 500
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST at 32x32."""
    configs.tfds(config, 'mnist', 32)
    config.model.network.update(width=32, multipliers=(1, 2), patch=2)
    config.train.update(steps=6000)
    config.sample.chunk = 250
    config.evaluate.count = 10_000


def cifar10(config):
    """CIFAR-10 as in the paper, with 4,000 diffusion steps: 52,546,438 parameters.

    Expect 2.94 bits per dimension and FID 2.90 after 500,000 training steps."""
    configs.tfds(config, 'cifar10', 32)
    config.data.update(batch_size=128, flip=True)
    config.model.network = named(
        'unet',
        width=128,
        multipliers=(1, 2, 2, 2),
        blocks=3,
        attention=(16, 8),
        heads=4,
        dropout=0.3,
        scale_shift=True,
        endpoint=False,
        epsilon=1e-5,
        stride_padding=(1, 1),
    )
    config.model.process.steps = config.model.times.steps = 4000
    config.optimizer.denoiser = adam(1e-4)
    config.average.denoiser = 0.9999
    config.train.update(steps=500_000, sample_every=50_000, evaluate_every=0)
    config.sample.steps = 4000
    config.checkpoint.every = 10_000


VARIANTS = configs.variants(mnist, cifar10)
