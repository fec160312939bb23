"""Discrete VAE of DALL-E (Ramesh et al. 2021) on scikit-learn's handwritten digits, 16x16: a 4x4 grid of 64 entries.

    python -m genlab.main --config=configs/dvae.py

Each latent is categorical. A Gumbel-softmax relaxation replaces its draws; its temperature falls to 1/16. Digits are
dequantised, because a density over few grey levels has no upper bound.

The variant dalle has reference figures: 53,786,240 parameters of the encoder and 43,829,766 of the decoder.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import discrete
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('dvae')
    config.data.update(source='digits', resolution=16, channels=1, batch_size=64, dequantise=True, resident=True)
    config.model.update(
        discrete.settings(
            named('dalle', width=32, groups=3, blocks=2, start=32),
            named('gumbel', entries=64, temperature=configs.ramp(1.0, 1 / 16, steps=1500)),
        )
    )
    config.losses.vae = dict(reconstruction=1.0, kl=configs.ramp(0.0, 6.6, steps=500), perplexity=0.0)
    config.optimizer.vae = adam(configs.ramp(2e-3, 1e-4), clip=100.0)
    config.average.update(encoder=0.99, decoder=0.99)
    config.train.update(steps=2000, steps_per_call=10, log_every=100, sample_every=500, evaluate_every='end')
    config.checkpoint.every = 500
    return configs.vary(config, variant, VARIANTS)


def scenes(config):
    """Coloured shapes at 32x32: an 8x8 grid of 128 entries.

    A latent represents 48 values, a quarter of the paper's 192. With the paper's weight of 6.6 the shapes are lost."""
    config.data.update(source='scenes', resolution=32, channels=3, batch_size=32, dequantise=False, resident=False)
    config.model.quantizer.entries = 128
    config.losses.vae.kl = configs.ramp(0.0, 1.0, steps=500)
    config.train.update(steps_per_call=1)


def single(config):
    """Scenes with one shape, without the combinations of kind, colour and place that are held out: for dalle.py."""
    scenes(config)
    config.data.update(shapes=1, hold_out=True)


def dalle(config):
    """The paper's networks on 256x256 images from a folder (config.data.dir): a 32x32 grid of 8,192 entries."""
    config.data.update(
        source='folder', resolution=256, channels=3, batch_size=512, flip=True, dequantise=False, resident=False
    )
    config.model.networks = named('dalle', width=256, groups=4, blocks=2, start=128)
    config.model.quantizer = named('gumbel', entries=8192, temperature=configs.ramp(1.0, 1 / 16, steps=150_000))
    config.losses.vae.kl = configs.ramp(0.0, 6.6, steps=5000)
    config.optimizer.vae = adam(configs.ramp(1e-4, 1.25e-6, steps=1_200_000), weight_decay=1e-4)
    config.average.update(encoder=0.999, decoder=0.999)
    config.train.update(steps=3_000_000, steps_per_call=1, log_every=500, sample_every=50_000)
    config.checkpoint.every = 10_000


VARIANTS = configs.variants(scenes, single, dalle)
