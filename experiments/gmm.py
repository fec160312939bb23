"""Gaussian mixture models by EM: of points, of images, or of the codes of another run's tokenizer.

The step is the experiment's own: it has no players and no optimizer. `config.model`: see `settings` in
`genlab.models.mixture`; for `config.model.tokenizer`, `genlab.config.codes`.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Codec, Likelihood, Sampler
from genlab.data.source import Source
from genlab.experiment import Experiment
from genlab.models import mixture
from genlab.training import pretrained
from genlab.training.parallel import Placement
from genlab.training.state import State


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.mixture.from_config`."""
    found = pretrained.tokenizer_of(config, discrete=False) if 'tokenizer' in config.model else None
    model = mixture.from_config(config, axis, found.tokenizer if found else None)

    def start(state: State, source: Source, placement: Placement) -> State:
        state = found.start(state, source, placement) if found else state
        return mixture.start(model, config, state, source, placement)

    # Codes are not images to compare with: samples and likelihoods of codes only.
    inpaint = None if found else partial(mixture.inpaint, model)
    codec = Codec(partial(mixture.decode, model), encode=partial(mixture.encode, model))
    return Experiment(
        partial(mixture.init, model),
        partial(mixture.step, model),
        Sampler(partial(mixture.sample, model), inpaint=inpaint),
        None if found else codec,
        None if found else Likelihood(exact=partial(mixture.log_likelihood, model)),
        measure=partial(mixture.measure, model),
        reconstruct=None if found else partial(mixture.reconstruct, model),
        start=start,
    )
