"""Tests two stages: a tokenizer's run, a prior over its codes, and the samples, figures and errors of the second."""

import json
import pathlib
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import config as configs
from genlab import data, evaluation, experiment, modes
from genlab.abilities import Sampler
from genlab.conditioning import Conditions, Given
from genlab.config import small
from genlab.data import captions
from genlab.data.sources import codes as source_of_codes
from genlab.errors import ConfigError, UserError
from genlab.evaluation.features import classifier
from genlab.experiment import Experiment
from genlab.latents import explore
from genlab.models import tokenizer as tokenizers
from genlab.models.tokenizer import Tokenizer
from genlab.run import workdir
from genlab.sampling import drawing
from genlab.training import parallel, pretrained
from support import categorical_prior
from support.experiments import stub
from support.runs import FILES, module_of
from support.tokenizers import small_run, with_tokenizer

CONFIGS = {path.stem: module_of(path) for path in FILES}
ENTRIES = 6


def go(config, folder):
    modes.train(config, experiment.load(config.experiment), pathlib.Path(folder))


def restored(config, folder):
    """Returns the host copy of the newest state of a run, and its phase."""
    _, state, program, _ = modes.restore(config, experiment.load(config.experiment), pathlib.Path(folder))
    return jax.device_get(state), program


def first_config():
    config = small(CONFIGS['vq_vae'].get_config())
    config.data.update(resolution=8, flip=True, batch_size=100)
    config.model.networks.width = 4
    config.model.quantizer.update(entries=ENTRIES, latent_size=2)
    return config


def prior_config(folder, **train):
    config = categorical_prior.get_config()
    config.model.tokenizer = str(folder)
    config.train.update(**train)
    return config


@pytest.fixture(scope='module')
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp('first')
    go(first_config(), folder)
    return folder


@pytest.fixture(scope='module')
def second(first, tmp_path_factory):
    """Returns the folder of a prior that was trained for two steps, and by another command for two more."""
    folder = tmp_path_factory.mktemp('second')
    go(prior_config(first, steps=2), folder)
    go(prior_config(first), folder)
    return folder


@pytest.fixture(scope='module')
def frozen(first):
    """Returns network -> variables of the tokenizer, on the host, from the checkpoint of its run."""
    return restored(first_config(), first)[0].variables(averaged=True)


@pytest.fixture
def encodings(monkeypatch):
    """Counts how often a split is encoded, with nothing kept in this process."""
    splits, encode = [], source_of_codes._encode
    monkeypatch.setattr(source_of_codes, '_encode', lambda *given: splits.append(given[1]) or encode(*given))
    source_of_codes._encoded.cache_clear()
    return splits


def test_codes_are_those_of_the_images_in_the_order_of_the_data(first, second, frozen, encodings):
    model = experiment.load('vq_vae')(workdir.with_facts(first, first_config()))
    for split in ('train', 'test'):
        source = data.load(prior_config(first).data, split)
        images = data.load(first_config().data, split).rows(np.arange(len(source)))
        rows = source.rows(np.arange(len(source)))
        x = jnp.asarray(images['image'], jnp.float32) / 127.5 - 1  # without flips
        np.testing.assert_array_equal(rows['codes'], jax.jit(model.codec.encode)(frozen, {'x': x}))
        np.testing.assert_array_equal(rows['label'], images['label'])
        assert rows['codes'].dtype == np.int32 and len(np.unique(rows['codes'])) > 1
        assert source.fields['codes'] == data.Field((2, 2), np.dtype(np.int32), 0, ENTRIES - 1)
        assert source.classes == tuple('0123456789') and {*source.fields} == {'codes', 'label'}
    assert not encodings  # they were in the cache of an earlier command


def test_the_declaration_knows_the_fields_and_encodes_nothing(first, encodings):
    declared = data.declared(prior_config(first).data)
    source = data.load(prior_config(first).data)
    assert declared.fields == source.fields and len(declared) == len(source) and declared.classes == source.classes
    assert not encodings


def test_the_prior_learns_the_codes_though_its_run_was_interrupted(first, second):
    """Gradient descent on a table in numpy, on the batches of the codes, gives the trained table."""
    config = prior_config(first)
    state, program = restored(config, second)
    assert program.config.model.classes == 10  # a fact of the data behind the codes
    source = data.load(config.data)
    batches, table = data.Batches(source, 8, config.seed), np.zeros((10, 2, 2, ENTRIES))
    for number in range(4):
        batch, gradient = batches(number), np.zeros_like(table)
        for label, grid in zip(batch['label'][0], batch['codes'][0]):
            shares = np.exp(table[label]) / np.exp(table[label]).sum(-1, keepdims=True)
            gradient[label] += (shares - np.eye(ENTRIES)[grid]) / 8
        table -= 0.5 * gradient
    np.testing.assert_allclose(state.params['prior']['logits'], table, atol=1e-6)
    assert np.abs(table).max() > 0.05


def test_the_tokenizer_is_in_the_state_and_no_bit_of_it_moves(first, second, frozen):
    state, _ = restored(prior_config(first), second)
    variables = state.variables()
    assert {*variables} == {'encoder', 'quantizer', 'decoder', 'prior'} and 'codebook' in variables['quantizer']
    for name, networks in frozen.items():
        jax.tree.map(np.testing.assert_array_equal, variables[name], networks)


def test_samples_are_decoded_codes(first, second, frozen):
    config = prior_config(first)
    build = experiment.load(config.experiment)
    modes.sample(config, build, second, 4, 0, label='3')
    (folder,) = second.glob('samples/step-4-*')
    samples = np.load(folder / 'samples.npz')['samples']
    logits = restored(config, second)[0].params['prior']['logits'][3]
    drawn = jax.vmap(lambda key: jax.random.categorical(key, logits))(drawing.keys(0, 0, 4))
    model = experiment.load('vq_vae')(workdir.with_facts(first, first_config()))
    np.testing.assert_allclose(samples, model.codec.decode(frozen, drawn), atol=1e-5)
    assert samples.shape == (4, 8, 8, 1) and (folder / 'conditions.txt').read_text().count('3') >= 4


def stubbed_classifier(monkeypatch):
    rows = lambda images: np.full((len(images), 10), 0.1)
    monkeypatch.setattr(
        classifier, 'load', lambda of: SimpleNamespace(accuracy=0.5, classes='0123456789', probabilities=rows)
    )


def test_samples_are_compared_with_the_images_and_likelihoods_are_of_codes(first, second, monkeypatch):
    """The figures of samples have the conditions of a model of the images themselves, so that they compare."""
    stubbed_classifier(monkeypatch)
    config, images = prior_config(first), configs.defaults('x')
    images.data = first_config().data
    for one in (config, images):
        one.evaluate.update(count=20, parts=('quality', 'held_out'), features='pixels')
        one.sample.chunk = 20
    step, state, program, placement = modes.restore(config, experiment.load(config.experiment), second)
    found = evaluation.evaluate(program.config, program.experiment, placement, state)
    grey = Experiment(None, None, Sampler(lambda variables, keys, condition: jnp.zeros((len(keys), 8, 8, 1))))
    other = evaluation.evaluate(images, grey, placement, state)
    assert found.protocol['quality']['reference'].startswith('digits/train')
    assert found.protocol['quality']['id'] == other.protocol['quality']['id']
    rows = data.load(config.data, 'test').rows(np.arange(20))
    logits = np.asarray(state.params['prior']['logits'])[rows['label']]
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nll = -np.take_along_axis(log, rows['codes'][..., None], -1).sum((1, 2, 3)).mean()
    assert found.figures['nll_codes'] == pytest.approx(nll, rel=1e-5) and 'bits_per_dimension' not in found.figures
    assert found.protocol['held_out']['codes'] and 'codes' not in found.protocol['quality']


def test_a_finished_run_is_evaluated_with_candidates_under_another_protocol(first, second, monkeypatch):
    """Classifies by random weights on centred features: what it calls the asked class is chosen more often."""
    config = prior_config(first)
    config.evaluate.update(count=60, parts=('quality',), features='pixels')
    config.sample.chunk = 60
    build = experiment.load(config.experiment)
    step, state, program, placement = modes.restore(config, build, second)
    samples = drawing.draw(program.experiment, placement, state.variables(), program.config, 60)
    params = jax.jit(classifier.Network(10).init)(jax.random.key(1), jnp.zeros((1, 8, 8, 1)))['params']
    seen = np.asarray(classifier.features(params, samples))
    last = params['Dense_1']
    last['kernel'] = last['kernel'] / (seen.std() + 1e-6)
    last['bias'] = -(seen.mean(0) @ last['kernel'])
    trained = classifier.Classifier(tuple('0123456789'), 0.5, params)
    monkeypatch.setattr(classifier, 'load', lambda of: trained)
    one = evaluation.evaluate(program.config, program.experiment, placement, state)
    config.sample.candidates = 4
    _, _, program, _ = modes.restore(config, build, second)
    four = evaluation.evaluate(program.config, program.experiment, placement, state)
    before, after = one.protocol['quality'], four.protocol['quality']
    assert step == 4 and before['id'] != after['id'] and 'candidates' not in before
    assert (after['candidates'], after['score']) == (4, {'name': 'classifier'})
    assert four.figures['condition_accuracy'] > one.figures['condition_accuracy'] + 0.1


def test_images_behind_codes_are_edited(first, frozen):
    """Uses a model that fills with white, and one that encodes and decodes by the tokenizer."""
    config, model = prior_config(first), experiment.load('vq_vae')(workdir.with_facts(first, first_config()))
    config.explore.pairs = 2
    seen = []

    def inpaint(variables, batch, mask, keys, condition):
        seen.append({name: value.shape for name, value in {**batch, **condition}.items()})
        return jnp.where(mask > 0, batch['x'], 1.0)

    def image_to_image(variables, batch, keys, condition):
        return model.codec.decode(variables, model.codec.encode(variables, batch))

    abilities = stub(sample=inpaint, inpaint=inpaint, image_to_image=image_to_image, conditions=Conditions(classes=10))
    placement = parallel.place('pmap')
    pictures = explore.edit(config, abilities, placement, parallel.replicate(placement, frozen), []).pictures
    assert {*pictures} == {'inpainting', 'image_to_image'}
    assert seen[0]['x'] == (2 * explore.VERSIONS, 8, 8, 1) and seen[0]['label'] == (2 * explore.VERSIONS,)
    image = data.load(first_config().data, 'test').rows(np.arange(1))['image'][0]
    np.testing.assert_array_equal(pictures['image_to_image'][:32:4, :32:4], image)  # enlarged


def test_a_run_of_an_earlier_version_has_the_defaults_of_common_keys(first, tmp_path):
    content = json.loads((first / 'config.json').read_text())
    content['sample'] = {'count': 3, 'chunk': 64, 'condition': False}
    (tmp_path / 'config.json').write_text(json.dumps(content))
    found = pretrained.config_of(str(tmp_path), '--workdir')
    assert (found.sample.count, found.sample.candidates, found.sample.score.name) == (3, 1, 'classifier')
    assert workdir.plain(found)['model'] == content['model']


def resealed(folder):
    """Changes the digest of a checkpoint: its manifest is written otherwise."""
    (manifest,) = folder.glob('checkpoints/*/checksums.json')
    manifest.write_text(json.dumps(json.loads(manifest.read_text()), indent=1))


def test_another_checkpoint_of_the_tokenizer_is_encoded_anew_and_refused(first, second, tmp_path, encodings):
    one, other = (shutil.copytree(folder, tmp_path / folder.name) for folder in (first, second))
    for kept in sorted(one.glob('checkpoints/[0-9]*'))[:-1]:
        shutil.rmtree(kept)
    before = data.load(prior_config(one).data)
    assert not encodings
    resealed(one)
    after = data.load(prior_config(one).data)
    assert encodings == ['train'] and before.checkpoint != after.checkpoint
    np.testing.assert_array_equal(before.rows(np.arange(9))['codes'], after.rows(np.arange(9))['codes'])
    config = prior_config(first, steps=6)
    config_file = json.loads((other / 'config.json').read_text())
    config_file['model']['tokenizer'] = config_file['data']['dir'] = str(one)
    (other / 'config.json').write_text(json.dumps(config_file))
    config.model.tokenizer = str(one)
    with pytest.raises(ConfigError, match=r'the tokenizer was at step 4 \(\w+\), now at step 4 \(\w+\)'):
        go(config, other)
    state, build = restored(prior_config(first), second)[0], pretrained.tokenizer(str(first))
    with pytest.raises(UserError, match='has saved step 4 .* but the codes are of step 4'):
        build.start(state, after, parallel.place('pmap', jax.devices()[:1]))


def test_one_key_names_the_run():
    config = categorical_prior.get_config()
    config.model.tokenizer = 'runs/a'
    assert config.data.dir == 'runs/a' and workdir.plain(config)['data']['dir'] == 'runs/a'
    config.data.dir = 'runs/b'
    assert config.model.tokenizer == 'runs/b'
    configs.codes(config, 'runs/c')  # as a variant does
    assert config.data.dir == 'runs/c'


def sealed(config, folder):
    """Makes a folder of a run with a checkpoint, as far as it is read before the run begins."""
    workdir.claim(folder, config)
    (folder / 'checkpoints/2').mkdir(parents=True)
    (folder / 'checkpoints/2/checksums.json').write_text('{}')


def without_codebook(config, folder):
    sealed(small(CONFIGS['vae'].get_config()), folder)


def without_codes(config, folder):
    sealed(small(CONFIGS['dcgan'].get_config()), folder)


def without_checkpoint(config, folder):
    workdir.claim(folder, first_config())


def unnamed(config, folder):
    config.model.tokenizer = ''


def other_source(config, folder):
    config.data.update(source='digits', observe='image', dir='')


def flipped(config, folder):
    sealed(first_config(), folder)
    config.data.flip = True


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda config, folder: None,
            'config.model.tokenizer=.*first: there is no run .no config.json.: train it first',
        ),
        (without_checkpoint, 'config.model.tokenizer=.*first: there is no checkpoint yet: train first'),
        (without_codebook, "variational'. has no codebook: choose a run of configs/vq_vae.py, or"),
        (without_codes, "'gan'. has no codes: choose a run of configs/vq_vae.py, or"),
        (unnamed, "config.model.tokenizer='': name the folder of a run that has a codebook, such as runs/vq_vae"),
        (other_source, "config.data.source='digits' .* leave config.data.source='codes'"),
        (flipped, 'config.data.flip is for images and codes is none'),
    ],
)
def test_what_cannot_be_is_refused_before_the_folder_is_claimed(change, message, tmp_path):
    folder, config = tmp_path / 'first', prior_config(tmp_path / 'first')
    folder.mkdir()
    if change is other_source:
        config = config.copy_and_resolve_references()
    change(config, folder)
    with pytest.raises(ConfigError, match=message) as raised:
        go(config, tmp_path / 'second')
    assert raised.value.exit_code == 2 and '\n' not in str(raised.value)
    assert not (tmp_path / 'second' / 'config.json').exists()


def test_continuous_codes_are_the_means_of_a_vae():
    folder = small_run('vae-spatial')
    source = data.load(data_of(folder), 'test')
    found = pretrained.tokenizer(folder)
    variables = found.load(parallel.place('pmap', jax.devices()[:1]))
    rows = source.rows(np.arange(8))
    batch = drawing.examples(found.config)(np.arange(8))
    means = jax.jit(found.tokenizer.encode)(variables, batch)
    np.testing.assert_allclose(rows['codes'], means, atol=1e-5)
    assert source.fields['codes'].dtype == np.float32 and rows['codes'].ndim == 4 and means.std() > 0.01
    prepared = data.prepare_batch(data_of(folder), source)(rows, drawing.keys(0, 0, 8))
    np.testing.assert_array_equal(prepared['x'], rows['codes'])
    with pytest.raises(ConfigError, match='has no codebook'):
        pretrained.tokenizer(folder, discrete=True)


def test_only_the_codes_that_a_limit_keeps_are_encoded(first, encodings):
    whole = data.load(prior_config(first).data)
    encodings.clear()
    config = prior_config(first).data
    config.limit = 30
    part, kept = data.load(config), np.sort(np.random.default_rng(0).permutation(len(whole))[:30])
    assert len(part) == len(source_of_codes.codes(str(first), 'train', (), 30)) == 30
    assert encodings == ['train']  # one time for both
    for name, values in part.rows(np.arange(30)).items():
        np.testing.assert_array_equal(values, whole.rows(kept)[name])


def test_prompts_and_captions_of_held_out_scenes_condition_a_prior_over_codes(encodings):
    config = with_tokenizer(small(CONFIGS['dalle'].get_config()))
    conditions = Conditions(words=len(captions.VOCABULARY))
    at = drawing.condition_at(config, conditions)(np.arange(3))
    shown = data.load(pretrained.config_of(config.model.tokenizer, '').data, 'test').captions(np.arange(3))
    assert [captions.text(row) for row in at['caption']] == shown
    prompt = 'a large red circle above a small blue star on grey'
    given = drawing.condition_at(config, conditions, given=Given(prompt=prompt))(np.arange(2))
    assert [captions.text(row) for row in given['caption']] == [prompt] * 2
    with pytest.raises(ConfigError, match=r'no caption has the word .rde. \(did you mean red\?\)') as raised:
        drawing.condition_at(config, conditions, given=Given(prompt='a rde circle'))
    assert '\n' not in str(raised.value) and not encodings


def data_of(folder):
    config = configs.defaults('x').data
    config.update(source='codes', observe='codes', dir=str(folder))
    return config


def halves(variables, batch):
    bright = batch['x'].reshape(len(batch['x']), 2, 4, 2, 4).mean((2, 4)) > -0.5
    return {'bottom': bright.astype(jnp.int32) * 4, 'top': bright.sum((1, 2), keepdims=True).astype(jnp.int32)}


def test_each_of_several_grids_is_a_field_and_together_they_are_codes(first, monkeypatch):
    two = Tokenizer({'top': (1, 1), 'bottom': (2, 2)}, {'top': 5, 'bottom': 6}, halves, None, None, ())
    found = pretrained.tokenizer(str(first))._replace(tokenizer=two, checkpoint='of two grids')
    monkeypatch.setattr(pretrained, 'tokenizer', lambda folder: found)
    source = data.load(data_of(first))
    rows = source.rows(np.arange(40))
    assert [*source.fields] == ['top', 'bottom', 'codes', 'label'] and source.fields['codes'].high == 5
    x = data.load(found.config.data).rows(np.arange(40))['image'] / np.float32(127.5) - 1
    expected = jax.device_get(halves({}, {'x': x[..., 0]}))
    for name in ('top', 'bottom'):
        np.testing.assert_array_equal(rows[name], expected[name])
    np.testing.assert_array_equal(rows['codes'], np.concatenate([rows['top'][:, 0], rows['bottom'].reshape(40, 4)], 1))
    batch = data.prepare_batch(data_of(first), source)(rows, drawing.keys(0, 0, 40))
    assert batch['x'].dtype == jnp.int32
    for codes in (tokenizers.take(two, batch), tokenizers.unflat(two, batch['x'])):
        assert [*codes] == ['top', 'bottom']
        jax.tree.map(np.testing.assert_array_equal, dict(codes), expected)
