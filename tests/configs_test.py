"""Tests that every config of images reads a folder of the user's images by two flags."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from genlab import data, experiment
from genlab.config import small
from genlab.run import describe
from genlab.training import loop
from tests.support.runs import FILES, module_of

IMAGES = [path for path in FILES if module_of(path).get_config().data.source != 'toy']


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
    config.data.update(source='folder', dir=str(folder))
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
