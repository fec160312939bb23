"""Hierarchical VAE, three dense levels with bidirectional inference (Kingma et al. 2016), on binarised digits, 28x28.

    python -m genlab.main --config=configs/hierarchical_vae.py

Expect about 276 nats (`nll_bound`), as with the VAE of one level; enlarged 8x8 digits need no hierarchy. All 36 latents
are active.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import ramp
from genlab.models import variational
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('variational')
    config.data.update(source='digits', resolution=28, channels=1, batch_size=100, binarise=True, resident=True)
    # Without free bits the upper levels stay inactive.
    config.model.update(
        variational.settings(named('ladder', features=(256, 128, 64)), latent_size=(16, 12, 8), free_bits=0.2)
    )
    config.losses.vae = dict(reconstruction=1.0, free_bits_kl=ramp(0.1, 1.0, 2000), kl=0.0)
    config.optimizer.vae = adam(1e-3)
    config.average.update(encoder=0.999, decoder=0.999)
    config.train.update(steps=10_000, steps_per_call=50, log_every=250, sample_every=2500, evaluate_every='end')
    config.checkpoint.every = 2500
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST with dynamic binarisation."""
    configs.tfds(config, 'mnist')
    config.sample.chunk = 500
    config.evaluate.update(count=10_000, importance=500)


VARIANTS = configs.variants(mnist)
