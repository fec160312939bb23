"""Configs: common keys, variants, schedules, phases, and shrinking a config for the tests."""

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from ml_collections import ConfigDict, FieldReference

from genlab.choices import named
from genlab.data.facts import AUTO, DECLARED, settings
from genlab.data.load import defaults as data_defaults
from genlab.errors import ConfigError, choose


def defaults(experiment: str) -> ConfigDict:
    """Returns the keys that every config has. A config file changes some, and adds model, losses and optimizers."""
    return ConfigDict(
        dict(
            experiment=experiment,  # experiments/<experiment>.py
            seed=0,  # seed of parameters, data order and noise
            placement='pmap',  # 'pmap': a copy on every device; 'fsdp': large arrays split over them
            tensor=1,  # devices that split the matrix products of one part of a batch, under 'fsdp'
            data=data_defaults(),  # see genlab.data.load
            model=dict(dtype='float32'),  # 'bfloat16': compute in it; parameters stay float32
            losses=untyped(),  # player -> term -> weight: a number, a ramp() or a lazy()
            optimizer=untyped(),  # player -> optimizers.adam(...)
            average=untyped(),  # network -> decay per step of its moving average, or a half_life()
            train=dict(
                steps=1000,
                order=(),  # turns per step, e.g. ('critic',) * 5 + ('generator',); (): each player once
                steps_per_call=1,  # training steps per compiled call: more are faster for small models
                microbatches=1,  # parts of a batch whose gradients are averaged
                on_nan='stop',  # 'stop', or 'skip' the update and count
                heartbeat=20,  # seconds; a process that is silent for longer ends the other processes of the run
                log_every=50,
                sample_every=FieldReference(500, field_type=object),  # steps; 'end' or 0: only at the end
                evaluate_every=FieldReference(0, field_type=object),  # steps; 'end': only at the end; 0: never
                wandb='',  # project of Weights & Biases that gets metrics and samples too; '': none
            ),
            phases=(),  # overlays in time, see phases()
            sample=dict(
                count=64,  # samples per picture
                chunk=64,  # samples per call of the model
                condition=False,  # whether conditions come from held-out examples; else they are random
                candidates=1,  # number of candidates per sample, the best of which is kept; 1: none is rejected
                score=named('classifier'),  # score of candidates, see genlab.sampling.rejection.SCORES
            ),
            evaluate=dict(
                # Evaluators; those that do not apply to a model are skipped.
                parts=(
                    *('quality', 'points', 'stacked', 'scenes', 'layouts', 'translation'),
                    *('held_out', 'reconstruction', 'codes', 'anomaly'),
                ),
                count=1000,  # samples, and held-out examples, to evaluate
                seed=0,  # seed of the samples, and of random choices of the evaluators
                features='auto',  # to compare samples in: 'classifier', 'inception', 'random' or 'pixels'
                features_file='',  # the weights of inception
                reference='train',  # the split that samples are compared with
                reference_count=10_000,  # most examples of that split
                importance=0,  # latents per example for the importance-weighted likelihood; 0: no estimate
                importance_chunk=50,  # latents per call
                exact=0,  # held-out examples whose exact likelihood is computed, where the model has one
                annealed=0,  # runs of annealed importance sampling that estimate a normaliser; 0: no estimate
                temperatures=1000,  # steps of each of these runs
                anomaly='squared_error',  # the measure that finds the classes of config.data.leave_out
                maps=('pca',),  # maps of the codes on a plane: 'pca', 'tsne', 'umap'
            ),
            explore=dict(
                pairs=6,  # pairs of codes to interpolate between, and rows of other pictures
                steps=9,  # images per row
                dimensions=6,  # dimensions of the code to traverse, the most influential first
                reach=3.0,  # largest change, in standard deviations of the codes or of the attribute
                examples=1000,  # whose codes define the deviations and the directions
                inversions=6,  # held-out examples to find codes of; 0: none
                inversion_steps=200,  # gradient steps per example
            ),
            checkpoint=dict(
                every=500,  # steps from one checkpoint to the next
                keep=3,  # newest checkpoints to keep
                best='',  # figure of the evaluations in training whose best checkpoint is kept too; '': none
            ),
        ),
        type_safe=True,
    )


def untyped(**values) -> ConfigDict:
    """Returns a part of a config whose values may change their type, so that a number may become a ramp()."""
    return ConfigDict(values, type_safe=False)


def counted(value: int | str) -> FieldReference:
    """Returns a setting that may change between a number and 'auto', which takes the number from the data."""
    return FieldReference(value, field_type=object)


Variant = Callable[[ConfigDict], None]


def variants(*functions: Variant) -> dict[str, Variant]:
    """Returns the variants of a config by name."""
    return {function.__name__: function for function in functions}


def vary(config: ConfigDict, variant: str, variants: Mapping[str, Variant]) -> ConfigDict:
    """Applies variants to a config in place, in the given order.

    Args:
      config: the base config.
      variant: names separated by commas, e.g. 'mnist,conditional'; '' for none.
      variants: name -> function that changes the config.

    Returns:
      The config.

    >>> def long(config):
    ...     config.train.steps = 5000
    >>> vary(defaults('gan'), 'long', variants(long)).train.steps
    5000
    """
    names = variant.split(',') if variant else []
    for number, name in enumerate(names):
        apply = choose(variants, name, 'variant')
        if name in names[:number]:
            raise ConfigError(f'variant={variant!r}: {name} is named twice: name each variant once')
        try:
            apply(config)
        except (KeyError, AttributeError, TypeError) as error:
            if number == 0:
                raise
            raise ConfigError(
                f'variant={variant!r}: {name} does not fit {",".join(names[:number])} ({error})'
            ) from error
    return config


# TFDS set -> color channels.
CHANNELS = {'mnist': 1, 'fashion_mnist': 1, 'cifar10': 3, 'cifar100': 3}


def tfds(config: ConfigDict, name: str, resolution: int | None = None) -> None:
    """Reads a TFDS set, which must be prepared in `config.data.dir`.

    Args:
      config: the config to change.
      name: the TFDS set, e.g. 'mnist'.
      resolution: pixels per side; None keeps the config's.

    Raises:
      ConfigError: the config reads another TFDS set already.
    """
    if config.data.source == 'tfds' and config.data.name != name:
        raise ConfigError(f'{name} does not fit {config.data.name}: name one set of images')
    config.data.update(source='tfds', name=name, channels=CHANNELS.get(name, config.data.channels))
    if resolution is not None:
        config.data.resolution = resolution


def codes(config: ConfigDict, folder: str) -> None:
    """Models the codes of another run's tokenizer, whose folder is `config.model.tokenizer`.

    `config.data.dir` is the same value under another key: setting one sets both.

    Args:
      config: the config to change.
      folder: folder of that run; `runs/<config>-<variant>`, as main names it.
    """
    config.model.tokenizer = folder
    if config.data.source != 'codes':  # else the two keys are one already
        config.data.update(source='codes', observe='codes')
        config.data.dir = config.model.get_ref('tokenizer')


def order(config: ConfigDict) -> tuple[str, ...]:
    """Returns the players' turns per step: `train.order`, or each player of `losses` once."""
    return tuple(config.train.order) or tuple(config.losses)


def ramp(start: float, end: float, steps: int = 0, begin: int = 0) -> ConfigDict:
    """Returns a weight or rate that changes linearly from `start` to `end`, as plain values.

    Args:
      start: the value up to step `begin`.
      end: the value after the ramp.
      steps: the length; 0 lasts to the end of the run, `config.train.steps`, which is then fixed once the run began.
      begin: the first step of the ramp.

    >>> weight = schedule(ramp(0, 1, steps=10, begin=5))
    >>> [float(weight(step)) for step in (0, 10, 20)]
    [0.0, 0.5, 1.0]
    """
    return ConfigDict(dict(start=float(start), end=float(end), steps=steps, begin=begin))


RAMP = {*ramp(0, 0)}  # the keys of a ramp()


def lazy(weight: float | ConfigDict, every: int) -> ConfigDict:
    """Returns the weight of a term that is computed on every `every`-th step only, as plain values.

    On those steps the weight is multiplied by `every`, so the mean gradient over the steps is unchanged (Karras et al.
    2020, section 3.1). All other steps are another compiled program, without the term.

    Args:
      weight: a number or a ramp().
      every: steps from one computation to the next; a multiple of `config.train.steps_per_call`.
    """
    return untyped(weight=weight, every=every)


def half_life(images: float, rampup: float = 0.0) -> ConfigDict:
    """Returns the decay of a moving average as the number of images after which half of it is replaced.

    Args:
      images: the half-life in training images.
      rampup: early half-life as a fraction of the images seen so far (Karras et al. 2020 use 0.05); 0 for none.
    """
    return untyped(images=float(images), rampup=float(rampup))


def schedule(value: float | ConfigDict, total_steps: int = 0) -> Callable | float:
    """Returns a number unchanged, or a ramp() as a function of the step.

    Args:
      value: a number or a ramp().
      total_steps: the length of the run; a ramp without steps ends there.
    """
    if not isinstance(value, ConfigDict):
        return value
    steps = ramp_steps(value, total_steps)
    return lambda step: value.start + (value.end - value.start) * jnp.clip((step - value.begin) / max(steps, 1), 0, 1)


def ramp_steps(value: Mapping[str, Any], total_steps: int) -> int:
    """Returns the length of a ramp() in a run of `total_steps`."""
    return value['steps'] or total_steps - value['begin']


def with_ramp_steps(tree: Any, total_steps: int) -> Any:
    """Returns plain values, e.g. of a config, in which every ramp() has the length that it has in a run of that length.

    A ramp() is a dict of exactly its four keys. Every setting that depends on `train.steps` is one, so that it cannot
    move when a run is prolonged.
    """
    if isinstance(tree, (list, tuple)):
        return [with_ramp_steps(value, total_steps) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if set(tree) == RAMP:
        return {**tree, 'steps': ramp_steps(tree, total_steps)}
    return {key: with_ramp_steps(value, total_steps) for key, value in tree.items()}


def check_ramp(value: object, where: str) -> None:
    """Raises ConfigError if a part in place of a number is not a ramp(). `where` is its dotted key."""
    if not isinstance(value, ConfigDict):
        return
    if {*value.keys()} != RAMP:
        raise ConfigError(f'{where} has {", ".join(value.keys())}: give a number or a ramp()')
    for name in ('steps', 'begin'):
        if not isinstance(value[name], int) or value[name] < 0:
            raise ConfigError(f'{where}.{name}={value[name]!r}: give a whole number, at least 0')
    for name in ('start', 'end'):
        if not isinstance(value[name], (int, float)):
            raise ConfigError(f'{where}.{name}={value[name]!r}: give a number')


def weights(config: ConfigDict, player: str) -> dict[str, Callable | float]:
    """Returns term -> weight or schedule for `config.losses.<player>`. A lazy weight is multiplied by its period."""
    found = {}
    for term, value in config.losses[player].items():
        where = f'config.losses.{player}.{term}'
        weight, every = (value.weight, value.every) if _is_lazy(value) else (value, 1)
        if not isinstance(weight, (int, float, ConfigDict)):
            raise ConfigError(f'{where}={weight!r}: a weight is a number, a ramp() or a lazy()')
        check_ramp(weight, where)
        if not isinstance(every, int) or every < 1:
            raise ConfigError(f'{where}.every={every!r}: give a number of steps, at least 1')
        found[term] = _times(schedule(weight, config.train.steps), every)
    return found


def periods(config: ConfigDict) -> dict[str, int]:
    """Returns 'player/term' -> its period in steps, for the terms whose weights are lazy()."""
    return {
        f'{player}/{term}': value.every
        for player, terms in config.losses.items()
        for term, value in terms.items()
        if _is_lazy(value)
    }


def decays(config: ConfigDict) -> dict[str, Callable | float]:
    """Returns network -> the decay per step of its moving average: a number, or a function of the step.

    Raises:
      ConfigError: a decay is neither a number in [0, 1] nor a half_life().
    """
    for network, value in config.average.items():
        half = isinstance(value, ConfigDict) and {*value.keys()} == {'images', 'rampup'}
        if half and not (value.images > 0 and value.rampup >= 0):
            raise ConfigError(f'config.average.{network}: give images above 0, and a rampup of at least 0')
        if not half and not (isinstance(value, (int, float)) and 0 <= value <= 1):
            raise ConfigError(f'config.average.{network}={value!r}: give a number from 0 to 1, or a half_life()')
    size = config.data.batch_size

    def decay(value: ConfigDict) -> Callable:
        def at(step):
            images = jnp.minimum(value.images, value.rampup * step * size) if value.rampup else value.images
            return 0.5 ** (size / jnp.maximum(images, 1e-8))

        return at

    return {
        network: decay(value) if isinstance(value, ConfigDict) else value for network, value in config.average.items()
    }


def _is_lazy(value: object) -> bool:
    return isinstance(value, ConfigDict) and 'every' in value


def _times(weight: Callable | float, factor: int) -> Callable | float:
    if factor == 1:
        return weight
    return (lambda step: weight(step) * factor) if callable(weight) else weight * factor


class Phase(NamedTuple):
    """A part of a run with a config of its own."""

    start: int  # its first step
    end: int  # the step after its last one
    config: ConfigDict
    restart: tuple[str, ...]  # players whose optimizers restart with it


# What an overlay must leave alone, because it holds for the whole run.
FIXED = (
    'experiment',
    'seed',
    'placement',
    'tensor',
    'phases',
    'checkpoint',
    'train.steps',
    'train.on_nan',
    'train.heartbeat',
    'train.wandb',
)


def phases(config: ConfigDict) -> Iterator[Phase]:
    """Yields the phases of a run: one, unless `config.phases` is set.

    `config.phases` is a tuple of overlays: ({'until': 500, 'losses.model.kl': 0.0}, {'restart': ('model',)}). Each is
    laid over the config itself, from the end of the previous phase to the step `until`. The last one has no `until`.
    Data, sampling and evaluation follow the overlay too. The tree of the state is the same in all phases. `restart`
    names players whose optimizers forget their moments when the phase begins.

    Raises:
      ConfigError: the steps do not grow, or a key is unknown or holds for the whole run.
    """
    overlays: tuple[Mapping[str, Any], ...] = config.phases or ({},)
    _check_overlays(overlays)
    ends = [overlay.get('until') for overlay in overlays]
    earlier = [end for end in ends[:-1] if end is not None]
    if ends[-1] is not None or len(earlier) < len(ends) - 1 or sorted({*earlier}) != earlier:
        raise ConfigError(f'config.phases: until={ends}: give a later step to each phase, and none to the last')
    start = 0
    for overlay in overlays:
        phase = config.copy_and_resolve_references()
        for key, value in overlay.items():
            if key not in ('until', 'restart'):
                _overlay(phase, key, value)
        restart = tuple(overlay.get('restart', ()))
        for player in restart:
            choose(config.losses, player, 'config.phases: restart')
        end = min(overlay.get('until', config.train.steps), config.train.steps)
        yield Phase(start, end, phase, restart)
        start = end


def _check_overlays(overlays: object) -> None:
    """Raises ConfigError if `config.phases` does not have the form that `phases` describes."""
    if not isinstance(overlays, (tuple, list)):
        raise ConfigError(f'config.phases={overlays!r}: give a tuple of overlays, one per phase')
    for number, overlay in enumerate(overlays):
        where = f'config.phases[{number}]'
        if not isinstance(overlay, (Mapping, ConfigDict)) or not all(isinstance(key, str) for key in overlay):
            raise ConfigError(f"{where}={overlay!r}: give an overlay such as {{'until': 500, 'data.batch_size': 32}}")
        until, restart = overlay.get('until'), overlay.get('restart', ())
        if until is not None and (not isinstance(until, int) or until < 1):
            raise ConfigError(f'{where}: until={until!r}: give a whole number of steps, at least 1')
        if not isinstance(restart, (tuple, list)):
            raise ConfigError(f'{where}: restart={restart!r}: give a tuple of players')


def _overlay(phase: ConfigDict, key: str, value: object) -> None:
    """Sets one key of a phase, in place."""
    check_key(phase, key, 'config.phases: ')
    if any(key == fixed or key.startswith(f'{fixed}.') for fixed in FIXED):
        raise ConfigError(f'config.phases: config.{key} holds for the whole run: set it outside of the phases')
    try:
        with phase.ignore_type() if key in UNTYPED else contextlib.nullcontext():
            put(phase, key, value)
    except TypeError:
        raise ConfigError(
            f'config.phases: config.{key}={value!r}: its type is {type(at(phase, key)).__name__}'
        ) from None


UNTYPED = ('train.sample_every', 'train.evaluate_every')  # a number of steps or 'end'


def at(tree: Any, key: str) -> Any:
    """Returns the value at a dotted key of nested configs or dicts, None if there is none."""
    for part in key.split('.'):
        tree = tree[part] if isinstance(tree, (dict, ConfigDict)) and part in tree else None
    return tree


def put(config: ConfigDict, key: str, value: object) -> None:
    """Sets the value at a dotted key; a named choice is replaced as a whole."""
    parent, _, last = key.rpartition('.')
    (at(config, parent) if parent else config)[last] = value


def check_key(config: ConfigDict, dotted: str, where: str = '') -> None:
    """Raises ConfigError with the nearest key if `dotted` is not a key of the config."""
    node, path = config, 'config'
    for part in dotted.split('.'):
        if not isinstance(node, ConfigDict) or part not in node:
            known = [*node.keys()] if isinstance(node, ConfigDict) else []
            near = difflib.get_close_matches(part, known, 1)
            meant = [f'{path}.{near[0]}'] if near else ending(config, dotted)[:3]
            hint = f'did you mean {" or ".join(meant)}?' if meant else f'{path} has {", ".join(known) or "no keys"}'
            raise ConfigError(f'{where}unknown key config.{dotted}: {hint}')
        node, path = node[part], f'{path}.{part}'


def ending(config: ConfigDict, name: str, path: str = 'config') -> list[str]:
    """Returns the dotted keys of a config that end in `name`, such as config.train.steps in 'steps'."""
    found = []
    for key in config:
        here = f'{path}.{key}'
        found += [here] if here.endswith(f'.{name}') else []
        found += ending(config[key], name, here) if isinstance(config[key], ConfigDict) else []
    return found


def differences(old: Mapping, new: Mapping, ignore: tuple[str, ...] = (), prefix: str = '') -> list[str]:
    """Returns the dotted keys whose values differ between two nested dicts of plain values, except those ignored."""
    keys = []
    for key in sorted({*old, *new}):
        path = f'{prefix}{key}'
        if path in ignore:
            continue
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            keys += differences(old[key], new[key], ignore, f'{path}.')
        elif (key in old) != (key in new) or old[key] != new[key]:
            keys.append(path)
    return keys


# Upper limits of `small` for the sizes of a model, and for the lengths of its tuples.
CAPS = {
    'width': 8,
    'latent_size': 8,
    'features': 16,
    'blocks': 1,
    'residual_blocks': 1,
    'context_blocks': 1,
    'depth': 2,
    'layers': 1,
    'heads': 2,
    'base': 128,
    'most': 8,
    'group': 2,
    'bound_times': 2,
    'components': 4,
    'pool': 10,
    'restarts': 2,
    'stages': 2,
}
LENGTHS = {'multipliers': 1}


def small(config: ConfigDict) -> ConfigDict:
    """Returns the config shrunk to run in seconds: embedded data, tiny networks, and two steps per call and phase.

    It has at least four steps. Phases of larger images are dropped, and no player has more than two turns in a row. A
    limit of training examples is at most 64. Nothing else changes.
    """
    config = config.copy_and_resolve_references()
    _read_embedded_data(config)
    config.data.update(resolution=16, batch_size=8)
    config.data.limit = min(config.data.limit, 64)
    _shorten_phases(config)
    _compute_every_term(config)
    if config.train.order:  # one turn of a player in a row, or two
        turns = tuple(config.train.order)
        config.train.order = tuple(turn for n, turn in enumerate(turns) if turns[max(n - 2, 0) : n] != (turn, turn))
    for optimizer in config.optimizer.values():  # a rate keeps its slope: over four steps it would fall to its end
        rate = optimizer.learning_rate
        if isinstance(rate, ConfigDict) and not rate.steps:
            rate.steps = ramp_steps(rate, config.train.steps)
    config.train.update(
        steps=max(4, 2 * len(config.phases)),
        steps_per_call=2,
        microbatches=min(config.train.microbatches, 2),
        log_every=1,
    )
    with config.ignore_type():  # 'end' becomes a number
        config.train.update(sample_every=0, evaluate_every=0)
    config.sample.update(count=4, chunk=4)
    if 'steps' in config.sample:
        config.sample.steps = min(config.sample.steps, 4)
    config.evaluate.update(count=8, temperatures=4)
    config.explore.update(pairs=2, steps=3, dimensions=2, examples=16, inversions=2, inversion_steps=2)
    config.checkpoint.every = 2
    shrink(config.model)
    return config


def _read_embedded_data(config: ConfigDict) -> None:
    """Replaces data that would have to be downloaded, in place."""
    if config.data.source in ('tfds', 'folder'):
        config.data.update(source='digits', name='', dir='')
        other = {f'model.{key}': AUTO for key, name, value in settings(config.model) if name in DECLARED and value}
        with config.ignore_type():  # the number of classes of other data
            config.update_from_flattened_dict(other)
    if config.data.source == 'stacked':
        config.data.update(stacked='digits', name='', dir='')
    if config.data.source == 'speech':
        config.data.update(name='', dir='', images_dir='', speaker='')
    if config.data.source == 'pairs':  # a drawing and a picture of the same scene
        config.data.update(source='scenes', name='', dir='', fields=('style',))
        config.data.unpaired = 'style' if config.data.unpaired else ''
        config.model.input = 'style'


def _shorten_phases(config: ConfigDict) -> None:
    """Gives each phase two steps and small batches, and drops phases of larger images, in place."""
    overlays = [{**overlay} for overlay in config.phases if overlay.get('data.resolution', 0) <= 16]
    for number, overlay in enumerate(overlays):
        overlay |= {key: 8 for key in overlay if key == 'data.batch_size'}
        overlay.pop('until', None)
        if number < len(overlays) - 1:
            overlay['until'] = 2 * number + 2
    config.phases = tuple(overlays)


def _compute_every_term(config: ConfigDict) -> None:
    """Lets lazy terms and terms that start later be computed within the first steps, in place."""
    for terms in config.losses.values():
        for weight in terms.values():
            if _is_lazy(weight):
                weight.every = 2
            elif isinstance(weight, ConfigDict):  # a term that starts later would never be computed
                weight.begin = min(weight.begin, 1)


def shrink(model: ConfigDict) -> None:
    """Caps the sizes in a model's part of a config, at any depth."""
    for key, value in model.items():
        if isinstance(value, ConfigDict):
            shrink(value)
        elif key in CAPS:
            model[key] = (
                tuple(min(size, CAPS[key]) for size in value) if isinstance(value, tuple) else min(value, CAPS[key])
            )
        elif key in LENGTHS:
            model[key] = value[: LENGTHS[key]]
