"""What a run has learned: its newest checkpoint, for the tools that look at it and for runs that build on it."""

import pathlib

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlab import data, experiment
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
    """(step, state, the phase that the step is of) of the newest checkpoint of a run of this config.

    flag: what named the folder, for errors."""
    schedule = programs(config, build, placement, data.declared)
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
    """(config, variables) of another run, laid over this run's devices; parameters are the averaged ones where it kept them.

    flag: the key of this run's config that named the folder, for errors."""
    path = pathlib.Path(folder)
    config = ConfigDict(_tuples(workdir.read(path, flag)))
    state = restore(config, experiment.load(config.experiment), path, placement, flag)[1]
    return config, state.variables(averaged=True)


def adopt(state: State, variables: dict) -> State:
    """The state with these networks' variables in place of its own."""
    params = {name: found['params'] for name, found in variables.items()}
    stats = {
        name: {kind: tree for kind, tree in found.items() if kind != 'params'} for name, found in variables.items()
    }
    average = {
        name: jax.tree.map(jnp.copy, params[name]) for name in params if name in state.average
    }  # a step donates both
    return state.replace(
        params={**state.params, **params}, stats={**state.stats, **stats}, average={**state.average, **average}
    )


def expect(config: ConfigDict, wanted: ConfigDict, flag: str, where: str) -> None:
    """Raises where a run's `config.model` differs from what is wanted of it, which this run's config has at `where`."""
    for key, value in workdir.plain(wanted).items():
        if (found := workdir.plain(config.model).get(key)) != value:
            raise ConfigError(f'{flag}: its run has {key}={found}, and here {where}.{key}={value}: make them the same')


def _tuples(value):
    """Plain values of JSON as a config has them: lists as tuples."""
    if isinstance(value, dict):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
