"""StyleGAN2 (Karras et al. 2020) on scikit-learn's handwritten digits, resized to 32x32.

python -m genlab.main --config=configs/stylegan2.py

At 32x32, path lengths and mixed styles are left out, as Karras et al. 2020 ("Training GANs with Limited Data", appendix
C) leave them out for CIFAR-10: with both, all samples are similar after 60,000 digits. The variants of faces have both.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import half_life, lazy
from genlab.models import adversarial
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('gan')
    config.data.update(source='digits', resolution=32, channels=1, batch_size=16)
    config.model.update(adversarial.settings(named('stylegan2', base=512, most=64, width=64, layers=2), latent_size=64))
    config.losses.discriminator = dict(adversarial=1.0, r1=lazy(0.02, 16), logit_gap=0.0, real_sign=0.0)
    config.losses.generator = dict(adversarial=1.0)
    config.optimizer.discriminator = _lazy_adam(16)
    config.optimizer.generator = adam(2e-3, b1=0.0, b2=0.99)
    config.average.update(mapping=half_life(10_000, rampup=0.05), generator=half_life(10_000, rampup=0.05))
    config.train.update(order=('discriminator', 'generator'), steps=5000, sample_every=1000, evaluate_every='end')
    config.sample.truncation = 1.0
    return configs.vary(config, variant, VARIANTS)


def _lazy_adam(every):
    share = every / (every + 1)  # corrects for the steps without the penalty (appendix B)
    return adam(2e-3 * share, b1=0.0, b2=0.99**share)


def mnist(config):
    """MNIST through TFDS, 32x32."""
    configs.tfds(config, 'mnist')
    config.train.update(steps=20_000, sample_every=2000)
    config.evaluate.count = 10_000


def ada(config):
    """Adaptive augmentation, for few images (Karras et al. 2020, "Training GANs with Limited Data")."""
    config.model.augment = named('ada')


def ffhq256(config):
    """256x256 images, half of the channels, from a folder (config.data.dir): 24,767,458 and 24,001,089 parameters."""
    _faces(config, 256, 16384, gamma=1.0, batch=64, group=8)


def ffhq1024(config):
    """1024x1024 images, configuration F, from a folder: 30,370,060 and 29,012,513 parameters; FID 2.84."""
    _faces(config, 1024, 32768, gamma=10.0, batch=32, group=4)


def _faces(config, resolution, base, gamma, batch, group):
    config.data.update(source='folder', resolution=resolution, channels=3, batch_size=batch, flip=True)
    config.model.networks.update(base=base, most=512, width=512, layers=8, group=group, clamp=0.0)
    config.model.update(latent_size=512, mixing=0.9, path_decay=0.01)
    config.losses.discriminator.r1.weight = gamma
    config.losses.generator.path_length = lazy(2.0, 4)
    config.optimizer.generator = _lazy_adam(4)
    config.train.update(steps=25_000_000 // batch, sample_every=5000, evaluate_every=0)
    config.checkpoint.every = 5000


VARIANTS = configs.variants(mnist, ada, ffhq256, ffhq1024)
