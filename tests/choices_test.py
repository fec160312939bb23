"""Tests named choices: their options are checked, filled with defaults, and switched by one flag."""

import copy
import sys

import pytest
from ml_collections import ConfigDict

from genlab import choices, main
from genlab.choices import named
from genlab.config import untyped
from genlab.errors import ConfigError
from genlab.training.optimizers import adam


def scaled(x, *, factor=2.0, powers=(1,)):
    return x * factor, powers


class Line:
    def __init__(self, slope, offset=0.0):
        self.slope, self.offset = slope, offset


TABLE = {'scaled': scaled, 'plain': lambda x: x}


def test_options_are_bound_and_others_keep_their_defaults():
    assert choices.bind(TABLE, named('scaled'), 'config.x')(3) == (6.0, (1,))
    assert choices.bind(TABLE, named('scaled', factor=3, powers=[2, 4]), 'config.x')(3) == (9, (2, 4))
    line = choices.build({'line': Line}, named('line', slope=2), 'config.x')
    assert (line.slope, line.offset) == (2, 0.0)


@pytest.mark.parametrize(
    'chosen, message',
    [
        (named('scale'), r"config.x='scale': choose one of scaled, plain \(did you mean scaled\?\)"),
        (named('plain', factor=1), 'config.x.factor: plain has no such option; it has none'),
        (
            named('scaled', facto=1),
            r'config.x.facto: scaled has no such option; it has factor, powers \(did you mean f',
        ),
        (named('scaled', x=1), 'config.x.x: scaled has no such option'),
    ],
)
def test_unknown_names_and_options_are_refused(chosen, message):
    with pytest.raises(ConfigError, match=f'^{message}'):
        choices.bind(TABLE, chosen, 'config.x')


def test_an_option_without_a_default_is_needed():
    with pytest.raises(ConfigError, match='config.x: line needs config.x.slope'):
        choices.build({'line': Line}, named('line', offset=1), 'config.x')
    with pytest.raises(ConfigError, match='config.x: wide needs config.x.width'):
        choices.bind({'wide': lambda x, *, width: x * width}, named('wide'), 'config.x')


def overridden(*arguments):
    config = ConfigDict(
        dict(
            data=dict(name='digits', size=8), sample=dict(grid=named('even', power=2.0)), optimizer=untyped(a=adam(1.0))
        )
    )
    config.lock()
    given = [f'--config.{argument}' for argument in arguments]
    ours = main.of_choices(config, given)
    for argument in ours:
        main.select(config, argument)
    return config, [argument for argument in given if argument not in ours]


def test_a_flag_switches_a_choice_and_its_options():
    config, rest = overridden('sample.grid=karras', 'sample.grid.rho=5', 'sample.grid.ends=(1, 2)', 'data.name=x')
    assert config.sample.grid.to_dict() == {'name': 'karras', 'rho': 5, 'ends': (1, 2)} and rest == [
        '--config.data.name=x'
    ]
    config, _ = overridden('sample.grid=even')
    assert config.sample.grid.power == 2.0  # the same choice keeps its options
    config, rest = overridden('sample.grid.power=3', 'sample.grid.more=inf')
    assert rest == ['--config.sample.grid.power=3'] and config.sample.grid.more == float('inf')


def test_another_name_replaces_a_choice_by_update_too():
    """A ConfigDict would merge: the new choice would have the options of the old one as well."""
    whole = ConfigDict(dict(model=dict(network=named('wide', width=8, depth=2), size=3)))
    for config in (whole, whole.copy_and_resolve_references(), copy.deepcopy(whole)):
        config.model.update(network=named('deep', layers=5), size=4)
        assert config.model.to_dict() == {'network': {'name': 'deep', 'layers': 5}, 'size': 4}
        config.model.network.update(layers=6)
        config.model.update(network=dict(width=7))  # options alone
        config.model.network.update(config.model.network)
        assert config.model.network.to_dict() == {'name': 'deep', 'layers': 6, 'width': 7}
        config.update(model=dict(network=named('flat')))
        assert config.model.to_dict() == {'network': {'name': 'flat'}, 'size': 4}
        assert choices.is_named(config.model.network)
    faces = main.read('configs/prior_pixelsnail.py:faces').model
    assert faces.network.to_dict() == {'name': 'pixelsnail', 'raster': False}
    assert faces.lower.to_dict() == {'name': 'pixelsnail', 'attention': False, 'raster': False}


def test_typed_parts_with_a_name_are_no_choices():
    _, rest = overridden('data.sizee=3', 'optimizer.a.b1=0.5')
    assert rest == ['--config.data.sizee=3', '--config.optimizer.a.b1=0.5']  # checked and parsed as all others


def test_the_command_line_of_a_config_takes_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['main'])
    arguments = ['main', '--config=configs/ddpm.py', '--config.sample.sampler=heun', '--config.optimizer.denoiser.b3=1']
    with pytest.raises(SystemExit) as stopped:
        main.guarded(lambda: run(arguments))
    assert stopped.value.code == 2
    assert 'config.optimizer.denoiser.b3: adam has no such option; it has b1, b2' in capsys.readouterr().err


def run(arguments):
    from genlab import experiment

    config = main.read(arguments[1].removeprefix('--config='))
    for argument in main.of_choices(config, arguments[2:]):
        main.select(config, argument)
    assert config.sample.sampler.to_dict() == {'name': 'heun'}
    experiment.load(config.experiment)(config)


def test_another_source_leaves_what_it_does_not_read():
    """Own images in two flags, whatever set of images the config reads; what is given is kept, and refused later."""
    config = main.read('configs/ddpm.py:cifar10')
    config.data.update(source='folder', dir='images')
    main.leave_source(config, {'--config.data.source', '--config.data.dir'})
    assert (config.data.name, config.data.dir) == ('', 'images')
    config.data.update(source='digits', name='cifar10')
    main.leave_source(config, {'--config.data.source', '--config.data.name'})
    assert (config.data.name, config.data.dir) == ('cifar10', '')
    config.data.update(source='folder', shapes=2, hold_out=True)
    main.leave_source(config, {'--config.data.source'})
    assert (config.data.shapes, config.data.hold_out) == (0, False)
