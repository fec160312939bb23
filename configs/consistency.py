"""Improved consistency training (Song & Dhariwal 2024): sampling in one evaluation of the network.

The network maps every point of a path to the start of that path.

    python -m genlab.main --config=configs/consistency.py           (digits)
    python -m genlab.main --config=configs/consistency.py:moons     (points; also :ring)

To sample in more evaluations, with new noise between them: --mode=sample --config.sample.steps=2.

Expect a Frechet distance of about 12 after 7 minutes on 2 cores in one evaluation (docs/diffusion.md).
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import ramp
from genlab.diffusion import one_step, settings
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('one_step')
    config.data.update(source='digits', resolution=16, channels=1, batch_size=64, resident=True)
    network = named('unet', width=32, multipliers=(1, 2), blocks=1, patch=2, attention=(4,), heads=1, dropout=0.0)
    config.model.update(
        settings.model(
            network,
            process=named('ve', highest=80.0),
            prediction='edm',
            deviation=0.5,
            level='log_sigma',
            times=named('log_normal', mean=-1.1, deviation=2.0),
        ),
        one_step=one_step.settings(intervals=ramp(10, 1280)),
    )
    config.losses.denoiser = dict(consistency=1.0, consistency_error=0.0)
    config.optimizer.denoiser = adam(1e-3, clip=1.0, warmup=200)
    config.average.denoiser = 0.999
    config.train.update(steps=4000, log_every=100, sample_every=2000, evaluate_every='end')
    config.sample.steps = 1
    config.evaluate.parts = ('quality', 'held_out')
    config.explore.update(examples=64, inversions=0)
    config.checkpoint.every = 1000
    return configs.vary(config, variant, VARIANTS)


def mnist(config):
    """MNIST at 32x32."""
    configs.tfds(config, 'mnist', 32)
    config.model.network.attention = (8,)
    config.train.update(steps=6000)
    config.sample.chunk = 250
    config.evaluate.count = 10_000


def moons(config):
    """Two moons, in a minute."""
    config.data.update(source='toy', name='moons', observe='point', batch_size=512)
    config.model.network, config.model.dimensions = named('points', features=(128, 128, 128)), 2
    config.optimizer.denoiser = adam(ramp(2e-3, 0.0))
    config.train.update(steps=6000, steps_per_call=200, log_every=1000, sample_every=3000)
    config.sample.update(count=2000, chunk=2000)
    config.evaluate.update(count=10_000, parts=('points', 'held_out'))
    config.checkpoint.every = 3000


def ring(config):
    """A ring of eight Gaussians."""
    moons(config)
    config.data.name = 'ring'


VARIANTS = configs.variants(mnist, moons, ring)
