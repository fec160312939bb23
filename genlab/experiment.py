"""The contract between an experiment and everything that trains, samples, evaluates or describes it."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from genlab.config import order, weights
from genlab.errors import ConfigError
from genlab.training import optimizers, state
from genlab.training.players import Objective, Player, batches_per_step, make_step


class Experiment(NamedTuple):
    """All that the loop and the tools know of a model. Each experiments/*.py has a `build(config, axis=None)` that makes one.

    A prepared batch is a dict of arrays [B, ...]: `x` is what is modelled (float32: images [B, H, W, C] in [-1, 1], or points
    [B, D]), `position` the place in the global batch; labels, captions, boxes ... are there if the source has them.
    `variables` are `State.variables()`; keys [N] are one typed key per example. A model has the abilities that it has: what it
    cannot do is None, and the tools do without.

    The names that `measure` may use are free, but three mean the same everywhere: `nll`, nats of the data as they are (8-bit
    levels, or bits where they are binarised), `nll_bound`, an upper bound of it, and `squared_error`, summed over the pixels
    of an image in [0, 1] or the coordinates of a point."""

    init: Callable  # (batch, key) -> State
    step: Callable  # (state, batches with leaves [turns, B, ...], key) -> (state, {name: scalar})
    sample: Callable | None = None  # (variables, keys [N], condition) -> images or points [N, ...]
    measure: Callable | None = None  # (variables, batch, keys [B]) -> {name: [B]}, numbers on held-out examples
    encode: Callable | None = None  # (variables, batch) -> codes [B, ...]: floats, or int32 entries of a codebook
    decode: Callable | None = None  # (variables, codes [B, ...]) -> images or points [B, ...]
    prior: Callable | None = None  # (variables, keys [N]) -> codes [N, ...] that `decode` turns into samples
    mix: Callable | None = None  # (variables, coarse codes [B, ...], fine codes [B, ...]) -> images [B, ...]
    log_weight: Callable | None = (
        None  # (variables, batch, keys [B]) -> [B], nats: log p(x, z) - log q(z | x), one z a key
    )
    reconstruct: Callable | None = (
        None  # (variables, batch, keys [B]) -> {'input', 'output'}: what it sees and makes of it
    )
    log_likelihood: Callable | None = (
        None  # (variables, batch, keys [B]) -> [B], nats: an exact density, that takes its time
    )
    inpaint: Callable | None = (
        None  # (variables, batch, mask [B, H, W, 1], keys [B]) -> images, anew where the mask is 0
    )
    redraw: Callable | None = None  # (variables, batch, keys [B]) -> images that keep what is coarse in the batch's
    adopt: Callable | None = None  # (state, placement) -> the state to begin with, networks of other runs in it
    codebook: int = 0  # its entries, where codes are discrete
    batches: int = 1  # the batches that one step reads


def compose(
    config: ConfigDict,
    axis: str | None,
    networks: Callable[[Any], Mapping[str, state.Network]],
    objectives: Mapping[str, tuple[tuple[str, ...], Objective]],
    **abilities,
) -> Experiment:
    """The experiment of players who learn by gradients: nearly every one.

    Args:
      networks: a prepared batch -> name -> Network, the module and what to initialise it with.
      objectives: player -> (the networks it trains, its objective); weights and optimizer are the config's, by its name.
      abilities: sample, measure, encode ... of the Experiment."""
    _known('config.losses', {*config.losses}, {*objectives}, all_of_them=True)
    _known('config.optimizer', {*config.optimizer}, {*objectives}, all_of_them=True)
    turns = order(config)
    _known('config.train.order', {*turns}, {*objectives})
    players = {
        name: Player(
            trains, objective, weights(config, name), optimizers.build(config.optimizer[name], config.train.steps)
        )
        for name, (trains, objective) in objectives.items()
    }

    def init(batch, key):
        variables = state.initialize(networks(batch), key)
        if unknown := sorted({*config.average} - {*variables}):
            raise ConfigError(
                f'config.average has {", ".join(unknown)}; the networks are {", ".join(sorted(variables))}'
            )
        return state.create(variables, players, tuple(config.average))

    step = make_step(
        players,
        turns,
        average=config.average.to_dict(),
        axis=axis,
        microbatches=config.train.microbatches,
        skip_nonfinite=config.train.on_nan == 'skip',
    )
    return Experiment(init, step, batches=batches_per_step(turns), **abilities)


def shape(config: ConfigDict) -> tuple[int, ...]:
    """Of one example of x: a point where `config.model.dimensions` says so, else an image."""
    data, dimensions = config.data, config.model.dimensions
    return (dimensions,) if dimensions else (data.resolution, data.resolution, data.channels)


def _known(where: str, named: set[str], players: set[str], all_of_them: bool = False) -> None:
    """Raises where a part of the config names other players than the experiment's, or none."""
    if not named or not named <= players or (all_of_them and named != players):
        raise ConfigError(
            f'{where} names {", ".join(sorted(named)) or "nobody"}; the players are {", ".join(sorted(players))}'
        )


def load(name: str) -> Callable[..., Experiment]:
    """`build` of experiments/<name>.py."""
    try:
        return importlib.import_module(f'experiments.{name}').build
    except ModuleNotFoundError as error:
        if error.name != f'experiments.{name}':
            raise
        import experiments

        known = sorted(module.name for module in pkgutil.iter_modules(experiments.__path__))
        raise ConfigError(
            f'config.experiment={name!r}: there is no experiments/{name}.py; there are {", ".join(known)}'
        ) from None


Build = Callable[[Any, str | None], Experiment]
