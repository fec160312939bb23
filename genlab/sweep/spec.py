"""The trials that a config file and a command describe, each checked against the locked config.

    python -m genlab.sweep.spec CONFIG NAMES FOLDER DEVICES ARGUMENT...

prints them as JSON. DEVICES is the number that each trial has. It is a process of its own because configs import JAX,
which the sweeping process does not need.
"""

import functools
import json
import pathlib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from genlab import experiment, main
from genlab.choices import is_named
from genlab.config import RAMP, at, check_key, put, with_ramp_steps
from genlab.data.source import Source
from genlab.errors import ConfigError, UserError, meant
from genlab.run import terminal, workdir
from genlab.run.files import path_of
from genlab.run.platform import set_up_jax
from genlab.sweep import hyper, trials
from genlab.training import parallel
from genlab.training.program import check_first_step, declared

PREFIX = 'sweep_'  # of the generators in a config file


def overrides(module: types.ModuleType, names: Sequence[str]) -> hyper.Trials:
    """Returns the trials of a config file: of `get_hyper`, or the product of the named generators.

    Raises:
      ConfigError: there is no such generator, or one does not return a list of dicts.
    """
    known = [name.removeprefix(PREFIX) for name in vars(module) if name.startswith(PREFIX)]
    generators = [getattr(module, PREFIX + name, None) for name in names] or [getattr(module, 'get_hyper', None)]
    for name, generator in zip(names or ['get_hyper'], generators):
        if generator is None:
            listed = ', '.join(known) or 'no sweeps'
            missing = f'--sweep={name}: it has {listed}{meant(name, known)}' if names else f'name a sweep ({listed})'
            raise ConfigError(
                f'{missing}; a config file defines {PREFIX + name if names else "get_hyper"}(hyper), or '
                f'{PREFIX}NAME(hyper) for --sweep=NAME'
            )
    parts = []
    for name, generator in zip(names or ['get_hyper'], generators):
        part = generator(hyper) if generator else None
        if not isinstance(part, list) or not all(isinstance(trial, dict) for trial in part):
            raise ConfigError(f'{name}: it returns {type(part).__name__}: return a list of dicts, as hyper.sweep does')
        parts.append(part)
    return hyper.product(parts)


def applied(config: ConfigDict, trial: Mapping[str, Any]) -> dict[str, Any]:
    """Applies overrides to a config in place, by the rules of the command.

    Args:
      config: the locked config.
      trial: dotted key -> value.

    Returns:
      The overrides with the values that the config holds afterwards, so that 1 and 1.0 of a rate are the same trial.

    Raises:
      ConfigError: a key is unknown, or a value is not of the type of its key. `check` tells whether options of choices
        are known.
    """
    trial = dict(sorted(hyper.merged([trial]).items()))
    words = {trials.argument(key, value): key for key, value in trial.items()}
    choices = main.of_choices(config, list(words))
    for word, key in words.items():
        value = trial[key]
        if main.is_new_term(config, word):
            main.weigh(config, word)
        elif word in choices:
            continue
        else:
            check_key(config, key, 'sweep: ')
            put(config, key, typed(config, key, value))
    for word in choices:
        value = trial[words[word]]
        if not isinstance(value, (bool, int, float, str, tuple, list)):
            raise ConfigError(f'sweep: config.{words[word]}={value!r}: give a number, a string or a tuple')
        main.select(config, word)
    main.leave_source(config, {word.partition('=')[0] for word in words})
    return {key: _plain(at(config, key), trial[key]) for key in trial}


def _plain(held: Any, given: Any) -> Any:
    """Returns the value that a config holds; of a named choice the name that was given."""
    return given if is_named(held) else held


def typed(config: ConfigDict, key: str, value: Any) -> Any:
    """Returns a value as the command converts it for a key of the config.

    Raises:
      ConfigError: its type is another.
    """
    above, _, last = key.rpartition('.')
    old, parent = at(config, key), at(config, above) if above else config
    where = f'sweep: config.{key}={value!r}'
    if isinstance(old, ConfigDict):
        parts = ', '.join(f'config.{key}.{name}' for name in old)
        what = 'a ramp()' if {*old.keys()} == RAMP else 'a part'
        raise ConfigError(f'{where}: it is {what}: set one of {parts}')
    if not isinstance(value, (bool, int, float, str, tuple, list)):
        raise ConfigError(f'{where}: give a number, a string or a tuple')
    if isinstance(value, list):
        value = tuple(value)
    declared = parent.get_type(last)
    if declared is object and not isinstance(value, (bool, tuple)):  # a number or a word
        return value
    kind: type = type(old) if declared is object else declared
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f'{where}: its type is {kind.__name__}')
    return value


def base_config(config: str, arguments: Sequence[str]) -> ConfigDict:
    """Returns the config of a command: of the file, with the arguments that all trials share."""
    known = flags.FlagValues()
    holder = config_flags.DEFINE_config_file('config', None, flag_values=known)
    before = sys.argv[:]
    try:
        main.parse(['genlab.main', f'--config={config}', *arguments], known, holder)
    finally:
        sys.argv[:] = before  # `parse` changes it
    return holder.value


def trial_config(path: str, arguments: Sequence[str], overrides: Mapping[str, Any]) -> ConfigDict:
    """Returns the config of a trial: of the file, with the arguments that all trials share and its overrides."""
    config = base_config(path, arguments)
    applied(config, overrides)
    return config


def listed(config: str, names: Sequence[str], folder: pathlib.Path, arguments: Sequence[str]) -> list[trials.Trial]:
    """Returns the checked trials of a sweep.

    Args:
      config: the value of --config, with its variant.
      names: of generators; () for `get_hyper`.
      folder: of the sweep. A trial that has run there must have had the same config.
      arguments: that all trials share.

    Raises:
      ConfigError: a trial cannot run as it is given.
    """
    path = main.locate(f'--config={config}').removeprefix('--config=')
    main.read(path)  # raises where there is no such file or variant
    found = overrides(main.load(path.partition(':')[0]), names)
    given = {word.removeprefix('--config.').partition('=')[0] for word in arguments}
    shared = base_config(path, arguments)
    canonical, configs = [], []
    for trial in found:
        if twice := sorted({*map(hyper.bare, trial)} & given):
            raise ConfigError(
                f'config.{twice[0]} is set twice: in the sweep and by --config.{twice[0]}: keep one of them'
            )
        configs.append(base_config(path, arguments))
        canonical.append(applied(configs[-1], trial))
    result = []
    for (name, held), tree in zip(trials.number(canonical).items(), configs):
        run = folder / name
        if (run / 'config.json').exists() and (keys := workdir.compare(run, tree)):
            raise ConfigError(
                f'--workdir={folder}: trial {name} has run with another config; {", ".join(keys)} differ: name '
                'another folder'
            )
        before = {key: value.name if is_named(value := at(shared, key)) else value for key in held}
        train, plain = tree.train, workdir.plain(tree)
        stretched = with_ramp_steps(plain, train.steps) != with_ramp_steps(plain, train.steps + 1)
        evaluated = bool(train.evaluate_every)
        result.append(trials.Trial(name, held, train.steps, evaluated, before, train.steps_per_call, stretched))
    return result


def check(configs: Mapping[str, ConfigDict], devices: int = 1) -> None:
    """Raises where a trial would be refused at its start. Nothing is compiled, and no example is read.

    Each trial is built. Trials whose networks and terms are the same share the check of the first step, which takes
    the time of a trace.

    Args:
      configs: id -> config.
      devices: of each trial.

    Raises:
      ConfigError: it names the trial.
    """
    sources: dict[str, Source] = {}
    traced = set()
    for name, config in configs.items():
        try:
            schedule = declared(config, experiment.load(config.experiment), sources)
            parts = parallel.parts(config.placement, devices, config.tensor)
            for of in (program.config for program in schedule):
                parallel.process_rows(of.data.batch_size, parts, of.train.microbatches)
            if (text := _traced(config)) not in traced:
                check_first_step(schedule)
                traced.add(text)
        except UserError as error:
            raise ConfigError(f'trial {name}: {error}') from None
        except Exception as error:  # of a network, a value that no check knows
            raise ConfigError(f'trial {name}: {type(error).__name__}: {" ".join(str(error).split())[:300]}') from error


def _traced(config: ConfigDict) -> str:
    """Returns what `check_first_step` depends on, as text: not rates, weights and seeds."""
    held = workdir.plain(config)
    shared = {key: held[key] for key in ('experiment', 'data', 'model', 'phases')}
    optimizers = {player: {**chosen, 'learning_rate': 0} for player, chosen in held['optimizer'].items()}
    named = {player: [*terms] for player, terms in held['losses'].items()}, [*held['average']], held['train']['order']
    return json.dumps([shared, optimizers, *named], sort_keys=True)


def run() -> None:
    """Prints the trials of the command's arguments as JSON."""
    set_up_jax(only_compile=True)
    together, words = sys.argv[1] == '--together', [word for word in sys.argv[1:] if word != '--together']
    config, names, folder, devices, *arguments = words
    found = listed(config, list(filter(None, names.split(','))), path_of(folder), arguments)
    path = main.locate(f'--config={config}').removeprefix('--config=')
    config_of = functools.partial(trial_config, path, arguments)
    check({trial.id: config_of(trial.overrides) for trial in found}, int(devices))
    if together:
        from genlab.sweep import vmapped  # which imports this module

        vmapped.check(config_of, [trial.overrides for trial in found])
    terminal.show(json.dumps([trial._asdict() for trial in found], default=str))


if __name__ == '__main__':
    main.guarded(run)
