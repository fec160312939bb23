"""beta-TCVAE (Chen et al. 2018) on binarised digits, 28x28.

A larger weight of the total correlation encourages disentangled latents.

    python -m genlab.main --config=configs/beta_tcvae.py

The estimates of the three parts have large constant errors of opposite signs (Chen et al., section 3.1). Compare their
changes only; `kl` is exact.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import variational
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('variational')
    config.data.update(source='digits', resolution=28, channels=1, batch_size=100, binarise=True, resident=True)
    config.model.update(variational.settings(named('dense', features=(200, 200)), latent_size=10))
    config.losses.vae = dict(
        reconstruction=1.0, mutual_information=1.0, total_correlation=4.0, dimension_kl=1.0, kl=0.0
    )
    config.optimizer.vae = adam(1e-3)
    config.average.update(encoder=0.999, decoder=0.999)
    config.train.update(steps=10_000, steps_per_call=50, log_every=250, sample_every=2500, evaluate_every='end')
    config.checkpoint.every = 2500
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST with dynamic binarisation."""
    configs.tfds(config, 'mnist')
    config.sample.chunk = 500
    config.evaluate.count = 10_000


def scenes(config):
    """Scenes of shapes with known factors, 32x32 in colour, with a Gaussian likelihood of fixed scale."""
    config.data.update(source='scenes', resolution=32, channels=3, batch_size=64, binarise=False, resident=False)
    config.model.networks, config.model.latent_size = named('convolutional', width=16), 16
    config.model.likelihood = named('gaussian', scale=0.2)
    config.train.update(steps=8000, steps_per_call=1, sample_every=2000)
    config.checkpoint.every = 2000


VARIANTS = configs.variants(mnist, scenes)
