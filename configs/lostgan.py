"""LostGAN (Sun and Wu 2019, version 1): scenes from boxes and their kinds, 32x32.

    python -m genlab.main --config=configs/lostgan.py

Samples have the layouts of held-out scenes; `--mode=sample --boxes=layout.json` draws layouts of your own. The latent
of an object decides its colour, and the latent of the image the background: the layout says nothing about them.
The evaluator `layouts` classifies the objects in their boxes, in samples and in real scenes.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.data.layouts import FIELDS
from genlab.models import layout
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('layout')
    config.data.update(source='scenes', resolution=32, channels=3, batch_size=16, fields=FIELDS)
    generator = named('isla', width=16, embedding=64, mask_width=32)
    discriminator = named('roi', width=16, halvings=(True, False, True, True), taps=(1,), total=True)
    config.model.update(layout.settings(generator, discriminator, latent_size=64))
    config.losses.discriminator = dict(image=0.1, object=1.0, logit_gap=0.0, object_gap=0.0)
    config.losses.generator = dict(image=0.1, object=1.0)
    for player in ('discriminator', 'generator'):
        config.optimizer[player] = adam(5e-4, b1=0.0, b2=0.99)
    config.average.generator = 0.99
    config.train.update(
        order=('discriminator', 'generator'),
        steps=3000,
        steps_per_call=10,
        log_every=100,
        sample_every=500,
        evaluate_every='end',
    )
    return configs.vary(config, variant, VARIANTS)


def long(config):
    """Five times as many steps: objects are of their class 0.81 times as often as in real scenes."""
    config.train.update(steps=15_000, log_every=750, sample_every=2500)


def scenes64(config):
    """Scenes at 64x64."""
    config.data.resolution = 64
    config.model.discriminator.halvings = (True, False, True, True, True)
    config.train.update(steps=20_000, sample_every=1000)


def coco64(config):
    """Networks, losses and optimizers of the paper for 64x64 images with 184 classes.

    COCO-Stuff itself has no source here; scenes stand in.
    """
    config.data.update(resolution=64, batch_size=128)
    config.model.generator.update(width=64, embedding=128, mask_width=128)
    config.model.discriminator = named('roi', width=64, halvings=(False, False, True, True, True), taps=(2,))
    config.model.update(latent_size=128, object_classes=184)
    for player in ('discriminator', 'generator'):
        config.optimizer[player] = adam(1e-4, b1=0.0, b2=0.999)
    config.average = configs.untyped()
    config.train.update(steps=115_000, steps_per_call=1, sample_every=5000, evaluate_every=0)  # 200 epochs of 74,121
    config.checkpoint.every = 5000


def coco128(config):
    """As coco64, for 128x128 images: a generator of 36,296,036 and a discriminator of 57,881,538 parameters.

    FID 29.65 and Inception score 13.8 on COCO-Stuff in the paper.
    """
    coco64(config)
    config.data.resolution = 128
    config.model.generator.embedding = 180
    config.model.discriminator = named(
        'roi', width=64, halvings=(True, True, True, True, True, False), taps=(1, 2), total=True
    )


VARIANTS = configs.variants(long, scenes64, coco64, coco128)
