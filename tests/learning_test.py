"""What the systems learn, by the commands of their configs as they are: minutes each, `python -m pytest -m slow`."""

import json

import pytest

from battery_test import FILES, module_of
from genlab import experiment, modes

CONFIGS = {path.stem: module_of(path) for path in FILES}


def judged(folder, config):
    modes.train(config, experiment.load(config.experiment), folder)
    return json.loads((folder / 'evaluation.json').read_text())['figures']


@pytest.mark.slow
@pytest.mark.parametrize('variant, modes_there', [('', 8), ('grid', 25)])
def test_a_dense_gan_finds_every_mode(tmp_path, variant, modes_there):
    config = CONFIGS['gan'].get_config(variant)
    figures = judged(tmp_path, config)
    assert figures['modes'] == figures['of_modes'] == modes_there
    assert figures['high_quality'] > 0.8


@pytest.mark.slow
def test_dcgan_draws_all_ten_digits(tmp_path):
    figures = judged(tmp_path, CONFIGS['dcgan'].get_config())
    assert 0.03 <= figures['smallest_share'] and figures['largest_share'] <= 0.25
    assert figures['confidence'] > 0.9
