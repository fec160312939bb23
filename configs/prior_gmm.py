"""A Gaussian mixture model as the prior of another run's continuous codes: two stages (Ghosh et al. 2020, section 4).

    python -m genlab.main --config=configs/vae.py
    python -m genlab.main --config=configs/prior_gmm.py

The first command trains the autoencoder. `--config.model.tokenizer=runs/...` names the run of any other VAE. The codes
are the means of its posterior. Samples are decoded, so their figures stand beside those of the VAE with its own prior.
"""

from genlab import config as configs
from genlab.models import mixture


def get_config(variant=''):
    config = configs.defaults('gmm')
    configs.codes(config, 'runs/vae')
    config.data.update(batch_size=1500, resident=True)
    config.model.update(mixture.settings(10, floor=1e-4, restarts=4))
    config.train.update(steps=100, steps_per_call=10, log_every=10, sample_every='end', evaluate_every='end')
    config.sample.residual = False
    config.evaluate.parts = ('quality', 'held_out')
    config.checkpoint.every = 100
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """Codes of the VAE of MNIST: --config=configs/vae.py:mnist."""
    config.model.tokenizer = 'runs/vae-mnist'
    config.data.batch_size = 60_000
    config.model.update(components=50, restarts=1)


VARIANTS = configs.variants(mnist)
