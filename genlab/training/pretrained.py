"""Loads a checkpoint of a run, for tools that inspect it and for runs that start from its networks."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab import data, experiment
from genlab.abilities import Batch
from genlab.config import at, differences
from genlab.data.source import Source, example_shape
from genlab.errors import ConfigError, UserError, warn
from genlab.models.tokenizer import Tokenizer
from genlab.run import workdir
from genlab.run.files import path_of
from genlab.training import parallel
from genlab.training.checkpoint import NEWEST, Checkpoints, newest
from genlab.training.program import Program, make_init, outline, programs
from genlab.training.state import Network, State

TOKENIZER = 'config.model.tokenizer'  # the key that names the run of a tokenizer


def restore(
    config: ConfigDict,
    build: experiment.Build,
    folder: pathlib.Path,
    placement: parallel.Placement,
    flag: str = '--workdir',
    alone: bool = False,
    checkpoint: str = NEWEST,
) -> tuple[int, State, Program]:
    """Restores a checkpoint of a run.

    Args:
      config: config of the run.
      build: the experiment of the config.
      folder: the workdir of the run.
      placement: where to place the state.
      flag: the flag or config key that gave the folder, for error messages.
      alone: whether this process reads it without the others, onto a placement of its own devices.
      checkpoint: 'newest', 'best' or a step.

    Returns:
      (step, state, the program of the phase that the step belongs to).

    Raises:
      UserError: the run has no checkpoint.
      ConfigError: it has no checkpoint of that name.
    """
    config = workdir.with_facts(folder, config)
    schedule = programs(config, build, placement, declared=not data.missing(config.model))
    template = parallel.template(placement, outline(make_init(schedule[0])))
    restored = None
    if (folder / 'checkpoints').exists():
        with Checkpoints(folder / 'checkpoints', warn=warn, read_only=True, alone=alone) as checkpoints:
            restored = checkpoints.restore(template, checkpoint)
    if restored is None:
        raise UserError(f'{flag}={folder}: there is no checkpoint yet: train first')
    step, state, _ = restored
    return step, state, next((program for program in schedule if step <= program.end), schedule[-1])


def load(folder: str, placement: parallel.Placement, flag: str) -> tuple[ConfigDict, dict]:
    """Loads the networks of another run.

    Args:
      folder: the workdir of that run.
      placement: where to place its variables.
      flag: the key of this run's config that gave the folder, for error messages.

    Returns:
      (its config, its variables). Parameters are the moving averages if the run kept them.
    """
    config = config_of(folder, flag)
    state = restore(config, experiment.load(config.experiment), path_of(folder), placement, flag)[1]
    return config, state.variables(averaged=True)


def config_of(folder: str, flag: str) -> ConfigDict:
    """Returns the config of another run with the facts of its data; `flag` is the key that gave the folder."""
    path = path_of(folder)
    return workdir.with_facts(path, ConfigDict(_tuples(workdir.read(path, flag))))


class Pretrained(NamedTuple):
    """The tokenizer of another run, with its newest checkpoint."""

    tokenizer: Tokenizer  # its `networks` takes a batch of codes too: only the number of examples counts
    config: ConfigDict  # config of its run, with the facts of its data
    checkpoint: str  # identifies the weights: the step, and a digest of the checkpoint
    # Placement -> network -> variables, averages if the run kept them. Of a run of several processes each calls it, or
    # with `alone=True` one of them for its own devices.
    load: Callable[..., dict[str, Any]]
    start: experiment.Start  # puts its networks into a fresh state; see `Experiment.start`


def tokenizer_of(config: ConfigDict, discrete: bool = True) -> Pretrained:
    """Returns the tokenizer of the run that `config.model.tokenizer` names, for the experiment of a second stage.

    Args:
      config: config of the second stage, whose data are the codes of that run: see `genlab.config.codes`.
      discrete: whether the codes must be entries of a codebook.

    Raises:
      ConfigError: as `tokenizer`; or the data of the config are not the codes of that run.
    """
    folder = config.model.tokenizer
    if config.data.source != 'codes' or config.data.dir != folder:
        raise ConfigError(
            f'{TOKENIZER}={folder!r}, but config.data.source={config.data.source!r} and '
            f'config.data.dir={config.data.dir!r}: this model reads the codes of its tokenizer: leave '
            "config.data.source='codes', and config.data.dir to it"
        )
    return tokenizer(folder, discrete=discrete)


def tokenizer(folder: str, flag: str = TOKENIZER, discrete: bool = False) -> Pretrained:
    """Returns the tokenizer of a run, built from the config in its folder. The weights are not read yet.

    Args:
      folder: folder of the run.
      flag: the key of this run's config that gave the folder, for error messages.
      discrete: whether the codes must be entries of a codebook.

    Raises:
      ConfigError: there is no run, no checkpoint, no tokenizer, or no codebook.
    """
    if not folder:
        raise ConfigError(f"{flag}='': name the folder of a run that has a codebook, such as runs/vq_vae")
    config = config_of(folder, flag)
    found = newest(path_of(folder) / 'checkpoints')
    if found is None:
        raise ConfigError(f'{flag}={folder}: there is no checkpoint yet: train first')
    made = experiment.load(config.experiment)(config, None).tokenizer
    if made is None or (discrete and not all(jax.tree.leaves(made.entries))):
        raise ConfigError(
            f'{flag}={folder}: its run (config.experiment={config.experiment!r}) has no '
            f'{"codebook" if discrete else "codes"}: choose a run of configs/vq_vae.py, or of another config with a '
            'codebook'
        )
    step, digest = found
    load = functools.partial(_load_networks, folder, flag, made.names, step)
    checkpoint = f'step {step} ({digest})'
    return Pretrained(
        made._replace(networks=functools.partial(_networks, made.networks, example_shape(config))),
        config,
        checkpoint,
        load,
        functools.partial(_start, folder, flag, checkpoint, load),
    )


def _networks(networks: Callable, shape: tuple[int, ...], batch: Batch) -> dict[str, Network]:
    """Returns the networks of a tokenizer for a batch of codes: they are initialised with an example of `shape`."""
    return networks({**batch, 'x': jnp.zeros((len(batch['x']), *shape))})


def _load_networks(
    folder: str, flag: str, names: tuple[str, ...], step: int, placement: parallel.Placement, alone: bool = False
) -> dict[str, Any]:
    """Loads the networks `names` of checkpoint `step` of a run. Raises UserError if another checkpoint is loaded."""
    config = config_of(folder, flag)
    build = experiment.load(config.experiment)
    loaded, state, _ = restore(config, build, path_of(folder), placement, flag, alone)
    if loaded != step:
        raise UserError(
            f'{flag}={folder}: checkpoint {loaded} was loaded, not {step}: wait until that run ends, or move its '
            'damaged checkpoint away, and run the same command again'
        )
    variables = state.variables(averaged=True)
    return {name: variables[name] for name in names}


def _start(
    folder: str, flag: str, checkpoint: str, load: Callable, state: State, source: Source, placement: Any
) -> State:
    """Returns the fresh state with the networks of a tokenizer, which must be those that made the codes of `source`."""
    if source.checkpoint and source.checkpoint != checkpoint:
        raise UserError(
            f'{flag}={folder}: its run has saved {checkpoint}, but the codes are of {source.checkpoint}: wait until '
            'that run ends, and run the same command again'
        )
    return replace_networks(state, load(placement))


def replace_networks(state: State, variables: dict) -> State:
    """Replaces the variables of some networks in a state.

    Args:
      state: the state.
      variables: network -> {'params': ..., collection: ...}.
    """
    params = {name: found['params'] for name, found in variables.items()}
    stats = {
        name: {kind: tree for kind, tree in found.items() if kind != 'params'} for name, found in variables.items()
    }
    # Copied, because a step donates both the parameters and their average.
    average = {name: jax.tree.map(jnp.copy, params[name]) for name in params if name in state.average}
    return dataclasses.replace(
        state,
        params={**state.params, **params},
        stats={**state.stats, **stats},
        average={**state.average, **average},
    )


def expect(config: ConfigDict, wanted: ConfigDict, flag: str, where: str) -> None:
    """Checks that the model of another run has the required values.

    Args:
      config: config of the other run.
      wanted: the required values of its `config.model`.
      flag: the key of this run's config that gave the other run, for error messages.
      where: the place of `wanted` in this run's config, for error messages.

    Raises:
      ConfigError: a value differs.
    """
    here, found = workdir.plain(wanted), workdir.plain(config.model)
    for key in differences({name: found.get(name) for name in here}, here, ignore=tuple(data.MEASURED)):
        one, other = at(found, key), at(here, key)
        raise ConfigError(f'{flag}: its run has {key}={one}, and here {where}.{key}={other}: make them the same')


def _tuples(value: Any) -> Any:
    """Converts the lists in a value from JSON to tuples, as in a config."""
    if isinstance(value, dict):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
