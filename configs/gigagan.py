"""GigaGAN (Kang et al. 2023): text to image by a GAN, on scenes with one shape, 32x32.

    python -m genlab.main --config=configs/gigagan.py
    python -m genlab.main --config=configs/gigagan.py --mode=sample --prompt='a small blue star in the centre on black'

Training never sees 216 of the 576 combinations of kind, colour and place; the evaluator `scenes` asks for these, as of
dalle.py. The variant upsampler makes 64x64 images of 32x32 ones, and paper has about the size of the
published 64x64 model.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import half_life, lazy
from genlab.models import text_to_image
from genlab.training.optimizers import adam

EVERY = 16  # steps from one R1 to the next


def get_config(variant=''):
    config = configs.defaults('text_to_image')
    config.data.update(source='scenes', resolution=32, channels=3, shapes=1, hold_out=True, batch_size=16)
    config.data.fields = ('caption',)
    generator = named(
        'gigagan', base=512, most=64, blocks=(1, 1, 1, 1), kernels=(2, 2, 2, 2), attentions=(0, 1, 0, 0), head_width=32
    )
    config.model.update(text_to_image.settings(generator, words='auto'))
    config.model.discriminator.update(base=512, most=64, blocks=(1, 1, 1, 1), attentions=(0, 1, 0, 0))
    config.losses.discriminator = dict(adversarial=1.0, matching=1.0, r1=lazy(0.05, EVERY), logit_gap=0.0)
    config.losses.generator = dict(adversarial=1.0, contrastive=0.2)
    config.losses.matcher = dict(contrastive=1.0)
    share = EVERY / (EVERY + 1)  # corrects for the steps without the penalty (Karras et al. 2020, appendix B)
    config.optimizer.discriminator = adam(2.5e-3 * share, b1=0.0, b2=0.99**share)
    config.optimizer.generator = adam(2.5e-3, b1=0.0, b2=0.99)
    config.optimizer.matcher = adam(1e-3, b1=0.9, b2=0.99)
    for network in text_to_image.GENERATOR:
        config.average[network] = half_life(5_000, rampup=0.05)
    config.train.update(steps=2500, log_every=100, sample_every=500, evaluate_every='end')
    config.sample.update(truncation=1.0, condition=True)
    return configs.vary(config, variant, VARIANTS)


def upsampler(config):
    """Makes 64x64 images of 32x32 ones; also of samples of the base config."""
    config.data.update(resolution=64, batch_size=16)
    options = dict(base=1024, most=64, blocks=(1, 1, 1, 1, 1), kernels=(1, 2, 2, 2, 2), attentions=(0, 1, 0, 0, 0))
    config.model.generator = named('upsampler', **options, head_width=32)
    config.model.update(input='image', factor=2)
    config.model.discriminator.update(base=1024, most=64, blocks=(1,) * 5, attentions=(0, 1, 0, 0, 0))
    config.model.matcher = named('none')
    del config.losses['matcher'], config.optimizer['matcher']
    config.losses.generator = dict(adversarial=1.0, absolute_error=10.0)
    config.train.steps = 1000


def paper(config):
    """About the size of the published 64x64 model, for --mode=describe and plan: see docs/systems/gigagan.md."""
    config.data.update(resolution=64, batch_size=1024)
    config.model.generator = named(
        'gigagan',
        base=32768,
        most=1600,
        blocks=(3, 3, 3, 2, 2),
        kernels=(1, 1, 2, 4, 8),
        attentions=(0, 2, 2, 1, 0),
        head_width=64,
    )
    config.model.discriminator.update(
        base=32768, most=1536, blocks=(1, 2, 2, 2, 2), attentions=(0, 2, 2, 1, 0), head_width=64, layers=4, group=8
    )
    config.model.update(latent_size=128, intermediate=0.01)
    config.model.text.update(width=1024, blocks=4, heads=16)
    config.model.mapping.update(width=1024, layers=4)
    config.model.matcher = named('image_text', base=16384, most=512, features=512)
    config.losses.discriminator.r1.weight = 0.2048
    for network in text_to_image.GENERATOR:
        config.average[network] = 0.9999
    config.optimizer.generator.weight_decay = config.optimizer.discriminator.weight_decay = 1e-5
    config.train.update(steps=1_350_000, log_every=1000, sample_every=10_000, evaluate_every=0)
    config.checkpoint.every = 10_000


VARIANTS = configs.variants(upsampler, paper)
