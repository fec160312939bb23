"""Restricted Boltzmann machine (Smolensky 1986; Hinton 2002) on scikit-learn's digits, binarised.

    python -m genlab.main --config=configs/rbm.py

Contrastive divergence of one step. The biases of the visible units start at the log odds of the pixels. The evaluation
estimates the log-likelihood by annealed importance sampling: `nll_ais` lies between `nll_ais_low` and `nll_ais_high`, 3
standard errors of the estimate of Z to each side. With at most 20 hidden units `nll` is exact:
--config.model.latent_size=16. For mnist the published figure is 86.34 nats, of 500 hidden units after CD-25
(Salakhutdinov & Murray 2008, table 1).
"""

from genlab import config as configs
from genlab.choices import named
from genlab.config import ramp
from genlab.models import boltzmann
from genlab.training.optimizers import sgd


def get_config(variant=''):
    config = configs.defaults('rbm')
    config.data.update(source='digits', resolution=8, channels=1, batch_size=100, binarise=True, resident=True)
    config.model.update(boltzmann.settings(named('restricted', visible='binary'), latent_size=64))
    config.losses.machine = dict(contrastive=1.0, squared_error=0.0)
    config.optimizer.machine = sgd(ramp(0.05, 0.0), momentum=0.9, weight_decay=2e-4)
    config.sample.update(boltzmann.sampling())
    config.train.update(steps=6000, steps_per_call=20, log_every=500, sample_every=3000, evaluate_every='end')
    config.checkpoint.every = 3000
    config.evaluate.update(annealed=100, temperatures=1000)
    return configs.vary(config, variant, VARIANTS)


def gaussian(config):
    """Gaussian visible units on dequantised grey levels; the likelihood is a bound for the levels."""
    config.data.update(binarise=False, dequantise=True)
    config.model.machine = named('restricted', visible='gaussian')
    config.model.update(deviation=0.4)
    config.optimizer.machine = sgd(ramp(2e-3, 0.0), momentum=0.9, weight_decay=2e-4)


def persistent(config):
    """Persistent contrastive divergence (Tieleman 2008): one chain per example of a batch continues between steps."""
    config.model.persistent = True


def full(config):
    """A full Boltzmann machine (Ackley et al. 1985) of 4x4 bars and stripes, with four hidden units.

    `nll` is exact. Its minimum is the entropy of the patterns, 3.379 nats.
    """
    config.data.update(source='bars', resolution=4, batch_size=32)
    config.model.machine = named('full')
    config.model.update(latent_size=4, gibbs_steps=5, persistent=True)
    config.losses.machine = dict(contrastive=1.0)
    config.optimizer.machine = sgd(ramp(0.01, 0.0), momentum=0.9)
    config.train.steps = 4000
    config.sample.steps = 200


def mnist(config):
    """MNIST through TFDS with 500 hidden units and CD-25. Combine it: `mnist,persistent`."""
    configs.tfds(config, 'mnist', 28)
    config.data.update(resident=False)
    config.model.update(latent_size=500, gibbs_steps=25)
    config.optimizer.machine = sgd(ramp(0.05, 0.0), momentum=0.5, weight_decay=1e-4)
    config.train.update(steps=30_000, steps_per_call=1, log_every=100, sample_every=5000)
    config.evaluate.update(count=10_000, temperatures=14_500)


VARIANTS = configs.variants(gaussian, persistent, full, mnist)
