"""Deterministic autoencoders: linear, deep, tied, greedy, convolutional, denoising or sparse, depending on the config.

The model is a stack of blocks, the networks block_1, block_2, ... from the data up. It has one block unless
`config.model.greedy`. The player `autoencoder` trains all blocks. With `greedy`, each player block_1, block_2, ...
trains one block alone, on clean codes of the frozen blocks below it (Vincent et al. 2010, section 3.4). Phases change
the turns. The abilities use the stack up to the highest block that the current phase trains. Terms: see
`genlab.models.autoencoder.terms`.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Codec
from genlab.experiment import Experiment, Role, compose
from genlab.models import autoencoder


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.autoencoder.settings`."""
    stack = autoencoder.from_config(config, axis)
    through = autoencoder.active(config, stack)
    return compose(
        config,
        axis,
        partial(autoencoder.networks, stack),
        {
            player: Role(names, partial(autoencoder.terms, stack, names))
            for player, names in autoencoder.trained(config, stack).items()
        },
        codec=Codec(
            partial(autoencoder.decode, stack, through), encode=partial(autoencoder.encode_batch, stack, through)
        ),
        measure=partial(autoencoder.measure, stack, through),
        reconstruct=partial(autoencoder.reconstruct, stack, through),
        start=partial(autoencoder.load, config, stack) if config.model.pretrained else None,
    )
