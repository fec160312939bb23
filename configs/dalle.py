"""DALL-E (Ramesh et al. 2021) on scenes of coloured shapes: a transformer over the words of a caption, then the codes.

    python -m genlab.main --config=configs/dvae.py:scenes
    python -m genlab.main --config=configs/dalle.py
    python -m genlab.main --config=configs/dalle.py --mode=sample --prompt='a large red circle in the centre on grey' --count=8

The first command trains the tokenizer, a discrete VAE. The losses are 1/8 of the text's and 7/8 of the image's.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import autoregressive
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('prior')
    config.data.update(batch_size=32, fields=('caption',))
    network = named('transformer', width=128, depth=4, heads=4, length=26, attention=('dalle',), kernel=5)
    config.model.update(autoregressive.settings(network, words='auto'))
    configs.codes(config, 'runs/dvae-scenes')
    config.losses.prior = dict(image=7 / 8, text=1 / 8)
    config.optimizer.prior = adam(configs.ramp(1e-3, 0.0), clip=1.0, warmup=100)
    config.average.prior = 0.99
    config.train.update(steps=2000, sample_every=500, evaluate_every='end')
    config.sample.update(autoregressive.sampling(condition=True))
    return configs.vary(config, variant, VARIANTS)


VARIANTS = configs.variants()
