"""Variational diffusion (Kingma et al. 2021): the loss is the bound in continuous time; the noise schedule is learned.

    python -m genlab.main --config=configs/vdm.py

The figure to compare is `bits_per_dimension_bound`, for the 8-bit levels without dequantisation.

Expect about 1.8 bits per dimension after 12 minutes on 2 cores (docs/diffusion.md).
"""

from genlab import config as configs
from genlab.choices import named
from genlab.diffusion import settings
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('diffusion')
    config.data.update(source='digits', resolution=16, channels=1, batch_size=64, resident=True)
    network = named('variational', width=32, depth=2, dropout=0.0)
    config.model.update(
        settings.model(
            network,
            process=named('learned', lowest=-13.3, highest=5.0, width=256),
            times=named('uniform'),
            level='log_snr',
            bound=named('continuous'),
        )
    )
    config.losses.denoiser = dict(bound=1.0, epsilon=0.0)
    config.optimizer.denoiser = adam(1e-3, b2=0.99, clip=1.0, warmup=200)
    config.average.update(denoiser=0.999, schedule=0.999)
    config.train.update(steps=2000, log_every=100, sample_every=1000, evaluate_every='end')
    config.sample.update(settings.sample(sampler=named('ancestral', variance='small'), steps=50))
    config.evaluate.parts = ('quality', 'held_out')
    config.explore.update(examples=64, inversions=0)
    config.checkpoint.every = 1000
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST at 28x28."""
    configs.tfds(config, 'mnist', 28)
    config.train.update(steps=6000)
    config.sample.chunk = 250
    config.evaluate.count = 10_000


def cifar10(config):
    """CIFAR-10 as in the paper, with the released network: 30,578,181 parameters, the two of the schedule included.

    Expect 2.64 bits per dimension after 10 million steps."""
    configs.tfds(config, 'cifar10', 32)
    config.data.update(batch_size=128)
    config.model.network = named('variational', width=128, depth=32, dropout=0.1)
    config.model.process.width = 0  # a linear schedule with two learned ends, as in the released model
    config.optimizer.denoiser = adam(2e-4, b2=0.99, weight_decay=0.01, clip=1.0, warmup=100)
    config.average.update(denoiser=0.9999, schedule=0.9999)
    config.train.update(steps=10_000_000, sample_every=100_000, evaluate_every=0)
    config.sample.steps = 1000
    config.checkpoint.every = 10_000


VARIANTS = configs.variants(mnist, cifar10)
