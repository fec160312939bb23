"""Flow matching (Lipman et al. 2023; rectified flow, Liu et al. 2023): predict the velocity of straight paths.

    python -m genlab.main --config=configs/flow_matching.py

Bits per dimension by the exact likelihood (slow; `evaluate.exact` is the number of held-out examples):

    python -m genlab.main --config=configs/flow_matching.py:dequantised --workdir=... --mode=evaluate \
        --config.evaluate.exact=64

Expect a Frechet distance of about 7 after 8 minutes on 2 cores (docs/diffusion.md).
"""

from genlab import config as configs
from genlab.choices import named
from genlab.diffusion import settings
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('diffusion')
    config.data.update(source='digits', resolution=16, channels=1, batch_size=64, resident=True)
    network = named('unet', width=16, multipliers=(1, 3), blocks=1, patch=1, attention=(8,), heads=1, dropout=0.0)
    config.model.update(
        settings.model(
            network,
            process=named('interpolant'),
            prediction='velocity',
            times=named('logit_normal', mean=0.0, deviation=1.0),
        )
    )
    config.losses.denoiser = dict(velocity=1.0)
    config.optimizer.denoiser = adam(1e-3, clip=1.0, warmup=200)
    config.average.denoiser = 0.999
    config.train.update(steps=2500, log_every=100, sample_every=1250, evaluate_every='end')
    config.sample.update(settings.sample(sampler=named('heun'), steps=25, clip=False))
    config.evaluate.parts = ('quality', 'held_out')
    config.explore.update(examples=64, inversions=0)
    config.checkpoint.every = 500
    return configs.vary(config, variant, VARIANTS)


def dequantised(config):
    """Dequantisation: noise makes the levels continuous, so the density of the flow bounds their probability."""
    config.data.dequantise = True


def conditional(config):
    """Condition the network on the class. The guidance scale of samples: --config.sample.guidance=2."""
    config.model.classes = 'auto'


def mnist(config):
    """MNIST at 32x32."""
    configs.tfds(config, 'mnist', 32)
    config.model.network.update(width=32, multipliers=(1, 2), patch=2)
    config.train.update(steps=6000)
    config.sample.chunk = 250
    config.evaluate.count = 10_000


def guided(config):
    """Condition the network on the digit, and sample with guidance towards held-out labels: `mnist,guided`."""
    conditional(config)
    config.sample.update(guidance=2.0, condition=True)


VARIANTS = configs.variants(dequantised, conditional, guided, mnist)
