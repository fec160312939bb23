"""An autoencoder unrolls the Swiss roll, a sheet in space: three coordinates to two codes and back.

    python -m genlab.main --config=configs/swiss_roll_ae.py
"""

from genlab import config as configs
from genlab.config import ramp
from genlab.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('autoencoder')
    config.data.update(source='toy', name='roll3d', observe='point', batch_size=256, resident=True)
    config.model.update(networks='dense', dimensions=3, features=(128, 128, 128, 2), greedy=False, tied=False, bias=True,
                        activation='tanh', code='linear', output='linear', corruption='none', amount=0.0)
    config.losses.autoencoder = dict(squared_error=1.0, nested=1.0)
    config.optimizer.autoencoder = adam(ramp(2e-3, 0.0, 20_000))
    config.train.update(order=('autoencoder',), steps=20_000, steps_per_call=200, log_every=1000, sample_every=5000,
                        evaluate_every=20_000)
    config.sample.update(count=2000, chunk=2000)
    config.checkpoint.every = 10_000
    return configs.vary(config, variant, VARIANTS)


VARIANTS = {}
