"""A Gaussian mixture model by EM, on a grid of 25 Gaussians in the plane, in seconds.

    python -m genlab.main --config=configs/gmm.py
    python -m genlab.main --config=configs/gmm.py:faithful

A step is one EM iteration on all examples. Expect all 25 modes from the best of four restarts, and
`mixture/log_likelihood` to rise at every step.
"""

from genlab import config as configs
from genlab.models import mixture


def get_config(variant=''):
    config = configs.defaults('gmm')
    config.data.update(source='toy', name='grid', observe='point', limit=10_000, batch_size=10_000, resident=True)
    config.model.update(mixture.settings(25, restarts=4, dimensions=2))
    config.train.update(steps=40, steps_per_call=4, log_every=4, sample_every='end', evaluate_every='end')
    config.sample.update(residual=False, count=2000, chunk=2000)
    config.evaluate.update(count=10_000, parts=('points', 'held_out', 'codes'))
    config.explore.inversions = 0
    config.checkpoint.every = 40
    return configs.vary(config, variant, VARIANTS)


def faithful(config):
    """Old Faithful, three components with one covariance: the log-likelihood of the best restart is -1126.32.

    It is the sum over the 272 rows: `mixture/log_likelihood` is per row, -4.1409. mclust publishes -1126.326.
    """
    config.data.update(source='faithful', name='', limit=0, batch_size=272)
    config.model.update(components=3, covariance='tied', restarts=20)
    config.train.update(steps=500, steps_per_call=50, log_every=50)
    config.sample.update(count=272, chunk=272)
    config.evaluate.count = 272


def stepwise(config):
    """Stepwise EM for large sets: an M step after each 1,000 of 100,000 examples. Combine it with others."""
    config.data.update(limit=0, batch_size=1000)
    config.model.forgetting = 0.7
    config.train.update(steps=500, steps_per_call=50, log_every=50)


def digits(config):
    """Handwritten digits at their own size, 8x8, by dequantised pixels: the bound holds for 8-bit levels."""
    _images(config)
    config.data.update(source='digits', name='', resolution=8, batch_size=1500, limit=0, dequantise=True)
    config.model.update(components=20, floor=0.03, restarts=4)


def mnist(config):
    """MNIST, 50 principal components of dequantised pixels. An M step sees all 60,000 images in six batches."""
    _images(config)
    configs.tfds(config, 'mnist', 28)
    config.data.update(name='mnist', limit=0, batch_size=10_000, dequantise=True)
    config.model.update(components=50, floor=1e-2, restarts=1, batches=6, principal=50)
    config.train.update(steps=300, steps_per_call=6, log_every=6)
    config.evaluate.count = 10_000
    config.checkpoint.every = 60


def codes(config):
    """The prior of a VAE's codes, in a second stage (Ghosh et al. 2020). Train --config=configs/vae.py first.

    Samples are decoded. Compare their figures with the VAE's own, whose prior is N(0, 1).
    """
    config.data.update(name='', limit=0, batch_size=1500)
    configs.codes(config, 'runs/vae')
    config.model.update(components=10, floor=1e-4, dimensions=0)
    config.sample.update(count=64, chunk=64)
    config.evaluate.update(count=1000, parts=('quality', 'held_out'))


def _images(config):
    """Models images instead of points."""
    config.data.update(observe='image', name='')
    config.model.dimensions = 0
    config.sample.update(count=64, chunk=64)
    config.evaluate.update(count=1000, parts=('quality', 'held_out', 'reconstruction', 'codes'))


VARIANTS = configs.variants(faithful, stepwise, digits, mnist, codes)
