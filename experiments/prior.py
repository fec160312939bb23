"""Models of the codes of another run's tokenizer, or of grey levels: one player per grid of values.

The network decides the family: autoregressive, or masked. Terms: see `terms` in `genlab.models.autoregressive` and
`genlab.models.masked`. `config.model`: see `settings` there; for `config.model.tokenizer`, `genlab.config.codes`. The
player is `prior`; of several grids each has the name of its grid.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Likelihood, Sampler
from genlab.experiment import Experiment, Role, compose
from genlab.models import priors
from genlab.training import pretrained


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.priors.from_config`."""
    found = pretrained.tokenizer_of(config) if 'tokenizer' in config.model else None
    prior = priors.from_config(config, found.tokenizer if found else None)
    exact = prior.family is priors.AUTOREGRESSIVE
    sampler = Sampler(
        partial(priors.sample, prior),
        inpaint=partial(priors.inpaint, prior),
        image_to_image=partial(priors.redraw, prior) if len(prior.levels) > 1 else None,
        with_likelihood=partial(priors.sample_with_likelihood, prior) if exact else None,
    )
    return compose(
        config,
        axis,
        partial(priors.networks, prior),
        {level.name: Role((level.name,), partial(priors.terms, prior, level)) for level in prior.levels},
        sampler=sampler,
        likelihood=Likelihood(exact=partial(priors.log_likelihood, prior)) if exact and not found else None,
        measure=partial(priors.measure, prior),
        conditions=prior.conditions,
        start=found.start if found else None,
    )
