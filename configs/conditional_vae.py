"""Conditional VAE (Kingma et al. 2014, model M2 with every label given; Sohn et al. 2015) on binarised digits, 28x28.

    python -m genlab.main --config=configs/conditional_vae.py

The encoder and the decoder are conditioned on the class, so the latents represent the style. Samples are conditioned on
the classes of held-out examples.
Expect a KL divergence of about 10.6 nats, against 15 for the unconditional VAE. The class alone carries log 10 = 2.3
nats.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import variational
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('variational')
    config.data.update(source='digits', resolution=28, channels=1, batch_size=100, binarise=True, resident=True)
    config.model.update(variational.settings(named('dense', features=(200, 200)), latent_size=20, classes='auto'))
    config.losses.vae = dict(reconstruction=1.0, kl=1.0)
    config.optimizer.vae = adam(1e-3)
    config.average.update(encoder=0.999, decoder=0.999)
    config.train.update(steps=10_000, steps_per_call=50, log_every=250, sample_every=2500, evaluate_every='end')
    config.sample.condition = True
    config.checkpoint.every = 2500
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST with dynamic binarisation."""
    configs.tfds(config, 'mnist')
    config.sample.chunk = 500
    config.evaluate.count = 10_000


VARIANTS = configs.variants(mnist)
