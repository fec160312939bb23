"""VQGAN (Esser et al. 2021) on scikit-learn's handwritten digits, 32x32: an 8x8 grid, a codebook of 64 entries.

    python -m genlab.main --config=configs/vqgan.py

A discriminator of patches joins after 500 steps. Its weight is adapted, so that both gradients are equally long at the
last layer. The perceptual distance compares feature maps of the classifier of the data, which is trained first if the
cache does not have it. The evaluator uses the same classifier: figures in its features favour this model.

The variant f16 has reference figures: 71,879,555 parameters, 72,141,699 with its codebook of 1,024 x 256.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import vqgan
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('vqgan')
    config.data.update(source='digits', resolution=32, channels=1, batch_size=32, resident=True)
    config.model.update(
        vqgan.settings(
            named('spatial', width=16, multipliers=(1, 2, 4), blocks=1, attention=False),
            named('codebook', entries=64, latent_size=16, decay=0.99, patience=100),
            named('patch', width=16, layers=2),
            named('classifier', classes='auto'),
            pair='non_saturating',
        )
    )
    config.losses.vae = dict(
        absolute_error=1.0,
        perceptual=1.0,
        commitment=0.25,
        adversarial=configs.ramp(0.0, 0.8, steps=1, begin=500),
        adaptive_weight=0.0,
        perplexity=0.0,
    )
    config.losses.discriminator = dict(adversarial=configs.ramp(0.0, 0.5, steps=1, begin=500), logit_gap=0.0)
    config.optimizer.update(vae=adam(1e-3, b1=0.5, b2=0.9, clip=1.0), discriminator=adam(3e-4, b1=0.5, b2=0.9))
    config.train.update(
        order=('discriminator', 'vae'),
        steps=1500,
        steps_per_call=10,
        log_every=100,
        sample_every=500,
        evaluate_every='end',
    )
    config.checkpoint.every = 500
    return configs.vary(config, variant, VARIANTS)


def f16(config):
    """The paper's f16 with 1,024 entries on 256x256 images from a folder (config.data.dir): a 16x16 grid.

    A random network measures the perceptual distance. The paper's LPIPS needs the weights of a network of ImageNet."""
    config.data.update(source='folder', resolution=256, channels=3, batch_size=12, flip=True, resident=False)
    config.model.networks = named('spatial', width=128, multipliers=(1, 1, 2, 2, 4), blocks=2, attention=True)
    config.model.quantizer = named('codebook', entries=1024, latent_size=256, decay=0.0, patience=0)
    config.model.discriminator = named('patch', width=64, layers=3)
    config.model.perceptual = named('random')
    config.model.pair = 'hinge'
    config.losses.vae.codebook = 1.0
    config.losses.vae.adversarial = configs.ramp(0.0, 0.8, steps=1, begin=250_001)
    config.losses.discriminator.adversarial = configs.ramp(0.0, 0.5, steps=1, begin=250_001)
    config.optimizer.update(vae=adam(5.4e-5, b1=0.5, b2=0.9), discriminator=adam(5.4e-5, b1=0.5, b2=0.9))
    config.train.update(steps=500_000, steps_per_call=1, log_every=500, sample_every=10_000)
    config.checkpoint.every = 5000


VARIANTS = configs.variants(f16)
