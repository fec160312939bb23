"""Tests that every key of a config is read by something: a key that nothing reads is dead."""

import re

import jax
import pytest

from genlab import experiment, modes
from genlab.config import small
from genlab.training import parallel
from genlab.training.program import make_init, metric_names, programs
from support import reads
from support.runs import FILES, module_of
from support.tokenizers import with_tokenizer


def test_reads_are_recorded_by_path_and_checks_do_not_count():
    config = small(module_of(FILES[0]).get_config())
    with reads.recorded() as read:
        copy = config.copy_and_resolve_references()
        assert copy.data.batch_size and config.get('seed') is not None
        programs(copy, lambda config, axis: experiment.Experiment(None, None), parallel.place('pmap'), declared=True)
    assert {'data.batch_size', 'seed', 'train.steps'} <= read
    assert not read & {'evaluate.maps', 'explore.reach', 'checkpoint.keep'}  # these are only checked


def named(key):
    """Returns a key without the names that a config chooses: players, terms and networks."""
    return re.sub(r'^(losses|optimizer|average)\.[^.]+(\..*)?', r'\1\2', key)


# What only some runs read: with weights in a file, with classes that are left out, with the term min_snr, and commands.
BESIDE = {'evaluate.features_file', 'evaluate.anomaly', 'model.gamma', 'train.heartbeat'}


@pytest.mark.slow
def test_no_key_is_dead(tmp_path):
    """Uses one config of each family in every mode, and traces other variants as long as keys are missing."""
    configs = [
        with_tokenizer(small(module.get_config(variant)))
        for module in map(module_of, FILES)
        for variant in ('', *getattr(module, 'VARIANTS', {}))
    ]
    keys = {named(key) for config in configs for key in reads.leaves(config)} - BESIDE
    read = set()
    alone = [config for config in configs if not config.model.get('first_stage')]  # without the run of another config
    for config in {config.experiment: config for config in reversed(alone)}.values():
        read |= use(config, tmp_path / config.experiment)
    for config in alone:
        if (keys - read) & {*map(named, reads.leaves(config))}:
            read |= trace(config)
    assert not keys - read, f'nothing reads {", ".join(sorted(keys - read))}'


def use(config, folder):
    """Trains four steps, evaluates, samples and explores. Returns the keys that are read."""
    config.train.evaluate_every = 4
    config.evaluate.update(importance=1, importance_chunk=1)
    with reads.recorded() as read:
        build = experiment.load(config.experiment)
        modes.train(config, build, folder)
        if build(config).sampler:
            modes.sample(config, build, folder, 2, 0)
        if build(config).codec:
            modes.explore(config, build, folder)
    return {*map(named, read)}


def trace(config):
    """Builds and traces the steps of all phases. Returns the keys that are read."""
    placement, build = parallel.place('pmap'), experiment.load(config.experiment)
    with reads.recorded() as read:
        for program in programs(config, build, placement, declared=True):
            metric_names(program, placement, jax.eval_shape(make_init(program)))
    return {*map(named, read)}
