"""pix2pix (Isola et al. 2017): pictures of scenes from maps of the kinds of their shapes, 32x32.

    python -m genlab.main --config=configs/pix2pix.py

A map says nothing about colours, which the generator has to make up. The pictures show held-out maps above samples of
them. On your own pairs of images, in the layouts that docs/data.md describes:

    python -m genlab.main --config=configs/pix2pix.py:pairs --config.data.dir=...

`--mode=sample --input=FILE or FOLDER` translates other images. The variant facades has reference figures: 54,413,955
and 2,768,705 parameters.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import translation


def get_config(variant=''):
    config = configs.defaults('translation')
    config.data.update(source='scenes', resolution=32, channels=3, batch_size=16, fields=('segmentation',))
    config.model.update(
        translation.settings(
            named('unet', width=32, depth=5, dropout=0.5, normalization='batch'),
            named('patch', width=32, layers=2, normalization='batch'),
            input='segmentation',
        )
    )
    config.losses.discriminator = dict(adversarial=0.5, logit_gap=0.0)
    config.losses.generator = dict(adversarial=1.0, l1=100.0)
    translation.decay(config, 4000)
    config.train.update(
        order=('discriminator', 'generator'),
        steps_per_call=10,
        log_every=100,
        sample_every=500,
        evaluate_every='end',
    )
    return configs.vary(config, variant, VARIANTS)


def edges(config):
    """Pictures of scenes from the outlines of their shapes."""
    config.data.fields = ('edges',)
    config.model.input = 'edges'


def pairs(config):
    """Your own pairs of images, 64x64, with random crops and flips. Give their folder by --config.data.dir=..."""
    config.data.update(source='pairs', fields=('input',), resolution=64, flip=True, jitter=8)
    config.model.input = 'input'
    config.model.generator.update(width=64, depth=6)
    config.model.discriminator.update(width=64, layers=3)
    translation.decay(config, 20_000)
    config.train.sample_every = 1000


def emoji(config):
    """From one style of emoji to another, 64x64: the folder --config.data.dir=... has the images of both in the folders
    noto and fluentui, by the same names. They are not flipped, because some are letters."""
    pairs(config)
    config.data.update(name='noto,fluentui', flip=False, jitter=4)
    translation.decay(config, 10_000)


def facades(config):
    """Photos of facades from maps of their parts, in the size of the paper: 256x256, batches of one, 200 epochs of 400
    images. A file of this set has the photo on the left and the map, drawn in colours, on the right. With a batch of
    one, batch normalisation takes the statistics of single images, also at test time (section 3.3). The innermost
    decoder layer has no dropout, as in the PyTorch code of the authors, whose weights this variant takes."""
    pairs(config)
    config.data.update(name='B,A', resolution=256, batch_size=1, jitter=30)
    config.model.generator.update(depth=8, normalization='affine_instance', skipped=1)
    config.model.discriminator.normalization = 'affine_instance'
    translation.decay(config, 80_000)
    config.train.update(steps_per_call=1, sample_every=2000)
    config.checkpoint.every = 2000


VARIANTS = configs.variants(edges, pairs, emoji, facades)
