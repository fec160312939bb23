"""CycleGAN (Zhu et al. 2017): between chalk drawings and pictures of scenes, 32x32, learned without pairs.

    python -m genlab.main --config=configs/cyclegan.py
    python -m genlab.main --config=configs/cyclegan.py --mode=sample --config.sample.direction=back

`forward` is from the input, the chalk style, to the picture; `back` is the other direction. On your own two sets of
images, in folders trainA and trainB:

    python -m genlab.main --config=configs/cyclegan.py:pairs --config.data.dir=...

Scenes are flat, and instance normalisation would remove the colour of the background. So the default normalises over
the batch; the variants have the instance normalisation of the paper. The losses halve the squares, so the weight of the
generators' adversarial terms is 2. In the units of the paper it is 1, with 10 for cycles and 5 for identities. The
variant horse2zebra has reference figures: 11,378,179 parameters for each generator and 2,764,737 for each
discriminator.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import cycle, translation


def get_config(variant=''):
    config = configs.defaults('cycle')
    config.data.update(source='scenes', resolution=32, channels=3, batch_size=4, fields=('style',), unpaired='style')
    config.model.update(
        cycle.settings(
            named('resnet', width=32, blocks=4, normalization='batch'),
            named('patch', width=32, layers=2, normalization='batch'),
            input='style',
        )
    )
    config.losses.discriminator = dict(
        adversarial_forward=1.0, adversarial_back=1.0, logit_gap_forward=0.0, logit_gap_back=0.0
    )
    config.losses.generator = dict(
        adversarial_forward=2.0,
        adversarial_back=2.0,
        cycle_forward=10.0,
        cycle_back=10.0,
        identity_forward=5.0,
        identity_back=5.0,
    )
    translation.decay(config, 2000)
    config.train.update(
        order=('discriminator', 'generator'),
        steps_per_call=5,
        log_every=100,
        sample_every=500,
        evaluate_every='end',
    )
    config.sample.update(cycle.sampling())
    return configs.vary(config, variant, VARIANTS)


def instance(config):
    """The instance normalisation of the paper."""
    config.model.generator.normalization = config.model.discriminator.normalization = 'instance'


def pairs(config):
    """Your own two sets of images, 64x64, with random crops and flips. Give their folder by --config.data.dir=..."""
    config.data.update(source='pairs', fields=('input',), unpaired='input', resolution=64, flip=True, jitter=8)
    instance(config)
    config.data.batch_size = 1
    config.model.input = 'input'
    config.model.generator.update(width=64, blocks=6)
    config.model.discriminator.update(width=64, layers=3)
    translation.decay(config, 20_000)
    config.train.update(steps_per_call=1, sample_every=1000)
    config.checkpoint.every = 1000


def horse2zebra(config):
    """Horses to zebras in the size of the paper: 256x256, batches of one, 200 epochs of 1,334 zebras. The folder
    --config.data.dir=... has trainA (horses) and trainB (zebras)."""
    pairs(config)
    config.data.update(resolution=256, jitter=30)
    config.model.generator.blocks = 9
    translation.decay(config, 266_800)
    config.train.sample_every = 5000
    config.checkpoint.every = 2000


VARIANTS = configs.variants(instance, pairs, horse2zebra)
