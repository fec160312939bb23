"""Deep belief networks: a stack of restricted Boltzmann machines, a player for each, trained one after the other.

Phases change the turns. The abilities use the stack up to the highest machine that the current phase trains. Terms: see
`genlab.models.boltzmann.machine_terms`. `config.model`: see `genlab.models.belief.settings`.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Codec, Sampler
from genlab.experiment import Experiment, Role, compose
from genlab.models import belief, boltzmann


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.belief.settings`."""
    model = belief.from_config(config, axis)
    lowest, through = model.names[0], belief.active(config, model)
    return compose(
        config,
        axis,
        partial(belief.networks, model),
        {name: Role((name,), partial(belief.terms, model, name), updates=(name,)) for name in model.names},
        sampler=Sampler(partial(belief.sample, model, through)),
        codec=Codec(
            partial(belief.down, model, through),
            encode=partial(belief.encode, model, through),
            filters=partial(belief.filters, model),
        ),
        measure=partial(belief.measure, model, through),
        reconstruct=partial(belief.reconstruct, model, through),
        start=partial(boltzmann.start, model.machines[lowest], lowest, config.data.observe),
    )
