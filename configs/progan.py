"""ProGAN (Karras et al. 2018) on scikit-learn's handwritten digits: grows from 8x8 to 32x32 in three phases.

python -m genlab.main --config=configs/progan.py
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import adversarial, generators
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('gan')
    config.data.update(source='digits', resolution=32, channels=1, batch_size=32)
    config.model.update(
        adversarial.settings(
            named('progressive', resolution=32, level=3, base=1024, most=64), latent_size=64, pair='wasserstein'
        )
    )
    config.losses.discriminator = dict(
        adversarial=1.0, gradient_penalty=10.0, drift=0.001, logit_gap=0.0, real_sign=0.0
    )
    config.losses.generator = dict(adversarial=1.0)
    config.optimizer.discriminator = adam(1e-3, b1=0.0, b2=0.99)
    config.optimizer.generator = adam(1e-3, b1=0.0, b2=0.99)
    config.average.generator = 0.999
    config.train.update(order=('discriminator', 'generator'), sample_every=500, evaluate_every='end')
    generators.grow(config, (8, 16, 32), (1000, 1000, 1200))
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST through TFDS, 32x32."""
    configs.tfds(config, 'mnist')
    config.evaluate.count = 10_000
    generators.grow(config, (8, 16, 32), (1000, 1500, 2200))


def cifar10(config):
    """CIFAR-10 as in the paper: 20,719,628 and 20,726,785 parameters; Inception score 8.80."""
    configs.tfds(config, 'cifar10', 32)
    config.data.update(batch_size=16, flip=True)
    config.model.networks.update(base=16384, most=512)
    config.model.latent_size = 512
    config.train.update(sample_every=10_000, evaluate_every=0)
    generators.grow(config, (4, 8, 16, 32), (37_500, 75_000, 75_000, 600_000))
    config.checkpoint.every = 10_000


def celebahq1024(config):
    """1024x1024 faces as in the paper, from a folder (config.data.dir): 23,079,115 and 23,087,249 parameters."""
    config.data.update(source='folder', channels=3, batch_size=16, flip=True)
    config.model.networks.update(base=16384, most=512)
    config.model.latent_size = 512
    config.train.update(sample_every=10_000, evaluate_every=0)
    sides = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
    batches = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 8, 1024: 8}
    steps = tuple((800_000 if side == 4 else 1_600_000) // batches[side] for side in sides)
    generators.grow(config, sides, steps, **{f'at_{side}': size for side, size in batches.items()})
    config.checkpoint.every = 10_000


VARIANTS = configs.variants(mnist, cifar10, celebahq1024)
