"""Tests that overrides are checked against the locked config, and mean what the command makes of them."""

import sys
import types

import pytest
from absl import flags
from ml_collections import config_flags

from genlab import main
from genlab.config import at
from genlab.errors import ConfigError
from genlab.sweep import hyper, spec, trials
from support.runs import ROOT

GAN, DDPM = str(ROOT / 'configs/gan.py'), str(ROOT / 'configs/ddpm.py')


@pytest.mark.parametrize(
    'trial, line',
    [
        ({'trane.steps': 3}, r'unknown key config.trane.steps: did you mean config.train\?'),
        ({'train.steps': 1.5}, 'config.train.steps=1.5: its type is int'),
        ({'train.steps': '10'}, "config.train.steps='10': its type is int"),
        ({'seed': True}, 'its type is int'),
        ({'data.resident': 1}, 'its type is bool'),
        ({'data.name': 3}, 'its type is str'),
        ({'train.order': 'generator'}, 'its type is tuple'),
        ({'optimizer.generator.learning_rate': 'fast'}, 'its type is float'),
        ({'optimizer.generator.learning_rat': 1e-3}, r'adam has no such option.*did you mean learning_rate\?'),
        ({'losses.generator.adversarial': None}, 'give a number, a string or a tuple'),
        ({'train': 3}, 'it is a part: set one of config.train.evaluate_every, '),
        ({'train.sample_every': True}, 'its type is int'),
        ({'losses.generator.new': 'x'}, 'the weight of a term is a number'),
        ({'config.seed': 1, 'seed': 1}, 'config.seed is set twice'),
        ({'losses.generator.adversaria': 1.0}, r'trial bad: .*offers no such term; .*did you mean adversarial\?'),
        ({'model.networks.features.x': 1}, r'unknown key config.model.networks.features.x: config.* is \(64, 64\)'),
        ({'model.networks.feature.x': 1}, r'unknown key config.model.networks.feature: did you mean .*features\?'),
        ({'losses.foo': 1.0}, 'unknown key config.losses.foo: config.losses has discriminator, generator'),
        ({'model.networks': 'dens'}, r"trial bad: config.model.networks='dens': choose .*did you mean dense\?"),
        ({'model.networks.feature': (3,)}, r'trial bad: .*dense has no such option; .*did you mean features\?'),
        ({'model.pair': 'wassersten'}, r'did you mean wasserstein\?'),
        ({'placement': 'fspd'}, r'did you mean fsdp\?'),
        ({'experiment': 'gam'}, 'there is no experiments/gam.py'),
        (
            {'model.fade': (4,)},
            r'trial bad: config.model.fade=.*: give .first step, steps., and only to networks',
        ),
        ({'average.generator': 2.0}, 'give a number from 0 to 1'),
        ({'train.steps': 300}, 'config.train.steps=300 is not a multiple of config.train.steps_per_call=200'),
    ],
)
def test_wrong_overrides_are_refused_in_one_line(trial, line):
    config = main.read(GAN)
    with pytest.raises(ConfigError, match=line) as error:
        spec.applied(config, trial)
        spec.check({'bad': config})
    assert '\n' not in str(error.value)


def test_batches_and_groups_suit_the_devices_of_a_trial():
    config = main.read(GAN)
    spec.check({'good': config}, 64)
    for devices, more, line in (
        (3, {}, 'trial bad: config.data.batch_size=128 does not divide over 3 devices'),
        (64, {'train.microbatches': 4}, 'does not divide over 64 devices x 4 microbatches'),
        (2, {'tensor': 4, 'placement': 'fsdp'}, 'config.tensor=4 does not divide the 2 devices'),
        (4, {'tensor': 4}, 'config.tensor=4 needs config.placement=fsdp'),
    ):
        config = main.read(GAN)
        spec.applied(config, more)
        with pytest.raises(ConfigError, match=line):
            spec.check({'bad': config}, devices)


def parsed(path, words):
    """Returns the config that the command makes of the arguments."""
    known = flags.FlagValues()
    holder = config_flags.DEFINE_config_file('config', None, flag_values=known)
    main.parse(['genlab.main', f'--config={path}', *words], known, holder)
    return holder.value


@pytest.mark.parametrize(
    'path, trial',
    [
        (GAN, {'train.steps': 10, 'train.sample_every': 'end', 'train.evaluate_every': 5}),
        (GAN, {'optimizer.generator.learning_rate': 1, 'losses.discriminator.r1': 1e-5, 'average.generator': 0.5}),
        (GAN, {'model.networks.features': [32, 32], 'train.order': (), 'data.resident': False}),
        (GAN, {'losses.generator.extra': 2, 'data.name': 'grid', 'model.latent_size': 3}),
        (GAN, {'data.source': 'digits', 'evaluate.maps': ('pca', 'tsne')}),
        (DDPM, {'sample.sampler': 'heun', 'sample.sampler.churn': 0.25, 'sample.steps': 7}),
    ],
)
def test_an_override_is_what_the_command_makes_of_its_argument(path, trial, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [])
    config = main.read(path)
    held = spec.applied(config, trial)
    command = parsed(path, [trials.argument(key, value) for key, value in held.items()])
    assert config.to_dict() == command.to_dict()
    assert all(at(config, key) == value or key == 'sample.sampler' for key, value in held.items())


def test_equal_values_are_one_trial():
    held = [spec.applied(main.read(GAN), {'optimizer.generator.learning_rate': value}) for value in (1, 1.0)]
    with pytest.raises(ConfigError, match='occurs twice'):
        trials.number(held)


def test_generators_by_name_and_get_hyper():
    module = types.SimpleNamespace(
        sweep_lr=lambda hyper: hyper.sweep('lr', [1, 2]),
        sweep_seed=lambda hyper: hyper.sweep('seed', range(3)),
        sweep_bad=lambda hyper: {'seed': 1},
        get_hyper=lambda hyper: hyper.fixed('seed', 9),
    )
    assert spec.overrides(module, ['lr', 'seed']) == hyper.product([module.sweep_lr(hyper), module.sweep_seed(hyper)])
    assert spec.overrides(module, []) == [{'seed': 9}]
    for names, line in ((['sed'], 'did you mean seed'), (['bad'], 'return a list'), (['lr', 'lr'], 'lr is set twice')):
        with pytest.raises(ConfigError, match=line):
            spec.overrides(module, names)
    with pytest.raises(ConfigError, match='name a sweep'):
        spec.overrides(types.SimpleNamespace(), [])


def test_a_sweep_lists_its_trials_and_refuses_changed_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['x'])
    found = spec.listed(GAN, ['lr', 'seed'], tmp_path, ['--config.train.steps=400'])
    assert len(found) == len({trial.id for trial in found}) == 24
    assert {trial.steps for trial in found} == {400} and found[0].evaluated
    assert found[0].before == {
        'optimizer.discriminator.learning_rate': 1e-3,
        'optimizer.generator.learning_rate': 1e-3,
        'seed': 0,
    }
    with pytest.raises(ConfigError, match=r'set twice: in the sweep and by --config.seed'):
        spec.listed(GAN, ['seed'], tmp_path, ['--config.seed=4'])
    (tmp_path / found[3].id).mkdir()
    (tmp_path / found[3].id / 'config.json').write_text(main.read(GAN).to_json_best_effort())
    with pytest.raises(ConfigError, match='has run with another config; optimizer.*, seed differ'):
        spec.listed(GAN, ['lr', 'seed'], tmp_path, ['--config.train.steps=400'])
