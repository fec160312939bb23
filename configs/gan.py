"""GAN of dense layers (Goodfellow et al. 2014) on a ring of eight Gaussians in the plane.

python -m genlab.main --config=configs/gan.py

Expect all 8 modes and 97 % of the samples within three deviations after 15 seconds on one core (docs/RESULTS.md).
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import adversarial
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('gan')
    config.data.update(source='toy', name='ring', observe='point', batch_size=128, resident=True)
    config.model.update(adversarial.settings(named('dense', features=(64, 64)), latent_size=16, dimensions=2))
    config.losses.discriminator = dict(adversarial=1.0, r1=1.0, logit_gap=0.0, real_sign=0.0)
    config.losses.generator = dict(adversarial=1.0)
    config.optimizer.discriminator = adam(1e-3, b1=0.5)
    config.optimizer.generator = adam(1e-3, b1=0.5)
    config.average.generator = 0.999
    config.train.update(
        order=('discriminator', 'generator'),
        steps=30_000,
        steps_per_call=200,
        log_every=1000,
        sample_every=3000,
        evaluate_every='end',
    )
    config.sample.update(count=2000, chunk=2000)
    config.checkpoint.every = 10_000  # one second of training
    return configs.vary(config, variant, VARIANTS)


def grid(config):
    """A grid of 25 Gaussians."""
    config.data.name = 'grid'
    config.losses.discriminator.r1 = 0.1  # with 1.0 one seed in two misses modes
    config.optimizer.generator.learning_rate = 5e-4  # with 1e-3 one seed in five misses modes
    config.model.networks.features = (64, 64, 64)


def curve(config):
    """The curve (x, x^2)."""
    config.data.name = 'curve'


def moons(config):
    """Two moons."""
    config.data.name = 'moons'


def digits(config):
    """Images of digits, 16x16."""
    config.data.update(source='digits', name='', observe='image', resolution=16, channels=1, batch_size=64)
    config.model.update(latent_size=64, dimensions=0)
    config.model.networks.features = (256, 512)
    config.optimizer.discriminator.learning_rate = config.optimizer.generator.learning_rate = 2e-4
    config.train.update(steps=10_000, steps_per_call=50, log_every=500, sample_every=2500)
    config.sample.update(count=64, chunk=64)


def saturating(config):
    """The original minimax loss, without a penalty: it fails, for comparison."""
    config.model.pair = 'saturating'
    config.losses.discriminator = dict(adversarial=1.0, logit_gap=0.0, real_sign=0.0)


def sweep_seed(hyper):
    return hyper.sweep('seed', range(8))


def sweep_lr(hyper):
    """The learning rate of both players."""
    rates = (3e-4, 1e-3, 3e-3)
    return hyper.zipit(
        [hyper.sweep(f'optimizer.{player}.learning_rate', rates) for player in ('discriminator', 'generator')]
    )


VARIANTS = configs.variants(grid, curve, moons, digits, saturating)
