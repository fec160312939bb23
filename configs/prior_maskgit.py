"""MaskGIT (Chang et al. 2022) over the codes of a VQ-VAE: a few steps draw all places, the most confident first.

    python -m genlab.main --config=configs/vq_vae.py
    python -m genlab.main --config=configs/prior_maskgit.py

The first command trains the tokenizer. `--config.model.tokenizer=runs/...` names the run of any other.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import masked
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('prior')
    config.data.update(batch_size=64, resident=True)
    network = named('masked_transformer', width=64, depth=3, heads=4, dropout=0.4)
    config.model.update(masked.settings(network, classes='auto'))
    configs.codes(config, 'runs/vq_vae')
    config.losses.prior = dict(cross_entropy=1.0)
    config.optimizer.prior = adam(configs.ramp(1e-3, 0.0), clip=1.0, warmup=100)
    config.average.prior = 0.99
    config.train.update(steps=2000, steps_per_call=10, log_every=100, sample_every=500, evaluate_every='end')
    config.sample.update(masked.sampling(sampler=named('iterate', steps=8)))
    config.checkpoint.every = 500
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """Codes of configs/vq_vae.py:mnist."""
    configs.codes(config, 'runs/vq_vae-mnist')
    config.model.network.update(width=128, depth=4, dropout=0.1)
    config.train.steps = 2000
    config.evaluate.count = 10_000


VARIANTS = configs.variants(mnist)
