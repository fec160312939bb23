"""EDM (Karras et al. 2022): continuous noise levels, inputs and outputs of unit variance, Heun's solver in 18 steps.

python -m genlab.main --config=configs/edm.py

Expect a Frechet distance of about 13 after 9 minutes on 2 cores (docs/diffusion.md).
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import half_life
from genlab.diffusion import settings
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('diffusion')
    config.data.update(source='digits', resolution=16, channels=1, batch_size=64, resident=True)
    network = named('unet', width=16, multipliers=(1, 3), blocks=1, patch=1, attention=(8,), heads=1, dropout=0.0)
    config.model.update(
        settings.model(
            network,
            process=named('ve', highest=80.0),
            prediction='edm',
            deviation=0.5,
            level='log_sigma',
            times=named('log_normal', mean=-1.2, deviation=1.2),
        )
    )
    config.losses.denoiser = dict(edm=1.0)
    config.optimizer.denoiser = adam(1e-3, clip=1.0, warmup=200)
    config.average.denoiser = 0.999
    config.train.update(steps=2500, log_every=100, sample_every=1250, evaluate_every='end')
    config.sample.update(settings.sample(sampler=named('heun'), grid=named('karras'), steps=18, clip=False))
    config.evaluate.parts = ('quality', 'held_out')
    config.explore.update(examples=64, inversions=0)
    config.checkpoint.every = 500
    return configs.vary(config, variant, VARIANTS)


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
    """Condition on the digit; guidance in an interval of noise levels (Kynkaanniemi et al. 2024): `mnist,guided`."""
    conditional(config)
    config.sample.update(guidance=2.0, guidance_from=0.2, guidance_to=5.0, condition=True)


def cifar10(config):
    """CIFAR-10 as in the paper, by DDPM++: 55,733,891 parameters; FID 1.97 after 200 million images.

    Flips are part of the augmentation, too.

    With labels, `cifar10,conditional`: 55,735,299 parameters; FID 1.79."""
    configs.tfds(config, 'cifar10', 32)
    config.data.update(batch_size=512)
    config.model.augmentation = 0.12
    config.model.network = named(
        'unet',
        width=128,
        multipliers=(2, 2, 2),
        blocks=4,
        attention=(16,),
        attend_last=True,
        heads=1,
        dropout=0.13,
        resample='block',
        skip_scale=0.5**0.5,
        label_table=False,
        augmentation=9,
    )
    # The authors sum over pixels. The scale matters to Adam's epsilon alone: a mean makes it 3072 times as large.
    config.losses.denoiser.edm = float(config.data.resolution**2 * config.data.channels)
    # 10 million images of warmup, of 200 million.
    config.optimizer.denoiser = adam(1e-3, warmup=19_531)
    config.average.denoiser = half_life(500_000, rampup=0.05)
    config.train.update(steps=390_625, sample_every=20_000, evaluate_every=0)
    config.checkpoint.every = 10_000


def cifar10_ncsnpp(config):
    """CIFAR-10 as in the paper, by NCSN++: 56,397,827 parameters; FID 1.98."""
    cifar10(config)
    config.model.network.update(fourier=True, smooth=True, residual_input=True)


VARIANTS = configs.variants(conditional, guided, mnist, cifar10, cifar10_ncsnpp)
