"""DDPM (Ho, Jain and Abbeel 2020) on a ring of eight Gaussians in the plane, in seconds.

    python -m genlab.main --config=configs/diffusion_toy.py      (DDPM; :edm and :flow change three lines)

Expect a `sliced_wasserstein` to held-out points near `sliced_wasserstein_of_data`, the distance between real points.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import ramp
from genlab.diffusion import settings
from genlab.training.optimizers import adam


def get_config(variant=''):
    config = configs.defaults('diffusion')
    config.data.update(source='toy', name='ring', observe='point', batch_size=512, resident=True)
    config.model.update(settings.model(named('points', features=(128, 128, 128)), dimensions=2))
    config.losses.denoiser = dict(epsilon=1.0)
    config.optimizer.denoiser = adam(ramp(2e-3, 0.0))
    config.average.denoiser = 0.999
    config.train.update(steps=6000, steps_per_call=200, log_every=1000, sample_every=3000, evaluate_every='end')
    config.sample.update(settings.sample(sampler=named('ancestral'), steps=250, count=2000, chunk=2000))
    config.evaluate.update(count=10_000, parts=('points', 'held_out'))
    config.checkpoint.every = 3000
    return configs.vary(config, variant, VARIANTS)


def edm(config):
    """EDM (Karras et al. 2022): continuous noise levels, inputs and outputs of unit variance, Heun's solver."""
    config.model.update(prediction='edm', deviation=1.0, level='log_sigma')
    config.model.process, config.model.times = named('ve', highest=20.0), named('log_normal', mean=-1.2, deviation=1.2)
    config.losses.denoiser = dict(edm=1.0)
    config.sample.sampler, config.sample.grid, config.sample.steps = named('heun'), named('karras'), 30


def flow(config):
    """Flow matching (Lipman et al. 2023): straight paths, velocity prediction, Heun's solver."""
    config.model.process, config.model.prediction, config.model.times = (
        named('interpolant'),
        'velocity',
        named('uniform'),
    )
    config.losses.denoiser = dict(velocity=1.0)
    config.sample.sampler, config.sample.steps = named('heun'), 50


def moons(config):
    """Two moons, by flow matching."""
    flow(config)
    config.data.name = 'moons'


def grid(config):
    """A grid of 25 Gaussians, by EDM."""
    edm(config)
    config.data.name = 'grid'


VARIANTS = configs.variants(edm, flow, moons, grid)
