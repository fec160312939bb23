"""DDPM (Ho, Jain and Abbeel 2020) on handwritten digits, 16x16: 1,000 diffusion steps, a U-Net predicts the noise.

    python -m genlab.main --config=configs/ddpm.py

The default sampler takes 100 ancestral steps. A trained network works with other samplers too:
--mode=sample --config.sample.sampler=ddim --config.sample.steps=20, also heun, dpm_solver, ... (all in
genlab.diffusion.settings).

Expect a Frechet distance of about 22 after 8 minutes on 2 cores, with 50 sampling steps (docs/diffusion.md).
"""

from genlab import config as configs
from genlab.choices import named
from genlab.diffusion import settings
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('diffusion')
    config.data.update(source='digits', resolution=16, channels=1, batch_size=64, resident=True)
    network = named('unet', width=16, multipliers=(1, 3), blocks=1, patch=1, attention=(8,), heads=1, dropout=0.0)
    config.model.update(settings.model(network, bound=named('discrete')))
    config.losses.denoiser = dict(epsilon=1.0)
    config.optimizer.denoiser = adam(1e-3, clip=1.0, warmup=200)
    config.average.denoiser = 0.999
    config.train.update(steps=2500, log_every=100, sample_every=1250, evaluate_every='end')
    config.sample.update(settings.sample(sampler=named('ancestral'), steps=100))
    config.evaluate.parts = ('quality', 'held_out')
    config.explore.update(examples=64, inversions=0)  # codes are noise: to encode costs as much as to sample
    config.checkpoint.every = 500
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST at 32x32."""
    configs.tfds(config, 'mnist', 32)
    config.model.network.update(width=32, multipliers=(1, 2), patch=2)
    config.train.update(steps=6000)
    config.sample.sampler = named('ddim')
    config.sample.update(steps=50, chunk=250)
    config.evaluate.count = 10_000


def cifar10(config):
    """CIFAR-10 as in the paper: 35,746,307 parameters, 800,000 steps; FID 3.17."""
    configs.tfds(config, 'cifar10', 32)
    config.data.update(batch_size=128, flip=True)
    config.model.network = named(
        'unet', width=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(16,), heads=1, dropout=0.1
    )
    config.optimizer.denoiser = adam(2e-4, clip=1.0, warmup=5000)
    config.average.denoiser = 0.9999
    config.train.update(steps=800_000, sample_every=50_000, evaluate_every=0)
    config.sample.steps = 1000
    config.checkpoint.every = 10_000


def lsun256(config):
    """256x256 images as in the paper, from a folder (config.data.dir): 113,673,219 parameters."""
    cifar10(config)
    config.data.update(source='folder', resolution=256, batch_size=64)
    config.model.network.update(multipliers=(1, 1, 2, 2, 4, 4), dropout=0.0)
    config.model.remat = True
    config.optimizer.denoiser.learning_rate = 2e-5


VARIANTS = configs.variants(mnist, cifar10, lsun256)
