"""Boltzmann machines: restricted with binary or Gaussian visible units, or full; one player, `machine`.

Terms: see `genlab.models.boltzmann.machine_terms`. `config.model`: see `settings` there.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Codec, Likelihood, Sampler
from genlab.experiment import Experiment, Role, compose
from genlab.models import boltzmann


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.boltzmann.settings`."""
    model, name = boltzmann.from_config(config, axis), boltzmann.NAME
    likelihood = Likelihood(
        exact=partial(boltzmann.log_likelihood, model) if model.machine.log_partition else None,
        unnormalised=partial(boltzmann.log_unnormalised, model),
        annealed=partial(boltzmann.annealed, model),
    )
    restricted = model.hidden is not None  # else the hidden units depend on each other, and no code is a mean
    return compose(
        config,
        axis,
        partial(boltzmann.networks, model),
        {name: Role((name,), partial(boltzmann.terms, model), updates=(name,))},
        sampler=Sampler(partial(boltzmann.sample, model), inpaint=partial(boltzmann.inpaint, model)),
        codec=Codec(
            partial(boltzmann.decode, model),
            encode=partial(boltzmann.encode, model),
            filters=partial(boltzmann.filters, model),
        )
        if restricted
        else None,
        likelihood=likelihood if model.comparable else None,
        measure=partial(boltzmann.measure, model),
        reconstruct=partial(boltzmann.reconstruct, model) if restricted else None,
        start=partial(boltzmann.start, model, name, config.data.observe),
    )
