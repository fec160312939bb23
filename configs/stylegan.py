"""StyleGAN (Karras et al. 2019) on scikit-learn's handwritten digits: grows from 8x8 to 32x32 in three phases.

python -m genlab.main --config=configs/stylegan.py
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import adversarial, generators
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('gan')
    config.data.update(source='digits', resolution=32, channels=1, batch_size=16)
    config.model.update(
        adversarial.settings(
            named('stylegan', resolution=32, level=3, base=512, most=64, width=64, layers=2),
            latent_size=64,
        )
    )
    config.losses.discriminator = dict(adversarial=1.0, r1=1.0, logit_gap=0.0, real_sign=0.0)
    config.losses.generator = dict(adversarial=1.0)
    config.optimizer.discriminator = adam(1e-3, b1=0.0, b2=0.99)
    config.optimizer.generator = adam(1e-3, b1=0.0, b2=0.99)
    config.average.update(mapping=0.999, generator=0.999)
    config.train.update(order=('discriminator', 'generator'), sample_every=500, evaluate_every='end')
    config.sample.truncation = 1.0
    generators.grow(config, (8, 16, 32), (1500, 2000, 3500))
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST through TFDS, 32x32."""
    configs.tfds(config, 'mnist')
    config.losses.discriminator.r1 = 0.1
    config.evaluate.count = 10_000
    generators.grow(config, (8, 16, 32), (3000, 5000, 10_000))


def ffhq1024(config):
    """1024x1024 faces as in the paper, from a folder (config.data.dir): FID 4.40.

    The mapping has 2,101,248 parameters and the synthesis 24,118,379.
    """
    config.data.update(source='folder', channels=3, batch_size=32, flip=True)
    config.model.networks.update(base=16384, most=512, width=512, layers=8)
    config.model.update(latent_size=512, mixing=0.9)
    config.losses.discriminator.r1 = 10.0
    config.train.update(sample_every=10_000, evaluate_every=0)
    sides = (8, 16, 32, 64, 128, 256, 512, 1024)
    batches = {8: 256, 16: 128, 32: 64, 64: 32, 128: 32, 256: 32, 512: 32, 1024: 32}
    images = [600_000, *[1_200_000] * 6, 16_000_000]
    steps = tuple(number // batches[side] for side, number in zip(sides, images))
    generators.grow(config, sides, steps, **{f'at_{side}': size for side, size in batches.items()})
    config.checkpoint.every = 10_000


VARIANTS = configs.variants(mnist, ffhq1024)
