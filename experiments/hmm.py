"""Hidden Markov models of sequences, fitted by expectation maximisation: a step is one Baum-Welch iteration.

The config names the emission, the number of states and the start. There are no players, losses and optimizers.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Codec, Likelihood, Sampler
from genlab.experiment import Experiment
from genlab.models import hmm


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.hmm.settings`."""
    hidden = hmm.from_config(config, axis)
    return Experiment(
        partial(hmm.init, hidden),
        partial(hmm.step, hidden),
        Sampler(partial(hmm.sample, hidden)),
        Codec(partial(hmm.decode, hidden), encode=partial(hmm.encode, hidden)),
        Likelihood(exact=partial(hmm.exact, hidden)),
        partial(hmm.measure, hidden),
        start=partial(hmm.start, batch_size=config.data.batch_size),
    )
