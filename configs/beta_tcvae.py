"""beta-TCVAE (Chen et al. 2018) on scenes, 32x32: total correlation costs extra, so that each latent means one thing.

    python -m genlab.main --config=configs/beta_tcvae.py
"""

from genlab import config as configs
from genlab.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('variational')
    config.data.update(source='scenes', resolution=32, channels=3, batch_size=64)
    config.model.update(networks='convolutional', width=16, latent_size=16, likelihood='gaussian', scale=0.2, classes=0,
                        dimensions=0, examples=100_000)
    config.losses.vae = dict(reconstruction=1.0, mutual_information=1.0, total_correlation=6.0, dimension_kl=1.0, kl=0.0)
    config.optimizer.vae = adam(1e-3)
    config.average.update(encoder=0.999, decoder=0.999)
    config.train.update(order=('vae',), steps=8000, log_every=200, sample_every=2000, evaluate_every=8000)
    config.checkpoint.every = 2000
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST in grey, 32x32 (config.data.dir: where it was prepared)."""
    config.data.update(source='tfds', name='mnist', channels=1)
    config.model.examples = 60_000


VARIANTS = {'mnist': mnist}
