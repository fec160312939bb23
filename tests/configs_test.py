"""Tests that every config of images reads a folder of the user's images by two flags, with its classes and captions."""

import json
import pathlib
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from genlab import conditioning, data, experiment, modes
from genlab.conditioning import Conditions, Given
from genlab.config import small
from genlab.errors import ConfigError
from genlab.run import describe, workdir
from genlab.sampling import drawing
from genlab.training import loop, parallel
from genlab.training.program import programs
from tests.support.runs import FILES, module_of

DATA = {path: module_of(path).get_config().data for path in FILES}
# Those that need more than an image and its label have other layouts.
OTHERS = 'toy', 'sequences', 'codes', 'speech'
IMAGES = [path for path, of in DATA.items() if of.source not in OTHERS and not of.fields]


@pytest.fixture(scope='module')
def pictures(tmp_path_factory) -> pathlib.Path:
    """Writes a folder of 20 PNGs in two classes."""
    folder, noise = tmp_path_factory.mktemp('pictures'), np.random.default_rng(0)
    for number in range(20):
        name = folder / f'class_{number % 2}' / f'{number}.png'
        name.parent.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (24, 20, 3), np.uint8)).save(name)
    return folder


def own_images(path, folder):
    """Returns a small version of the config that reads the folder."""
    config = small(module_of(path).get_config())
    config.data.update(source='folder', dir=str(folder), stacked='')
    return config


@pytest.mark.parametrize('path', IMAGES, ids=lambda path: path.stem)
def test_every_config_of_images_reads_a_folder(path, pictures):
    config = own_images(path, pictures)
    assert describe.describe(config, experiment.load(config.experiment))
    source = data.load(config.data)
    rows = source.rows(np.arange(2))
    assert rows['image'].shape[1:] == (16, 16, config.data.channels)


def test_a_config_trains_on_a_folder(pictures, tmp_path):
    config = own_images(next(path for path in IMAGES if path.stem == 'dcgan'), pictures)
    config.train.update(steps=2)
    loop.fit(config, experiment.load(config.experiment), tmp_path)
    assert (tmp_path / 'checkpoints/2').exists()


def conditional(folder):
    """Returns a conditional config that reads a folder."""
    return own_images(next(path for path in IMAGES if path.stem == 'conditional_vae'), folder)


def test_a_run_keeps_the_number_of_classes_and_names_those_without_training_images(tmp_path, monkeypatch, capsys):
    folder = tmp_path / 'own'
    for name in ('train/cat', 'train/dog', 'test/dog', 'test/owl'):
        (folder / name).mkdir(parents=True)
        Image.new('RGB', (16, 16)).save(folder / name / '0.png')
    config, build = conditional(folder), experiment.load('variational')
    done = SimpleNamespace(step=config.train.steps, state=None, finish=lambda *arguments: None)
    monkeypatch.setattr(loop, 'Loop', lambda *arguments: done)  # only what comes before the first step
    loop.fit(config, build, tmp_path)
    assert capsys.readouterr().err.count('own/train: no training example has the class owl: ') == 1
    assert json.loads((tmp_path / 'facts.json').read_text())['model.classes'] == 3

    shutil.rmtree(folder)
    drawing.declared.cache_clear()
    known = workdir.with_facts(tmp_path, config)
    program = programs(known, build, parallel.place('pmap'), declared=True)[0]
    assert program.config.model.classes == program.experiment.conditions.classes == 3
    chosen = drawing.condition_at(program.config, program.experiment.conditions, given=Given(label='2'))(np.arange(2))
    np.testing.assert_array_equal(chosen['label'], [2, 2])
    with pytest.raises(ConfigError, match='--label=.owl.: there is no such class: choose one of 0, 1, 2'):
        drawing.condition_at(program.config, program.experiment.conditions, given=Given(label='owl'))


def test_a_config_that_contradicts_the_data_does_not_claim_the_folder_of_the_run(pictures, tmp_path):
    config = conditional(pictures)
    with config.ignore_type():
        config.model.classes = 10
    with pytest.raises(ConfigError, match="config.model.classes=10, but .*/train has 2 classes: set it to 'auto' or 2"):
        modes.train(config, experiment.load(config.experiment), tmp_path / 'run')
    assert not (tmp_path / 'run' / 'config.json').exists()


def test_captions_of_a_folder_condition_a_model(pictures, tmp_path):
    folder = shutil.copytree(pictures, tmp_path / 'captioned')
    files = sorted(path.relative_to(folder) for path in folder.rglob('*.png'))
    lines = [f'{file}\ta {"red" if n % 2 else "blue"} picture' for n, file in enumerate(files)]
    (folder / 'captions.tsv').write_text('\n'.join(['file\tcaption', *lines]))
    path = next(path for path in IMAGES if path.stem == 'latent_diffusion')
    config = small(module_of(path).get_config('scenes'))
    config.data.update(source='folder', dir=str(folder))
    networks = describe.describe(config, experiment.load(config.experiment))
    parameters = {module['path']: module['parameters'] for module in networks['text']['modules']}
    assert parameters['text/words'] == 5 * config.model.text.width  # padding, a, blue, picture, red
    condition = drawing.condition_at(config, Conditions(words=5), given=Given(prompt='A red picture'))(np.arange(2))
    assert conditioning.describe(data.declared(config.data), condition) == ['a red picture'] * 2
