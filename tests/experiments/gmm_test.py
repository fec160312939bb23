"""Tests training by EM: whole iterations from minibatches, placements, resuming, abilities, and two stages."""

import json

import jax
import numpy as np
import pytest
from scipy import stats

from genlab import experiment, modes
from genlab.config import small
from genlab.errors import ConfigError
from genlab.models import mixture
from genlab.run.logs import read_metrics
from genlab.sampling import drawing
from genlab.training import parallel
from genlab.training.program import make_init, programs
from support.runs import ROOT, Trained, module_of
from support.tokenizers import with_tokenizer


def get_config(variant):
    return module_of(ROOT / 'configs/gmm.py').get_config(variant)


def trained(batches, placement='fsdp', devices=1, **changes):
    """Returns the mixtures after two EM iterations on Old Faithful, each in one step or in several."""
    config = get_config('faithful')
    config.data.batch_size = 272 // batches
    config.model.update(batches=batches, restarts=2, **changes)
    config.train.steps_per_call = 2
    run = Trained(config, placement, jax.devices()[:devices])
    state, _ = run.run((run.start, run.zero), 0, batches)
    assert state.step == 2 * batches
    return state.params['mixture'], state.stats['mixture']['score']


@pytest.fixture(scope='module')
def whole():
    return jax.device_get(trained(1))


@pytest.mark.parametrize('batches, placement, devices', [(4, 'fsdp', 1), (2, 'pmap', 4), (1, 'fsdp', 4)])
def test_batches_and_devices_give_the_iteration_of_the_whole_set(whole, batches, placement, devices):
    for ours, expected in zip(jax.tree.leaves(trained(batches, placement, devices)), jax.tree.leaves(whole)):
        np.testing.assert_allclose(ours, expected, rtol=2e-5)


def test_old_faithful_by_the_command_rises_to_the_published_likelihood(tmp_path):
    config = get_config('faithful')
    config.evaluate.parts = ('held_out',)
    config.train.update(steps=240, steps_per_call=10, log_every=10)
    modes.train(config, experiment.load('gmm'), tmp_path)
    rows = [row for row in read_metrics(tmp_path) if 'mixture/log_likelihood' in row]
    assert len(rows) == 24 and min(np.diff([row['mixture/log_likelihood'] for row in rows])) > -1e-5 * 4
    figures = json.loads((tmp_path / 'evaluation.json').read_text())['figures']
    assert -272 * figures['nll'] == pytest.approx(-1126.32, abs=0.03)  # float32, and a floor of 1e-6
    assert rows[-1]['mixture/bic'] == pytest.approx(2314.3, abs=0.1)  # mclust's, with the other sign


@pytest.fixture(scope='module')
def images():
    """A model of images by five principal components, with a made-up mixture of two restarts: (model, variables)."""
    config = small(get_config('digits'))
    config.data.resolution = 4
    config.model.update(principal=5, components=3)
    model = mixture.from_config(config)
    random = np.random.default_rng(0)
    roots = random.normal(size=(2, 3, 5, 5))
    basis = np.linalg.qr(random.normal(size=(16, 5)))[0]
    variables = {
        'params': {
            'weights': np.array([[0.2, 0.3, 0.5], [0.5, 0.1, 0.4]]),
            'means': random.normal(size=(2, 3, 5)),
            'covariances': roots @ np.swapaxes(roots, 2, 3) + 0.1 * np.eye(5),
        },
        'score': np.array([-2.0, -1.0]),
        'projection': {'mean': random.normal(size=16), 'basis': basis, 'variance': np.array(0.3)},
    }
    return model, {'mixture': jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), variables)}


def test_the_density_of_principal_components_is_one_of_images(images):
    """The best restart, with isotropic noise around the components: log-densities by scipy in all 16 dimensions."""
    model, variables = images
    x = np.random.default_rng(1).normal(size=(6, 4, 4, 1)).astype(np.float32)
    found = jax.jit(lambda x: mixture.log_likelihood(model, variables, {'x': x}, None))(x)
    kept, params = variables['mixture']['projection'], variables['mixture']['params']
    outside = 0.3 * (np.eye(16) - kept['basis'] @ kept['basis'].T)
    dense = [
        weight
        * stats.multivariate_normal(
            kept['mean'] + kept['basis'] @ mean, kept['basis'] @ covariance @ kept['basis'].T + outside
        ).pdf(x.reshape(6, 16))
        for weight, mean, covariance in zip(*(params[name][1] for name in ('weights', 'means', 'covariances')))
    ]
    np.testing.assert_allclose(found, np.log(np.sum(dense, 0)), rtol=1e-4)
    full = mixture.in_full(model, variables)
    by_full = [
        weight * stats.multivariate_normal(mean, covariance).pdf(x.reshape(6, 16))
        for weight, mean, covariance in zip(*full)
    ]
    np.testing.assert_allclose(by_full, dense, rtol=2e-2)


def test_inpainting_keeps_the_known_pixels_and_codes_are_responsibilities(images):
    model, variables = images
    x = np.random.default_rng(1).normal(size=(2, 4, 4, 1)).astype(np.float32)
    mask = np.ones((2, 4, 4, 1), np.float32)
    mask[0, :, 2:] = 0
    mask[1, 1:3] = 0
    keys = drawing.keys(0, 0, 2)
    inpaint = jax.jit(lambda x, mask, keys: mixture.inpaint(model, variables, {'x': x}, mask, keys, {}))
    drawn = np.asarray(inpaint(x, mask, keys))
    np.testing.assert_array_equal(np.where(mask > 0, drawn, x), x)
    assert (drawn != x).sum() == (mask == 0).sum()
    codes = np.asarray(mixture.encode(model, variables, {'x': x}))
    np.testing.assert_allclose(codes.sum(1), 1, rtol=1e-5)
    kept, means = variables['mixture']['projection'], variables['mixture']['params']['means'][1]
    expected = codes @ means @ kept['basis'].T + kept['mean']
    np.testing.assert_allclose(mixture.decode(model, variables, codes).reshape(2, 16), expected, rtol=1e-4, atol=1e-5)


def test_the_prior_of_continuous_codes_draws_images():
    config = with_tokenizer(small(get_config('codes')))
    run = Trained(config, 'fsdp', jax.devices()[:1])
    state, _ = run.run((run.start, run.zero), 0, 1)
    size = state.params['mixture']['means'].shape[-1]
    assert size == config.model.get('latent_size', 8)  # of the small VAE
    before, after = run.start.params['decoder'], state.params['decoder']
    jax.tree.map(np.testing.assert_array_equal, before, after)
    sample = drawing.jitted(run.program.experiment.sampler.sample)(state.variables(), drawing.keys(0, 0, 2), {})
    assert sample.shape == (2, 16, 16, 1) and np.isfinite(sample).all()


@pytest.mark.parametrize(
    'key, value, hint',
    [
        ('model.covariance', 'diag', 'did you mean diagonal'),
        ('model.restarts', 0, 'at least 1'),
        ('model.forgetting', 0.3, 'above 0.5'),
        ('model.floor', -1.0, 'at least 0'),
        ('model.dtype', 'bfloat16', 'float32'),
        ('model.principal', 2, 'has 2 values'),
        ('train.microbatches', 2, 'no effect'),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(key, value, hint):
    config = get_config('')
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=hint):
        experiment.load('gmm')(config)


def test_too_many_components_and_parts_of_the_data_are_noticed(capsys):
    config = get_config('faithful')
    config.data.batch_size = 136
    config.model.components = 300
    program = programs(config, experiment.load('gmm'), parallel.place('pmap', jax.devices()[:1]))[0]
    state = jax.eval_shape(make_init(program))
    with pytest.raises(ConfigError, match='there are 272 training examples'):
        program.experiment.start(state, program.batches.source, None)
    assert 'an M step sees 136 of 272 examples' in capsys.readouterr().err
