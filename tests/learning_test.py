"""Tests what the systems learn with their configs, minutes each: `python -m pytest -m slow`."""

import json

import pytest

from genlab import experiment, modes
from support.runs import FILES, module_of

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
@pytest.mark.parametrize('variant', ['', 'edm', 'flow'])
def test_diffusion_of_points_is_nearly_as_close_to_the_data_as_real_points(tmp_path, variant):
    figures = judged(tmp_path, CONFIGS['diffusion_toy'].get_config(variant))
    assert figures['sliced_wasserstein'] <= 1.5 * figures['sliced_wasserstein_of_data']


@pytest.mark.slow
def test_dcgan_samples_all_ten_digits(tmp_path):
    figures = judged(tmp_path, CONFIGS['dcgan'].get_config())
    assert figures['smallest_share'] >= 0.03 and figures['largest_share'] <= 0.25
    assert figures['confidence'] > 0.9


@pytest.mark.slow
def test_a_linear_autoencoder_finds_the_span_of_the_principal_components(tmp_path):
    figures = judged(tmp_path, CONFIGS['linear_ae'].get_config())
    assert figures['squared_error'] <= 1.01 * figures['squared_error_of_pca'] and figures['angle_to_pca'] < 5


@pytest.mark.slow
def test_a_deep_autoencoder_is_far_better_than_pca_of_the_same_size(tmp_path):
    figures = judged(tmp_path, CONFIGS['deep_ae'].get_config())
    assert figures['squared_error'] < figures['squared_error_of_pca']


@pytest.mark.slow
def test_a_sparse_autoencoder_reaches_its_target_sparsity(tmp_path):
    config = CONFIGS['sparse_ae'].get_config()
    assert abs(judged(tmp_path, config)['mean_activation'] / config.model.rho - 1) < 0.2


@pytest.mark.slow
def test_a_denoising_autoencoder_is_better_than_filters(tmp_path):
    assert judged(tmp_path, CONFIGS['denoising_ae'].get_config())['psnr_above_filters'] > 1


@pytest.mark.slow
def test_a_variational_autoencoder_samples_all_ten_digits(tmp_path):
    config = CONFIGS['vae'].get_config()
    config.evaluate.importance = 50
    figures = judged(tmp_path, config)
    assert figures['nll_importance_weighted'] < figures['nll_bound'] and figures['active_units'] > 5
    assert figures['smallest_share'] >= 0.02 and figures['largest_share'] <= 0.3


@pytest.mark.slow
def test_a_mean_flow_samples_all_ten_digits_in_one_evaluation(tmp_path):
    figures = judged(tmp_path, CONFIGS['meanflow'].get_config())
    assert figures['frechet_distance'] < 40 and figures['recall'] > 0.8
    assert figures['smallest_share'] >= 0.02 and figures['confidence'] > 0.9


@pytest.mark.slow
def test_a_codebook_distinguishes_digits_and_is_in_use(tmp_path):
    figures = judged(tmp_path, CONFIGS['vq_vae'].get_config())
    assert figures['relative_error'] < 0.03 and figures['perplexity'] > 40
