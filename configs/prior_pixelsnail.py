"""PixelSNAIL (Chen et al. 2018) over the codes of a VQ-VAE-2 (Razavi et al. 2019): a prior of each grid.

    python -m genlab.main --config=configs/vq_vae2.py
    python -m genlab.main --config=configs/prior_pixelsnail.py

The first command trains the tokenizer. The prior of the bottom grid is conditioned on the top grid, and has no
attention. For a tokenizer with one grid, take the variant single.

The variant faces has reference figures: 84,873,280 parameters of the top prior, 89,762,816 of the bottom one.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import autoregressive
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('prior')
    config.data.update(batch_size=32, resident=True)
    sizes = dict(width=32, blocks=2, residual_blocks=2, heads=4, dropout=0.1)
    config.model.update(
        autoregressive.settings(
            named('pixelsnail', **sizes), lower=named('pixelsnail', attention=False, **sizes), classes='auto'
        )
    )
    configs.codes(config, 'runs/vq_vae2')
    for player in ('top', 'bottom'):
        config.losses[player] = dict(cross_entropy=1.0)
        config.optimizer[player] = adam(configs.ramp(1e-3, 0.0), clip=10.0)
        config.average[player] = 0.99
    config.train.update(steps=1000, sample_every=250, evaluate_every='end')
    config.sample.update(autoregressive.sampling())
    return configs.vary(config, variant, VARIANTS)


def single(config):
    """One prior, of the codes of configs/vq_vae.py."""
    configs.codes(config, 'runs/vq_vae')
    for part in (config.losses, config.optimizer, config.average):
        part.prior = part.top
        del part.top, part.bottom


def scenes(config):
    """Coloured shapes at 64x64, without classes: codes of configs/vq_vae2.py:scenes."""
    configs.codes(config, 'runs/vq_vae2-scenes')
    config.model.classes = 0
    config.train.update(steps=2000, sample_every=500)


def faces(config):
    """The size of a public implementation for 256x256 images, without classes: codes of configs/vq_vae2.py:faces."""
    configs.codes(config, 'runs/vq_vae2-faces')
    config.model.update(
        network=named('pixelsnail', raster=False),
        lower=named('pixelsnail', attention=False, raster=False),
        classes=0,
    )
    config.data.resident = False
    config.train.update(steps=400_000, sample_every=20_000, evaluate_every=0)
    config.checkpoint.every = 5000


VARIANTS = configs.variants(single, scenes, faces)
