"""Tests a run from Python: it draws what the command draws, measures what evaluations measure, and refuses the rest."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import genlab
from genlab import data, experiment, modes
from genlab.config import small
from genlab.errors import ConfigError, warn
from genlab.evaluation.subject import compiled
from genlab.run import workdir
from genlab.training import parallel
from genlab.training.checkpoint import Checkpoints
from genlab.training.program import make_init, programs
from support.runs import ROOT, made_up, module_of


def saved(folder, config):
    """Writes a run of four devices with made-up weights: step 3, and step 7 with others."""
    placement = parallel.place('pmap')
    program = programs(config, experiment.load(config.experiment), placement)[0]
    state = made_up(make_init(program))
    workdir.claim(folder, config)
    with Checkpoints(folder / 'checkpoints', keep=2, warn=warn) as checkpoints:
        for step, scale in ((3, 1.0), (7, 1.5)):
            average = jax.tree.map(lambda leaf: leaf * np.float32(scale), state.average)
            now = state.replace(step=np.int32(step), average=average)
            checkpoints.save(step, parallel.replicate(placement, now), {})
    return folder


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """The folder of a conditional VAE of binarised digits."""
    return saved(tmp_path_factory.mktemp('vae'), small(module_of(ROOT / 'configs/conditional_vae.py').get_config()))


@pytest.fixture(scope='module')
def run(digits):
    return genlab.load(digits)


@pytest.fixture(scope='module')
def points(tmp_path_factory):
    """A run of a GAN of points."""
    return genlab.load(saved(tmp_path_factory.mktemp('gan'), small(module_of(ROOT / 'configs/gan.py').get_config())))


@pytest.fixture(scope='module')
def held_out(run):
    rows = data.load(run.config.data, 'test').rows(np.arange(8))
    return rows['image'], rows['label']


def test_the_import_alone_is_cheap():
    code = 'import sys, genlab; genlab.load; assert not {"jax", "numpy", "flax"} & {*sys.modules}'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0


def test_samples_are_the_pictures_of_the_command(digits, run, monkeypatch):
    one = jax.devices()[:1]
    monkeypatch.setattr(jax, 'devices', lambda *arguments: one)
    config = small(module_of(ROOT / 'configs/conditional_vae.py').get_config())
    modes.sample(config, experiment.load(config.experiment), digits, 5, 2, label='3')
    (folder,) = digits.glob('samples/step-7-seed-2-*')
    drawn = run.sample(5, seed=2, label=3)
    assert drawn.dtype == np.uint8 and drawn.shape == (5, 16, 16, 1) and len(np.unique(drawn)) > 20
    for number, image in enumerate(drawn):
        np.testing.assert_array_equal(np.asarray(Image.open(folder / f'{number:05d}.png')), image[..., 0])
    with np.load(folder / 'samples.npz') as file:
        np.testing.assert_array_equal(run.sample(5, seed=2, label='3', dtype='float32'), file['samples'])


def test_each_sample_may_have_its_own_label(run):
    each = run.sample(6, label=[3, 1, 3, 0, 1, 1])
    for label, numbers in ((3, [0, 2]), (1, [1, 4, 5]), (0, [3])):
        np.testing.assert_array_equal(each[numbers], run.sample(6, label=label)[numbers])
    assert not np.array_equal(each, run.sample(6, label=3))


def test_another_checkpoint_is_another_model(digits, run):
    earlier = genlab.load(digits, checkpoint=3)
    assert (earlier.step, run.step) == (3, 7)
    assert not np.array_equal(earlier.sample(2, label=3), run.sample(2, label=3))
    with pytest.raises(ConfigError, match='--checkpoint=5: there is no such step; .* holds 3, 7'):
        genlab.load(digits, checkpoint=5)
    with pytest.raises(ConfigError, match='no best checkpoint is recorded; .* holds 3, 7'):
        genlab.load(digits, checkpoint='best')


def test_codes_are_decoded_to_reconstructions(run, held_out):
    """Covers blocks too: the run computes 4 examples per call."""
    x, label = held_out[0][:7], held_out[1][:7]
    codes = run.encode(x, label=label)
    assert codes.shape == (7, 8 + 10) and codes.dtype == np.float32
    made = run.reconstruct(x, label=label)
    assert made.shape == x.shape and made.dtype == np.uint8 and len(np.unique(made)) > 20
    np.testing.assert_array_equal(run.decode(codes), made)
    np.testing.assert_allclose(run.encode(x[:2], label=label[:2]), codes[:2], atol=1e-6)
    np.testing.assert_array_equal(codes[:, 8:].argmax(1), label)


def test_bytes_are_prepared_and_floats_are_taken_as_they_are(run, held_out):
    x, label = np.where(held_out[0] > 127, np.uint8(255), np.uint8(0)), held_out[1]  # binarisation leaves these alone
    floats = x / 127.5 - 1
    np.testing.assert_allclose(run.encode(floats, label=label), run.encode(x, label=label), atol=1e-6)
    halves = run.encode(0.5 * floats, label=label)
    assert np.abs(halves - run.encode(floats, label=label))[:, :8].max() > 0.01


def test_likelihoods_are_those_of_evaluations(run, held_out):
    x, label = held_out
    figures = run.evaluate(count=8, parts=('held_out',), importance=3).figures
    nats = run.log_likelihood(x, label=label)
    assert nats.shape == (8,) and nats.dtype == np.float64
    np.testing.assert_allclose(-nats.mean(), figures['nll_bound'], rtol=1e-6)
    importance = run.log_likelihood(x, 'importance', label=label, latents=3).mean()
    np.testing.assert_allclose(-importance, figures['nll_importance_weighted'], rtol=1e-6)


def test_calls_compile_once(run, held_out):
    x, label = held_out
    for _ in range(2):
        run.sample(3, label=1), run.sample(9, seed=1, label=2), run.encode(x, label=label), run.encode(x, label=1)
    assert compiled(run.experiment.sampler.sample)._cache_size() == 1
    first = run._with('sample', {'candidates': 1, 'count': 3})[1]
    assert first is run.experiment  # what the model does not depend on makes no other


REFUSED = {
    'integers': (
        lambda run, x: run.encode(x.astype(int), 3),
        r'images, uint8 \[N, 16, 16, 1\] or floats .*, not int64',
    ),
    'shape': (lambda run, x: run.encode(x[..., 0], 3), r'not uint8 \[8, 16, 16\]'),
    'ragged': (lambda run, x: run.encode([x[0], x[0, :4]], 3), 'not a list of different shapes'),
    'none': (lambda run, x: run.encode(x[:0], 3), r'not uint8 \[0, 16, 16, 1\]'),
    'range': (
        lambda run, x: run.encode(x.astype(float), 3),
        r'values lie in \[-1, 1\], not in \[0, 250\]: convert levels',
    ),
    'nan': (lambda run, x: run.reconstruct(x * np.nan, label=3), 'not finite'),
    'no label': (lambda run, x: run.log_likelihood(x), 'conditioned on label: give label='),
    'unknown label': (lambda run, x: run.sample(1, label='x'), 'there is no such class'),
    'labels': (lambda run, x: run.sample(4, label=[1, 2]), 'label has 2 entries for 4 examples'),
    'prompt': (lambda run, x: run.sample(1, prompt='red'), 'not conditioned on captions'),
    'count': (lambda run, x: run.sample(0), 'count=0: give a whole number'),
    'dtype': (lambda run, x: run.sample(1, dtype='int8'), "dtype='int8': choose one of uint8, float32"),
    'setting': (lambda run, x: run.sample(1, chunks=3), 'did you mean config.sample.chunk'),
    'value': (lambda run, x: run.sample(1, candidates=0), 'config.sample.candidates=0'),
    'type': (lambda run, x: run.sample(1, candidates='two'), "candidates='two': its type is int"),
    'truncation': (lambda run, x: run.sample(1, truncation=0.7), 'unknown key config.sample.truncation'),
    'codes': (lambda run, x: run.decode(np.zeros((4, 3))), r'codes: give \[N, 18\], .* not \[N, 3\]'),
    'estimate': (lambda run, x: run.log_likelihood(x, 'exact', label=3), 'choose one of bound, importance'),
    'part': (lambda run, x: run.evaluate(parts=('qualty',)), 'did you mean quality'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_does_not_fit_is_one_line(name, run, held_out):
    call, text = REFUSED[name]
    with pytest.raises(ConfigError, match=text) as error:
        call(run, held_out[0])
    assert '\n' not in str(error.value)


def test_an_ability_that_is_missing_is_named_with_those_that_are_there(points):
    assert points.abilities == ('sample', 'decode', 'prior', 'evaluate')
    for call in (points.encode, points.reconstruct, points.log_likelihood):
        with pytest.raises(ConfigError, match='has no .*; it has sample, decode, prior, evaluate'):
            call(np.zeros((2, 2), np.float32))
    drawn = points.decode(points.prior(6))
    assert drawn.shape == (6, 2) and drawn.dtype == np.float32 and len(np.unique(drawn)) == 12
    assert 'sample, decode, prior' in repr(points)


def test_a_folder_without_a_run_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match='there is no run'):
        genlab.load(tmp_path)
