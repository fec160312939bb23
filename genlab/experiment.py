"""The contract between an experiment and everything that trains, samples, evaluates or describes it."""

import functools
import importlib
import pathlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
from ml_collections import ConfigDict

from genlab.abilities import Batch, Codec, Likelihood, Measure, Reconstruct, Sampler
from genlab.conditioning import Conditions
from genlab.config import decays, order, periods, weights
from genlab.data.source import Source
from genlab.errors import ConfigError
from genlab.models.tokenizer import Tokenizer
from genlab.training import optimizers, state
from genlab.training.players import Objective, Player, batches_per_step, check_terms, make_step


class Init(Protocol):
    def __call__(self, batch: Batch, key: jax.Array) -> state.State:
        """Makes the state before the first step. It is traced: a prepared batch may be abstract."""


class Step(Protocol):
    def __call__(self, state: state.State, batches: Batch, key: jax.Array) -> tuple[state.State, dict[str, jax.Array]]:
        """Does one training step: batches with leaves [turns, B, ...] -> (state with step + 1, {metric: scalar}).

        Noise comes from `fold_in(key, state.step)`, so a resumed run draws the same noise. Under pmap the step averages
        over `axis` itself. With on_nan='skip', the program guards a step without a metric `skipped` as a whole.
        """


class Start(Protocol):
    def __call__(self, state: state.State, source: Source, placement: Any) -> state.State:
        """Completes a fresh state on the host, once per run: networks of other runs, statistics of the source."""


class Check(Protocol):
    def __call__(self, state: state.State, batch: Batch, keys: jax.Array) -> None:
        """Raises ConfigError where the config weighs a term that is not offered. It is traced, in the place of a step.

        The batch is prepared, [B, ...], and has one key per example.
        """


class Experiment(NamedTuple):
    """Everything that the loop and the tools know of a model; `build(config, axis=None)` of experiments/*.py makes one.

    A prepared batch is a dict of arrays [B, ...]: `x` is what is modelled (float32: images [B, H, W, C] in [-1, 1],
    points [B, D], or sequences [B, T, D] with `length`; or codes, int32 or float32), `position` the index in the global
    batch; labels, captions, boxes ... are there if the source has them. `compose` makes `init` and `step` of players. A
    model that does not learn by gradients writes its own step.
    """

    init: Init
    step: Step
    sampler: Sampler | None = None
    codec: Codec | None = None
    likelihood: Likelihood | None = None
    measure: Measure | None = None
    reconstruct: Reconstruct | None = None
    conditions: Conditions = Conditions()  # what samples are conditioned on
    start: Start | None = None
    tokenizer: Tokenizer | None = None  # what a second stage needs, where codes can be modelled
    batches: int = 1  # that one step reads
    lazy: Mapping[str, int] = {}  # 'player/term' -> its period in steps; if any, `step` takes `due`, those of this step
    networks: Callable[[Batch], Mapping[str, state.Network]] | None = None  # from a prepared batch; `compose` sets it
    check: Check | None = None  # of the terms that the config weighs; `compose` sets it


class Role(NamedTuple):
    """What a player does, without the weights and the optimizer, which the config gives."""

    trains: tuple[str, ...]  # networks whose parameters it moves
    objective: Objective
    updates: tuple[str, ...] = ()  # networks whose state collections its turn writes


def compose(
    config: ConfigDict,
    axis: str | None,
    networks: Callable[[Batch], Mapping[str, state.Network]],
    roles: Mapping[str, Role],
    *,
    sampler: Sampler | None = None,
    codec: Codec | None = None,
    likelihood: Likelihood | None = None,
    measure: Measure | None = None,
    reconstruct: Reconstruct | None = None,
    conditions: Conditions = Conditions(),
    start: Start | None = None,
    tokenizer: Tokenizer | None = None,
) -> Experiment:
    """Makes the experiment of players who learn by gradients: nearly every one.

    Args:
      config: names a weight for each term, an optimizer for each player, and the order of turns.
      axis: the name of the device axis under pmap; None under jit.
      networks: from a prepared batch to name -> Network, the module and what to initialise it with.
      roles: player -> its role. The config names the players by the same names.
      sampler, codec, likelihood, measure, reconstruct, conditions, start, tokenizer: of the Experiment.

    Raises:
      ConfigError: the config names other players than `roles`, or an average of an unknown network.
    """
    _check_players('config.losses', {*config.losses}, {*roles}, all_of_them=True)
    _check_players('config.optimizer', {*config.optimizer}, {*roles}, all_of_them=True)
    turns = order(config)
    _check_players('config.train.order', {*turns}, {*roles})
    players = {
        name: Player(
            role.trains,
            role.updates,
            role.objective,
            weights(config, name),
            optimizers.build(config.optimizer[name], config.train.steps, f'config.optimizer.{name}'),
        )
        for name, role in roles.items()
    }

    def init(batch: Batch, key: jax.Array) -> state.State:
        variables = state.initialize(networks(batch), key)
        if unknown := sorted({*config.average} - {*variables}):
            raise ConfigError(
                f'config.average has {", ".join(unknown)}; the networks are {", ".join(sorted(variables))}'
            )
        return state.create(variables, players, tuple(config.average))

    step = make_step(
        players,
        turns,
        average=decays(config),
        axis=axis,
        microbatches=config.train.microbatches,
        skip_nonfinite=config.train.on_nan == 'skip',
        lazy=periods(config),
    )
    return Experiment(
        init,
        step,
        sampler,
        codec,
        likelihood,
        measure,
        reconstruct,
        conditions,
        start,
        tokenizer,
        batches=batches_per_step(turns),
        lazy=periods(config),
        networks=networks,
        check=functools.partial(check_terms, players),
    )


def _check_players(where: str, named: set[str], players: set[str], all_of_them: bool = False) -> None:
    """Raises ConfigError if a part of the config names players that the experiment lacks, or none."""
    if not named or not named <= players or (all_of_them and named != players):
        raise ConfigError(
            f'{where} names {", ".join(sorted(named)) or "none"}; the players are {", ".join(sorted(players))}'
        )


def load(name: str) -> Callable[..., Experiment]:
    """Returns `build` of experiments/<name>.py."""
    try:
        return importlib.import_module(f'experiments.{name}').build
    except ModuleNotFoundError as error:
        if error.name != f'experiments.{name}':
            raise
        import experiments

        known = sorted(module.name for module in pkgutil.iter_modules(getattr(experiments, '__path__', ())))
        found = pathlib.Path(experiments.__file__ or __file__)
        ours = pathlib.Path(__file__).parents[1] in found.parents
        hidden = '' if ours else f'; {found} hides that of genlab: run in another folder, or with python -P'
        listed = ', '.join(known) or 'none'
        raise ConfigError(
            f'config.experiment={name!r}: there is no experiments/{name}.py; there are {listed}{hidden}'
        ) from None


Build = Callable[[Any, str | None], Experiment]
