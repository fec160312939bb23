"""One battery over every config: what each must do whatever it is, shrunk by `small` to seconds."""

import pathlib

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from genlab import config as configs
from genlab import experiment
from genlab.choices import is_named
from genlab.config import at, periods, small
from genlab.errors import ConfigError
from genlab.run.describe import describe
from genlab.sampling import drawing
from genlab.training import parallel, totals
from genlab.training.program import check_first_step, declared
from support import categorical_prior, reads, running_mean
from support.runs import FILES, Trained, module_of, with_sgd
from support.tokenizers import with_tokenizer

# Experiments of the tests: one with a step of its own, and one over the codes of another run.
SIDES = {'gigagan': 8, 'stylegan2': 8}  # two levels of images suffice where each level is compiled twice
OWN = {pathlib.Path(module.__file__): module for module in (running_mean, categorical_prior)}


@pytest.fixture(scope='module', params=[*FILES, *OWN], ids=lambda path: path.stem)
def trained(request):
    module = OWN.get(request.param) or module_of(request.param)
    config = with_tokenizer(small(module.get_config()))
    if periods(config):  # two steps, of which one has no lazy terms, would be compiled one after the other
        config.train.steps_per_call = 1
    if request.param.stem in SIDES:
        config.data.resolution = SIDES[request.param.stem]
    with reads.recorded() as read:
        run = Trained(with_sgd(config, 0.01, momentum=0.5, clip=1.0))
    run.read = read
    run.two = run.run((run.start, run.zero), 0, 2)
    run.four = run.run((run.start, run.zero), 0, 4)
    return run


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_variant_is_described(path):
    module, described = module_of(path), set()
    for variant in ('', *module.VARIANTS):
        config = with_tokenizer(module.get_config(variant))
        build = experiment.load(config.experiment)
        build(config)  # of full size: names, options and settings fit
        config = small(config)
        networks = str(config.model), str(config.data)
        if networks not in described:  # most variants differ in their data or sizes, which `small` makes equal
            described.add(networks)
            empty = {name for name, network in describe(config, build).items() if not network['parameters']}
            empty = {name.removeprefix('top_').removeprefix('bottom_') for name in empty}
            assert empty <= {'scale', 'quantizer', 'path_length', 'augmentation', 'pool'}  # measured, not learned


# Settings of a model that only some variants, later phases or evaluations read: see `dead_keys_test.py`.
ELSEWHERE = tuple(
    f'model.{name}'
    for name in (
        'bound',
        'bound_times',
        'deviation',
        'dimensions',
        'drop_condition',
        'gamma',
        'one_step',
        'stratified',
        'text',
    )
)


def test_every_key_of_the_model_is_read(trained):
    keys = {key for key in reads.leaves(trained.config) if key.startswith(('model.', 'optimizer.', 'average.'))}
    unread = {key for key in keys - trained.read if '.'.join(key.split('.')[:2]) not in ELSEWHERE}
    assert not unread, f'nothing reads {", ".join(sorted(unread))}'


def test_unknown_options_and_terms_are_refused_before_a_run(trained):
    """Nothing is compiled for it. The check of the terms also shows that the objectives of all players are traced."""
    build, sources = experiment.load(trained.config.experiment), {}
    for path in [path for path, value in parts_of(trained.config) if is_named(value)]:
        config = trained.config.copy_and_resolve_references()
        with config.unlocked():
            at(config, path)['unknown'] = 1
        with pytest.raises(ConfigError, match=rf'config.*{path.split(".")[-1]}.unknown: .* has no such option'):
            declared(config, build, sources)
    config = trained.config.copy_and_resolve_references()
    if not config.losses:
        return
    player = [*config.losses][-1]
    config.losses[player]['unknown'] = 1.0
    schedule = declared(config, build, sources)
    with pytest.raises(ConfigError, match=f'config.losses.{player}.unknown: {player} offers no such term'):
        check_first_step(schedule[:1], trained.start)


def parts_of(config, path=''):
    """Yields the parts of a config by dotted key, at any depth."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield f'{path}{key}', value
            yield from parts_of(value, f'{path}{key}.')


def test_two_calls_are_finite(trained):
    state, sums = trained.two
    assert totals.first_bad(jax.device_get(sums)) is None
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state)))
    assert int(state.step) == 2 * trained.config.train.steps_per_call


def test_trained_networks_move_and_frozen_ones_stay(trained):
    # After four calls: through layers that start as zeros a gradient takes steps to come.
    before, (state, _) = jax.device_get((trained.start.params, trained.four))
    moving = set().union(*(moments_of(trained.start, player) for player in configs.order(trained.program.config)))
    if not state.optimizer:  # a step of its own moves networks as a whole
        changed = jax.tree.map(lambda old, new: not np.array_equal(old, new), before, state.params)
        moving = {network for network in before if any(jax.tree.leaves(changed[network]))}
        assert moving or not jax.tree.leaves(before)
    learns = {}  # leaf -> whether its momentum is not zero: a small rate may leave the leaf as it was
    for path, leaf in jax.tree.leaves_with_path(state.optimizer):
        names = [key.key for key in path if hasattr(key, 'key')]
        learns[tuple(names[1:])] = bool(np.any(leaf))
    for network in before:
        if 'growth' in trained.start.stats[network]:
            continue  # the levels of later phases rest
        for (path, old), new in zip(jax.tree.leaves_with_path(before[network]), jax.tree.leaves(state.params[network])):
            names = (network, *(key.key for key in path))
            moved = not np.array_equal(old, new)
            assert (moved or learns.get(names, False)) == (network in moving) and moved <= (network in moving), names


def moments_of(state, player):
    """The networks that a player's optimizer keeps moments of."""
    networks = set(state.params)
    paths = jax.tree.leaves_with_path(state.optimizer[player])
    return {getattr(key, 'key', None) for path, _ in paths for key in path} & networks


def test_all_shards_are_equal(trained):
    """pmap calls its outputs replicated without looking: a forgotten mean over devices would show here alone."""
    for path, leaf in jax.tree.leaves_with_path(trained.two):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(shards) == 4
        assert all(np.array_equal(shards[0], shard, equal_nan=True) for shard in shards), jax.tree_util.keystr(path)


def test_two_and_two_are_four(trained):
    """A run that continues from a copy of its state on the host is the run that was never interrupted, bit by bit."""
    host = jax.device_get(trained.two)
    again = trained.run(parallel.replicate(trained.placement, host), 2, 2)
    for path, leaf in jax.tree.leaves_with_path(trained.four):
        other = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(again)}
        assert np.array_equal(leaf, other[jax.tree_util.keystr(path)]), jax.tree_util.keystr(path)


def test_a_sample_depends_on_its_key_alone(trained):
    """Samples of reversed keys are the reversed samples, though each is then made on another device beside others."""
    state, config = trained.two[0], trained.config
    variables, model = state.variables(averaged=True), trained.program.experiment
    if model.sampler is None:
        pytest.skip('it cannot sample')
    # Eight keys, two rows per device: XLA multiplies a single row by another kernel, which rounds differently.
    keys, condition = drawing.keys(0, 0, 8), drawing.condition_at(config, model.conditions)(np.arange(8))
    sample = drawing.jitted(model.sampler.sample)

    def draw(keys, condition):
        both = keys, condition
        return parallel.run(trained.placement, lambda variables, both: sample(variables, *both), variables, both)

    drawn, back = draw(keys, condition), draw(keys[::-1], jax.tree.map(lambda leaf: leaf[::-1], condition))
    assert np.isfinite(drawn).all() and len(np.unique(drawn.reshape(8, -1), axis=0)) == 8
    np.testing.assert_allclose(back[::-1], drawn, atol=2e-6)


def test_measures_are_per_example(trained):
    """By shapes alone: the numbers are checked where the models are."""
    model, config = trained.program.experiment, trained.config
    if model.measure is None:
        pytest.skip('it has no measures')
    batch = drawing.examples(config)(np.arange(8))
    values = jax.eval_shape(model.measure, trained.start.variables(), batch, drawing.keys(0, 0, 8))
    assert values and all(value.shape == (8,) and value.dtype == np.float32 for value in values.values())
