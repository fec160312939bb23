"""Hidden Markov model (Rabiner 1989) of the number of major earthquakes per year, 1900 to 2006.

    python -m genlab.main --config=configs/hmm.py

A stationary chain of three states with Poisson emissions, as in Zucchini and MacDonald (2009, chapter 3). Expect
-log L = 329.460 and rates of 13.1, 19.7 and 29.7 earthquakes per year after some seconds. With
`--config.model.states=2` expect 342.318.

A table of your own has a first line with the names of the columns, and a row per time. An optional column `sequence`
names the sequence of a row (docs/systems/classical_hmm.md):

    python -m genlab.main --config=configs/hmm.py --config.data.name=csv --config.data.dir=table.csv \
        --config.data.batch_size=20 --config.model.emission=gaussian --config.model.stationary=False

The size of a batch is the number of training sequences, or a multiple of it that the devices divide.
"""

from genlab import config as configs
from genlab.choices import named
from genlab.models import hmm


def get_config(variant=''):
    config = configs.defaults('hmm')
    config.data.update(source='sequences', name='earthquakes', observe='sequence', batch_size=1, resident=True)
    config.model.update(hmm.settings(named('poisson'), states=3, stationary=True))
    config.train.update(steps=200, steps_per_call=20, log_every=20, sample_every='end', evaluate_every='end')
    config.sample.update(count=16, chunk=16)
    config.evaluate.parts = ('held_out',)  # in this variant of the sequence that was fitted: there is one
    config.checkpoint.every = 100
    return configs.vary(config, variant, VARIANTS)


def digits(config):
    """The columns of digits as sequences: 16 states with full Gaussians, from left to right."""
    config.data.update(name='digits', resolution=8, batch_size=1500)
    config.model.update(states=16, stationary=False, emission=named('gaussian', covariance='full', floor=1e-3))
    config.sample.update(count=64, chunk=64)
    config.evaluate.parts = ('held_out', 'codes')


def categorical(config):
    """The letters of a speech: two states become vowels and consonants (Cave and Neuwirth 1980)."""
    config.data.update(name='letters', batch_size=8)
    config.model.update(states=2, stationary=False, emission=named('categorical', symbols='auto', smoothing=0.1))
    config.train.steps = 400


VARIANTS = configs.variants(digits, categorical)
