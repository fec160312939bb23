"""An autoencoder unrolls the Swiss roll, a sheet in space: three coordinates to two codes and back.

    python -m genlab.main --config=configs/swiss_roll_ae.py
"""

from genlab import config as configs
from genlab.config import ramp
from genlab.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('autoencoder')
    config.data.update(source='toy', name='roll3d', observe='point', batch_size=128, resident=True)
    # Cosines of small arguments are even functions: the radius, which tells the windings apart, is a code within easy reach.
    config.model.update(networks='dense', dimensions=3, features=(128, 128, 2), greedy=False, tied=False, bias=True,
                        activation='cos', code='linear', output='linear', corruption='none', amount=0.0)
    # First find the sheet, then flatten it and turn its length to the first axis.
    config.losses.autoencoder = dict(squared_error=1.0, isometry=ramp(0.02, 0.5, 5000, begin=2000),
                                     nested=ramp(0.0, 0.1, 3000, begin=7000))
    config.optimizer.autoencoder = adam(ramp(2e-3, 0.0, 6000, begin=8000))
    config.train.update(order=('autoencoder',), steps=14_000, steps_per_call=200, log_every=1000, sample_every=3000,
                        evaluate_every=14_000)
    config.sample.update(count=2000, chunk=2000)
    config.checkpoint.every = 6000
    return configs.vary(config, variant, VARIANTS)


VARIANTS = {}
