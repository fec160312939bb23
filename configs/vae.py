"""Variational autoencoder (Kingma and Welling 2014) on scikit-learn's handwritten digits, 28x28.

The binarisation is dynamic: pixels are sampled again at each reading.

    python -m genlab.main --config=configs/vae.py

Expect about 275 nats (`nll_bound`): many grey pixels of the enlarged digits are binarised almost at random. The
published setting on MNIST is mnist_long. Burda et al. 2016, table 1, report 86.8 nats of importance-weighted NLL for
784-200-200-50, and 84.8 for iwae with 50 samples.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import ramp
from genlab.models import variational
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('variational')
    config.data.update(source='digits', resolution=28, channels=1, batch_size=100, binarise=True, resident=True)
    config.model.update(variational.settings(named('dense', features=(200, 200)), latent_size=20))
    config.losses.vae = dict(reconstruction=1.0, kl=1.0)
    config.optimizer.vae = adam(1e-3)
    config.average.update(encoder=0.999, decoder=0.999)
    config.train.update(steps=10_000, steps_per_call=50, log_every=250, sample_every=2500, evaluate_every='end')
    config.checkpoint.every = 2500
    return configs.vary(config, variant, VARIANTS)


def convolutional(config):
    """Convolutions at 32x32, and a discretized logistic over 256 grey levels (Salimans et al. 2017, one component)."""
    config.data.update(resolution=32, binarise=False, batch_size=64)
    config.model.networks = named('convolutional', width=16)
    config.model.likelihood = named('discretized_logistic')
    config.train.update(steps=4000, steps_per_call=1, sample_every=1000)
    config.checkpoint.every = 1000


def spatial(config):
    """Codes on a 4x4 grid for 16x16 digits, with a small KL weight.

    It is the first stage of configs/latent_diffusion.py:frozen.

    Evaluate it by its reconstructions (37 dB), not its samples: the codes do not follow the prior."""
    config.data.update(resolution=16, binarise=False, batch_size=64)
    config.model.networks = named('spatial', width=8, multipliers=(1, 2, 4), blocks=1)
    config.model.latent_size, config.model.likelihood = 4, named('gaussian', scale=0.1)
    config.losses.vae.kl = 0.01
    config.optimizer.vae = adam(2e-3, clip=100.0, warmup=100)
    config.average.update(encoder=0.99, decoder=0.99)
    config.train.update(steps=1000, steps_per_call=1, sample_every=500)
    config.checkpoint.every = 500


def spatial_mnist(config):
    """MNIST at 32x32, with codes on an 8x8 grid."""
    spatial(config)
    configs.tfds(config, 'mnist', 32)
    config.data.update(batch_size=128)
    config.model.networks.width = 16
    config.train.update(steps=4000)
    config.sample.chunk = 250
    config.evaluate.count = 10_000


def kl_f8(config):
    """The published KL-f8 on 256x256 images from a folder (config.data.dir): 83,653,863 parameters, codes of 32x32x4.

    It lacks the perceptual and adversarial terms of Rombach et al. 2022, so its reconstructions are smoother."""
    spatial(config)
    config.data.update(source='folder', resolution=256, channels=3, batch_size=12, flip=True, resident=False)
    config.model.networks = named('spatial', width=128, multipliers=(1, 2, 4, 4), blocks=2)
    config.model.likelihood = named('gaussian', scale=1.0)
    config.losses.vae.kl = 1e-6
    config.optimizer.vae = adam(4.5e-6 * 12, b1=0.5, b2=0.9)
    config.average.update(encoder=0.999, decoder=0.999)
    config.train.update(steps=500_000, sample_every=10_000, evaluate_every=0)
    config.checkpoint.every = 10_000


def gaussian(config):
    """Dequantised grey levels, and a Gaussian density with one learned scale."""
    config.data.update(binarise=False, dequantise=True)
    config.model.likelihood = named('gaussian')


def ramped(config):
    """Free bits (Kingma et al. 2016) and a KL weight that increases to a beta of 2 in the first 2,000 steps."""
    config.model.free_bits = 0.1
    config.losses.vae = dict(reconstruction=1.0, free_bits_kl=ramp(0.0, 2.0, 2000), kl=0.0)


def moons(config):
    """Two moons in the plane: a Gaussian with a learned scale around each decoded point."""
    config.data.update(source='toy', name='moons', observe='point', binarise=False, batch_size=128)
    config.model.networks, config.model.likelihood = named('dense', features=(64, 64)), named('gaussian')
    config.model.update(latent_size=2, dimensions=2)
    config.sample.update(count=2000, chunk=2000)


def mnist(config):
    """MNIST with dynamic binarisation, and layers 784-200-200-50 as in Burda et al. 2016."""
    configs.tfds(config, 'mnist')
    config.model.latent_size = 50
    config.losses.vae.kl = ramp(0.0, 1.0, 10_000)  # without the ramp many latents become inactive early
    config.optimizer.vae.learning_rate = ramp(2e-3, 1e-4)
    config.train.update(steps=110_000, log_every=1000, sample_every=10_000)
    config.checkpoint.every = 10_000
    config.sample.chunk = 500
    config.evaluate.update(count=10_000, importance=500)


def mnist_long(config):
    """MNIST, trained for about an hour."""
    mnist(config)
    config.optimizer.vae.learning_rate = ramp(1e-3, 5e-5)
    config.train.update(steps=600_000, sample_every=100_000)
    config.checkpoint.every = 50_000


def iwae(config):
    """Importance-weighted autoencoder (Burda et al. 2016) on MNIST, 50 samples, their batches of 20; about an hour."""
    mnist(config)
    config.data.batch_size = 20
    config.model.importance = 50
    config.losses.vae = dict(importance_weighted=1.0, reconstruction=0.0, kl=0.0)
    config.optimizer.vae.learning_rate = ramp(1e-3, 1e-4)
    config.train.update(steps=100_000, steps_per_call=10)


VARIANTS = configs.variants(
    convolutional, spatial, spatial_mnist, kl_f8, gaussian, ramped, moons, mnist, mnist_long, iwae
)
