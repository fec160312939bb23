"""Loads the newest checkpoint of a run, for tools that inspect it and for runs that start from its networks."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab import data, experiment
from genlab.config import at, differences
from genlab.errors import ConfigError, UserError, warn
from genlab.run import workdir
from genlab.training import parallel
from genlab.training.checkpoint import Checkpoints
from genlab.training.program import Program, make_init, programs
from genlab.training.state import State


def restore(
    config: ConfigDict,
    build: experiment.Build,
    folder: pathlib.Path,
    placement: parallel.Placement,
    flag: str = '--workdir',
) -> tuple[int, State, Program]:
    """Restores the newest checkpoint of a run.

    Args:
      config: of the run.
      build: the experiment of the config.
      folder: the workdir of the run.
      placement: where to place the state.
      flag: the flag or config key that gave the folder, for error messages.

    Returns:
      (step, state, the program of the phase that the step belongs to).

    Raises:
      UserError: the run has no checkpoint.
    """
    config = workdir.with_facts(folder, config)
    schedule = programs(config, build, placement, declared=not data.missing(config.model))
    template = parallel.template(placement, jax.eval_shape(make_init(schedule[0])))
    restored = None
    if (folder / 'checkpoints').exists():
        with Checkpoints(folder / 'checkpoints', warn=warn, read_only=True) as checkpoints:
            restored = checkpoints.restore(template)
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
    path = pathlib.Path(folder)
    config = workdir.with_facts(path, ConfigDict(_tuples(workdir.read(path, flag))))
    state = restore(config, experiment.load(config.experiment), path, placement, flag)[1]
    return config, state.variables(averaged=True)


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
      config: of the other run.
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
