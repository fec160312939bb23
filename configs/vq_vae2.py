"""VQ-VAE-2 (Razavi et al. 2019) on scikit-learn's handwritten digits, 32x32: grids of 4x4 and 8x8 with 64 entries each.

    python -m genlab.main --config=configs/vq_vae2.py

The top grid keeps the shape of a digit, the bottom grid its details: 96 and 384 bits per digit.

The variant faces has reference figures: all networks have 1,388,867 parameters, and two codebooks of 512 x 64 that
moving averages train.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import quantized
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('vq_vae2')
    config.data.update(source='digits', resolution=32, channels=1, batch_size=64, resident=True)
    config.model.update(
        quantized.settings(
            named('residual', width=32, halvings=2, blocks=1), named('codebook', entries=64, latent_size=16)
        )
    )
    config.losses.vae = dict(reconstruction=1.0, commitment=0.25, top_perplexity=0.0, bottom_perplexity=0.0)
    config.optimizer.vae = adam(1e-3)
    config.train.update(steps=1500, steps_per_call=10, log_every=100, sample_every=500, evaluate_every='end')
    config.checkpoint.every = 500
    return configs.vary(config, variant, VARIANTS)


def scenes(config):
    """Coloured shapes at 64x64: grids of 8x8 and 16x16."""
    config.data.update(source='scenes', resolution=64, channels=3, batch_size=32, resident=False)
    config.model.quantizer.update(entries=128, latent_size=32)
    config.train.update(steps=2000, steps_per_call=1)


def faces(config):
    """256x256 images from a folder (config.data.dir), with grids of 32x32 and 64x64."""
    config.data.update(source='folder', resolution=256, channels=3, batch_size=128, flip=True, resident=False)
    config.model.networks.update(width=128, blocks=2)
    config.model.quantizer.update(entries=512, latent_size=64)
    config.optimizer.vae = adam(3e-4)
    config.train.update(steps=250_000, steps_per_call=1, log_every=500, sample_every=10_000)
    config.checkpoint.every = 5000


VARIANTS = configs.variants(scenes, faces)
