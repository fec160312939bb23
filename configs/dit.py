"""DiT (Peebles and Xie 2023): a transformer over patches in place of a U-Net, conditioned on the digit.

It is trained by flow matching, as in SiT.

    python -m genlab.main --config=configs/dit.py

The variants s2, b2 and xl2 follow the paper: 256x256 images from a folder (config.data.dir) with 1,000 classes,
with learned variances. KL-f8 encodes the images to 32x32x4; config.model.first_stage is its run (configs/vae.py:kl_f8).

Expect 99 % of the requested digits after 8 minutes on 2 cores (docs/diffusion.md).
"""

from genlab import config as configs
from genlab.choices import named
from genlab.diffusion import settings
from genlab.models import variational
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('diffusion')
    config.data.update(source='digits', resolution=16, channels=1, batch_size=64, resident=True)
    network = named('transformer', patch=2, width=96, depth=4, heads=4, unrolled=True)
    config.model.update(
        settings.model(
            network,
            process=named('interpolant'),
            prediction='velocity',
            classes='auto',
            times=named('logit_normal', mean=0.0, deviation=1.0),
        )
    )
    config.losses.denoiser = dict(velocity=1.0)
    config.optimizer.denoiser = adam(1e-3, clip=1.0, warmup=300)
    config.average.denoiser = 0.999
    config.train.update(steps=3000, log_every=100, sample_every=1500, evaluate_every='end')
    config.sample.update(settings.sample(sampler=named('heun'), steps=25, clip=False, guidance=1.5, condition=True))
    config.evaluate.parts = ('quality', 'held_out')
    config.explore.update(examples=64, inversions=0)
    config.checkpoint.every = 1000
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST at 32x32."""
    configs.tfds(config, 'mnist', 32)
    config.data.update(batch_size=128)
    config.model.network.update(patch=4, width=128, depth=6)
    config.train.update(steps=8000)
    config.sample.chunk = 250
    config.evaluate.count = 10_000


def s2(config):
    """DiT-S/2: 32,963,360 parameters, position embeddings included."""
    _latents(config, width=384, depth=12, heads=6)


def b2(config):
    """DiT-B/2: 130,512,416 parameters."""
    _latents(config, width=768, depth=12, heads=12)


def xl2(config):
    """DiT-XL/2: 675,129,632 parameters; FID 2.27 on ImageNet 256x256 with guidance 1.5, after 7 million steps."""
    _latents(config, width=1152, depth=28, heads=16)
    config.model.remat = True  # without it, 16 examples per device need 20 GB for activations


def _latents(config, **size):
    config.experiment = 'latent_diffusion'
    config.data.update(source='folder', resolution=256, channels=3, batch_size=256, resident=False)
    config.model.update(
        prediction='epsilon', classes=1000, learned_variance=True, first_stage='runs/vae-kl_f8', scale_steps=100
    )
    config.model.autoencoder = variational.settings(
        named('spatial', width=128, multipliers=(1, 2, 4, 4), blocks=2),
        latent_size=4,
        likelihood=named('gaussian', scale=1.0),
    )
    # One compiled block: unrolled, XL/2 takes minutes.
    config.model.network = named('transformer', patch=2, endpoint=False, **size)
    config.model.process, config.model.times = named('linear', steps=1000), named('discrete', steps=1000)
    config.losses.denoiser = dict(epsilon=1.0, variance=0.001)
    config.optimizer.denoiser = adam(1e-4)
    config.average.denoiser = 0.9999
    config.train.update(steps=7_000_000, sample_every=50_000, evaluate_every=0)
    config.sample.update(
        settings.sample(
            sampler=named('ancestral', variance='learned'),
            steps=250,
            grid=named('linspace'),
            guidance=1.5,
            guidance_channels=3,
            clip=False,
        )
    )


def sweep_lr(hyper):
    return hyper.sweep('optimizer.denoiser.learning_rate', (1e-4, 2e-4))


VARIANTS = configs.variants(mnist, s2, b2, xl2)
