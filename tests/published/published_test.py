"""Tests records of published networks against outputs of the peers, and the run folders and files made by them.

The fixtures hold random weights of tiny networks and the peer's output (benchmarks/parity)."""

import argparse
import json
import pathlib
import pickle

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import convert, experiment, published
from genlab.choices import named, options
from genlab.diffusion.model import make_model
from genlab.errors import ConfigError, UserError
from genlab.losses import mixtures
from genlab.models import cycle, generators, hierarchical_quantized, priors, quantized, translation, vqgan
from genlab.networks.autoencoders.spatial import SpatialDecoder, SpatialEncoder
from genlab.networks.diffusion.dit import DiT
from genlab.published import files, mapping, recorded, runs, torch_file
from genlab.run import workdir
from genlab.training import loop, parallel, pretrained
from genlab.training.program import programs
from support import torch_files
from support.runs import FILES, ROOT, module_of

FIXTURES = pathlib.Path(__file__).parent / 'fixtures'
QUICK = {'xla_backend_optimization_level': 0}  # compiling takes longer than running
NAMES = sorted(path.name for path in FIXTURES.glob('*.npz'))
AUTOENCODERS = {'kl_f8': 4, 'diffusers_vae': 2}  # record -> width of the tiny network


def published_config(name):
    """Returns the config of the published network of a fixture."""
    record = name.partition('-')[0]
    path, variant = {
        'pytorch_dcgan': ('dcgan', ''),
        'diffusers_ddpm': ('ddpm', 'cifar10'),
        'improved_diffusion': ('improved_ddpm', 'cifar10'),
        'edm': ('edm', 'cifar10_ncsnpp' if 'ncsnpp' in name else 'cifar10'),
        'kl_f8': ('vae', 'kl_f8'),
        'diffusers_vae': ('vae', 'kl_f8'),
        'dit': ('dit', ''),
        'stylegan2_ada': ('stylegan2', 'ffhq256'),
        'pix2pix': ('pix2pix', 'facades'),
        'cyclegan': ('cyclegan', 'horse2zebra'),
        'taming_vqgan': ('vqgan', 'f16'),
        'rosinality_vq_vae2': ('vq_vae2', 'faces'),
        'rosinality_pixelsnail': ('prior_pixelsnail', 'faces'),
        'pclucas14_pixelcnn_pp': ('pixelcnn_pp', 'cifar10'),
        'zalando_vq_vae': ('vq_vae', 'cifar10,rectified'),
    }[record]
    return module_of(ROOT / f'configs/{path}.py').get_config(variant)


def tiny(name):
    """Returns the config of a fixture: the published one with a tiny network, on data that are there."""
    record, config = name.partition('-')[0], published_config(name)
    config.data.update(source='digits', name='', dir='', resolution=8, channels=1)
    if record == 'pytorch_dcgan':
        config.data.resolution = 16
        config.model.latent_size, config.model.networks.width = 8, 4
    elif record in AUTOENCODERS:
        config.model.networks.update(width=AUTOENCODERS[record], multipliers=(1, 2), blocks=1)
    elif record == 'stylegan2_ada':
        config.data.channels, config.model.latent_size = 3, 8
        config.model.networks.update(base=32, most=8, width=8, layers=2, group=4, clamp=2.0)
    elif record == 'pix2pix':
        config.data.resolution = 32
        config.model.generator.update(width=1, depth=5)
        config.model.discriminator.update(width=2, layers=2)
    elif record == 'cyclegan':
        config.data.update(source='scenes', fields=('style',), unpaired='style', resolution=16, channels=3)
        config.model.input = 'style'
        config.model.generator.update(width=1, blocks=2)
        config.model.discriminator.update(width=2, layers=2)
    elif record == 'dit':
        config.data.update(resolution=4, channels=4)
        config.model.update(classes=3, learned_variance=True)
        config.model.network = named('transformer', patch=2, endpoint=False, width=16, depth=2, heads=2)
    elif record == 'taming_vqgan':
        config.model.networks.update(width=2, multipliers=(1, 2), blocks=1)
        config.model.quantizer.update(entries=8, latent_size=4)
        config.model.discriminator.update(width=2, layers=1)
    elif record == 'rosinality_vq_vae2':
        config.data.resolution = 16
        config.model.networks.update(width=8, blocks=1)
        config.model.quantizer.update(entries=6, latent_size=4)
    elif record == 'rosinality_pixelsnail':
        for network, width, inner in ((config.model.network, 16, 2), (config.model.lower, 4, 3)):
            network.update(width=width, inner=inner, blocks=1, residual_blocks=1, context_blocks=1)
    elif record == 'pclucas14_pixelcnn_pp':
        config.data.channels = 3
        config.model.network.update(width=3, blocks=1, mixtures=2)
    elif record == 'zalando_vq_vae':
        config.data.channels = 3
        config.model.networks.update(width=8, blocks=2)
        config.model.quantizer.update(entries=6, latent_size=4)
    else:
        config.model.network.update(width=4, multipliers=(1, 2), blocks=1, attention=(4,))
        if record in ('diffusers_ddpm', 'improved_diffusion'):
            with config.unlocked():
                config.model.network.groups = 2
        if record == 'improved_diffusion':
            config.model.network.heads = 2
    return config


def modules(name, config):
    """Returns network -> (module, inputs of the fixture by position, by name) of a fixture."""
    if name.startswith('pytorch_dcgan'):
        nets = generators.networks(config, None)
        if 'generator' in name:
            return {'generator': (nets.generator, ('z', False), {})}
        return {'discriminator': (nets.discriminator, ('x', False), {})}
    if name.startswith('rosinality_pixelsnail-bottom'):
        return {'bottom': (pixelsnail(config, 'bottom', 4, 4), ('x', False), {'context': 'context'})}
    if name.startswith('rosinality_pixelsnail'):
        return {'top': (pixelsnail(config, 'top', 4, 4), ('x', False), {})}
    if name.startswith('pclucas14'):
        grid = priors.Grid((config.data.resolution,) * 2, 0, config.data.channels)
        return {'prior': (priors.NETWORKS['pixelcnn_pp'](grid, **options(config.model.network)), ('x', False), {})}
    if name.startswith('rosinality_vq_vae2'):
        model = hierarchical_quantized.from_config(config)
        return {
            'features': (model.features, ('x',), {}),
            'top_encoder': (model.top_encoder, ('features',), {}),
            'top_quantizer': (model.quantizer, ('top_z', False), {}),
            'bottom_encoder': (model.bottom_encoder, ('above', 'features'), {}),
            'bottom_quantizer': (model.quantizer, ('z', False), {}),
            'decoder': (model.decoder, ('above', 'below'), {}),
        }
    if name.startswith(('taming', 'zalando')):
        model = quantized.from_config(config)
        found = {
            'encoder': (model.encoder, ('x',), {}),
            'quantizer': (model.quantizer, ('z', False), {}),
            'decoder': (model.decoder, ('codes' if name.startswith('zalando') else 'entries',), {}),
        }
        if name.startswith('taming'):
            found['discriminator'] = (vqgan.from_config(config, None, None).discriminator, ('x', False), {})
        return found
    if width := AUTOENCODERS.get(name.partition('-')[0]):
        shared = dict(multipliers=(1, 2), blocks=1)
        return {
            'encoder': (SpatialEncoder(width, 4, **shared), ('x',), {}),
            'decoder': (SpatialDecoder(width, 4, (8, 8, 1), scale=None, **shared), ('z',), {}),
        }
    if name.startswith('stylegan2_ada'):
        nets = generators.networks(config, None)
        if 'discriminator' in name:
            return {'discriminator': (nets.discriminator, ('x', False), {})}
        return {'mapping': (nets.mapping, ('z', False), {}), 'generator': (nets.generator, ('styles', False), {})}
    if name.startswith('pix2pix'):
        network = 'generator' if '-G' in name else 'discriminator'
        return {network: (getattr(translation.from_config(config, None), network), ('x', False), {})}
    if name.startswith('cyclegan'):
        model = cycle.from_config(config, None)
        if '-G' in name:
            return {'forward': (model.generators['forward'], ('x', False), {})}
        return {'discriminator_forward': (model.discriminators['forward'], ('x', False), {})}
    shape = config.data.resolution, config.data.resolution, config.data.channels
    if name.startswith('dit'):
        network = DiT(8, patch=2, endpoint=False, width=16, depth=2, heads=2, classes=3)
        return {'denoiser': (network, ('x', 'level', False), {'labels': 'labels'})}
    return {'denoiser': (make_model(config, shape).network, ('x', 'level', False), {})}


def pixelsnail(config, level, side, entries):
    """Returns the PixelSNAIL of a grid of side x side codes, the lower one over a grid of half the side."""
    grid = priors.Grid((side, side), entries)
    if level == 'bottom':
        grid = grid._replace(above=(side // 2, side // 2), above_entries=entries)
    return priors.NETWORKS['pixelsnail'](grid, **options(config.model['network' if level == 'top' else 'lower']))


# Record -> network -> name of the array that it is compared with; a single network has 'output'.
OUTPUTS = {
    **dict.fromkeys(AUTOENCODERS, {'encoder': 'mean', 'decoder': 'output'}),
    'taming_vqgan': {'encoder': 'z', 'quantizer': 'entries', 'decoder': 'output', 'discriminator': 'logits'},
    'zalando_vq_vae': {'encoder': 'z', 'quantizer': 'entries', 'decoder': 'output'},
    'rosinality_vq_vae2': {
        'features': 'features',
        'top_encoder': 'top_z',
        'top_quantizer': 'top',
        'bottom_encoder': 'bottom_z',
        'bottom_quantizer': 'entries',
        'decoder': 'output',
    },
}


def fixture(name):
    """Returns the tensors, inputs and output of a fixture."""
    with np.load(FIXTURES / name) as arrays:
        found = {key: arrays[key] for key in arrays.files}
    part = lambda prefix: {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    tensors = {key: np.asarray(value, np.float32) for key, value in part('tensors/').items()}
    if 'shapes' in found:
        shapes = json.loads(found['shapes'].tobytes())
        parts = np.split(found['tensors'], np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1])
        tensors |= {key: np.float32(part.reshape(shape)) for part, (key, shape) in zip(parts, shapes.items())}
    full = lambda array: array.astype(np.float32) if array.dtype == np.float16 else array
    return tensors, {key: full(value) for key, value in part('inputs/').items()}, found['output']


def calls(name):
    """Returns the config, the table, and network -> (shapes, a call from variables to the output) of a fixture."""
    config, (_, inputs, _) = tiny(name), fixture(name)
    record = published.record(name.partition('-')[0])
    tables = record.tables(record.complete(config))
    table = tables[name.partition('-')[2].removesuffix('.npz')] if len(tables) > 1 else next(iter(tables.values()))
    found = {}
    for network, (module, places, keywords) in modules(name, config).items():
        given = [inputs.get(place, place) for place in places]
        by_name = {key: inputs[place] for key, place in keywords.items()}
        shapes = jax.eval_shape(lambda m=module, g=given, k=by_name: m.init(jax.random.key(0), *g, **k))
        call = lambda variables, m=module, g=given, k=by_name: m.apply(variables, *g, **k)
        found[network] = shapes, call
    return config, table, found


@pytest.mark.parametrize('name', NAMES)
def test_outputs_are_those_of_the_peer(name):
    tensors, inputs, expected = fixture(name)
    _, table, found = calls(name)
    shapes = {path: leaf.shape for path, leaf in mapping.paths({net: one[0] for net, one in found.items()}).items()}
    arrays = mapping.to_ours(tensors, table, shapes, name)
    assert {*arrays} == {*shapes}
    variables = mapping.nested(arrays)
    run = lambda variables: {network: call(variables[network]) for network, (_, call) in found.items()}
    outputs = jax.jit(run, compiler_options=QUICK)(variables)
    own = {network: f'{network}.output' for network in found if f'{network}.output' in inputs}
    keys = OUTPUTS.get(name.partition('-')[0]) or {**dict.fromkeys(found, 'output'), **own}
    assert {*keys} == {*found}
    for network, key in keys.items():
        output = outputs[network][0] if isinstance(outputs[network], tuple) else outputs[network]
        array = {**inputs, 'output': expected}[key].reshape(output.shape)
        np.testing.assert_allclose(output, array, rtol=0, atol=1e-4 * np.abs(array).max(), err_msg=network)
    back = mapping.to_theirs(arrays, table)
    assert {*back} == {entry.theirs for entry in table.entries}
    if table.rewrite:  # the same function by other tensors
        again = mapping.to_ours(back, table, shapes, name)
        for key, array in arrays.items():
            np.testing.assert_allclose(again[key], array, rtol=1e-5, atol=1e-6)
        assert any(not np.array_equal(back[key], tensors[key]) for key in back)
    for key, array in () if table.rewrite else back.items():
        np.testing.assert_array_equal(array, tensors[key])


@pytest.mark.parametrize('name, form', [('diffusers_ddpm-newer.npz', 'zip'), ('diffusers_vae-newer.npz', 'legacy')])
def test_older_names_of_a_peer_are_recognised(tmp_path, name, form):
    tensors, (config, newer, found) = fixture(name)[0], calls(name)
    renames = {'to_q': 'query', 'to_k': 'key', 'to_v': 'value', 'to_out.0': 'proj_attn'}
    older = {
        next((key.replace(new, old) for new, old in renames.items() if f'.{new}.' in key), key): array
        for key, array in tensors.items()
    }
    record = published.record(name.partition('-')[0])
    tree = files.read('torch', torch_files.write(tmp_path / 'diffusion_pytorch_model.bin', older, form))
    ((kind, table, same),) = runs.parted(record.tables(record.complete(config)), tree, 'it')
    assert kind == 'older' and {*older} != {*tensors}
    shapes = {path: leaf.shape for path, leaf in mapping.paths({net: one[0] for net, one in found.items()}).items()}
    expected = mapping.to_ours(tensors, newer, shapes, 'it')
    for path, array in mapping.to_ours(same, table, shapes, 'it').items():
        np.testing.assert_array_equal(array, expected[path])


def test_a_step_of_a_codebook_is_that_of_the_peer():
    name = 'rosinality_vq_vae2-vqvae.npz'
    (tensors, inputs, _), (config, table, found) = fixture(name), calls(name)
    leaves = mapping.paths({network: one[0] for network, one in found.items()})
    arrays = mapping.to_ours(tensors, table, {path: leaf.shape for path, leaf in leaves.items()}, name)
    old = mapping.nested({path: jnp.asarray(array, leaves[path].dtype) for path, array in arrays.items()})
    quantizer = hierarchical_quantized.from_config(config).quantizer
    step = jax.jit(lambda variables, z: quantizer.apply(variables, z, True, mutable=['codebook'])[1])
    new = step(old['top_quantizer'], inputs['z'])['codebook']
    assert np.abs(new['entries'] - old['top_quantizer']['codebook']['entries']).max() > 0.1
    np.testing.assert_allclose(new['entries'], inputs['moved_entries'], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new['count'], inputs['moved_count'], rtol=1e-5)


def test_a_likelihood_is_that_of_the_peer():
    _, inputs, output = fixture('pclucas14_pixelcnn_pp-pixelcnn_pp.npz')
    found = jax.jit(mixtures.mixture_of_logistics, compiler_options=QUICK)(inputs['x'], output).sum()
    np.testing.assert_allclose(found, inputs['nll'], rtol=1e-5)


def test_the_prefix_of_parallel_wrappers_is_removed():
    tensors = fixture('zalando_vq_vae-vqvae.npz')[0]
    config, table, _ = calls('zalando_vq_vae-vqvae.npz')
    wrapped = {f'module.{name}': array for name, array in tensors.items()}
    for tree in (wrapped, {'step': 3, 'model': wrapped}):
        assert {*runs.parted({'vqvae': table}, tree, 'it')[0][2]} == {*tensors}
    mixed = runs.matching({'vqvae': table}, {**wrapped, 'step': np.ones(1)}, 'it')[2]
    assert {*mixed} == {*wrapped, 'step'}  # a name without it: nothing is known of the file


def test_files_without_a_discriminator_are_recognised():
    name = 'taming_vqgan-vqgan.npz'
    config, tensors = calls(name)[0], fixture(name)[0]
    tables = published.record('taming_vqgan').tables(published.record('taming_vqgan').complete(config))
    assert runs.matching(tables, {'state_dict': tensors}, 'it')[0] == 'vqgan'
    short = {key: array for key, array in tensors.items() if not key.startswith('loss.')}
    assert runs.matching(tables, short, 'it')[0] == 'autoencoder'


def test_every_record_has_a_fixture_and_all_are_small():
    assert {name.partition('-')[0] for name in NAMES} == {*published.RECORDS}
    assert sum((FIXTURES / name).stat().st_size for name in NAMES) < 200_000


def test_every_config_has_a_record_or_says_why_not():
    assert {*published.CONFIGS} == {path.stem for path in FILES}
    for stem, found in published.CONFIGS.items():
        assert found, stem
        if not isinstance(found, str):
            assert {*found} <= {*published.RECORDS}
    assert {name for found in published.CONFIGS.values() if not isinstance(found, str) for name in found} == {
        *published.RECORDS
    }


LAYOUTS = {
    'permuted': (mapping.permuted(2, 0, 1), (2, 3, 4)),
    'transposed convolution': (mapping.CONV_TRANSPOSE, (4, 5, 2, 3)),
    'dense of a convolution': (mapping.CONV_DENSE, (2, 3)),
    'packed': (mapping.packed(mapping.CONV1D_DENSE, 2, ('head', 'part', 'channel')), (2, 12)),
}


@pytest.mark.parametrize('name', LAYOUTS)
def test_a_layout_is_undone(name):
    layout, shape = LAYOUTS[name]
    ours = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(layout.read(layout.write(ours, shape), shape), ours)
    assert not np.array_equal(layout.write(ours, shape).ravel(), ours.ravel())  # else it would prove nothing


# One file with several networks, and several files with the same tensors.


def test_a_pickle_fills_the_networks_of_all_its_sections():
    kinds, record = ('generator', 'discriminator'), published.record('stylegan2_ada')
    states = {kind: fixture(f'stylegan2_ada-{kind}.npz')[0] for kind in kinds}
    tables = record.tables(record.complete(tiny('stylegan2_ada-generator.npz')))
    tree = {name: {'init': {}, 'state': states[kind]} for name, kind in zip(('G_ema', 'D'), kinds)}
    found = runs.parted(tables, {**tree, 'G': tree['G_ema'], 'augment_pipe': None}, 'it')
    assert {kind: tensors is not None for kind, _, tensors in found} == dict.fromkeys(kinds, True)
    for kind, table, tensors in found:
        assert table is tables[kind] and {*tensors} == {*states[kind]}
        ((alone, _, same),) = runs.parted(tables, states[kind], 'it')  # a state dict of one network
        assert alone == kind and {*same} == {*tensors}
    assert [kind for kind, _, _ in runs.parted(tables, {'G_ema': tree['G_ema']}, 'it')] == ['generator']


def test_names_of_files_tell_networks_with_the_same_tensors_apart():
    record, tensors = published.record('cyclegan'), fixture('cyclegan-G_A.npz')[0]
    tables = record.tables(tiny('cyclegan-G_A.npz'))
    for name, kind, network in (('latest_net_G_A.pth', 'G_A', 'forward'), ('runs/5_net_G_B.pth', 'G_B', 'back')):
        ((found, table, _),) = runs.parted(tables, tensors, name)
        assert found == kind and {entry.ours.split('/')[0] for entry in table.entries} == {network}
    with pytest.raises(ConfigError, match='latest_net_G.pth: G_A, G_B have the same tensors: end its name'):
        runs.parted(tables, tensors, 'latest_net_G.pth')


def test_statistics_that_a_peer_does_not_use_are_left_out():
    tensors, (_, table, found) = fixture('cyclegan-G_A.npz')[0], calls('cyclegan-G_A.npz')
    shapes = {path: leaf.shape for path, leaf in mapping.paths({net: one[0] for net, one in found.items()}).items()}
    old = {**tensors, 'model.2.running_mean': np.zeros(1), 'model.2.num_batches_tracked': np.zeros(())}
    assert {*mapping.to_ours(old, table, shapes, 'it')} == {*shapes}
    with pytest.raises(ConfigError, match='no variable for the tensor model.2.scale'):
        mapping.to_ours({**tensors, 'model.2.scale': np.zeros(1)}, table, shapes, 'it')


@pytest.mark.parametrize('form', ['zip', 'legacy'])
def test_averages_and_options_of_a_checkpoint_are_read(tmp_path, form):
    tensors, record = fixture('dit-transformer.npz')[0], published.record('dit')
    older = {name: 0 * array for name, array in tensors.items()}
    options = argparse.Namespace(model='DiT-B/4', image_size=512, num_classes=10, vae='ema', ckpt_every=50_000)
    names = {'model': older, 'ema': tensors, 'opt': {'state': {}, 'groups': [{'lr': 1e-4}]}, 'args': options}
    tree = files.read('torch', torch_files.write(tmp_path / '0400000.pt', names, form))
    ((_, _, found),) = runs.parted(record.tables(record.complete(tiny('dit-transformer.npz'))), tree, 'it')
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)
    expected = record.translate(tree['args'])
    assert expected['model.network.width'] == 768 and expected['data.resolution'] == 512
    assert expected['model.network.patch'] == 4 and expected['model.classes'] == 10


# Run folders.


@pytest.fixture(scope='module')
def gan():
    """Returns the config of the tiny DCGAN."""
    config = tiny('pytorch_dcgan-generator.npz')
    config.data.update(batch_size=8, limit=16)
    config.train.update(steps=2, log_every=1)
    with config.ignore_type():
        config.train.update(sample_every=0, evaluate_every=0)
    return config


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Writes checkpoints of a training: a nested one of bfloat16 for the generator, one without an archive beside."""
    folder = tmp_path_factory.mktemp('weights')
    made, judge = (fixture(f'pytorch_dcgan-{kind}.npz')[0] for kind in ('generator', 'discriminator'))
    half = {name: array.astype(jnp.bfloat16) for name, array in made.items()}  # holds these weights exactly
    worse = {name: 0 * array for name, array in made.items()}
    options = argparse.Namespace(rate=2e-4, sizes=[64, 64], resumed=None, cuda=True)
    tree = {'model': worse, 'g_ema': half, 'args': options, 'optimizer': {'state': {'0': {'step': 3}}}}
    return [
        torch_files.write(folder / 'generator.pt', tree),
        torch_files.write(folder / 'discriminator.pth', judge, 'legacy'),
    ]


def make(config, folder, paths, form='torch', record='pytorch_dcgan', **rest):
    return runs.make(config, experiment.load(config.experiment), folder, form, paths, record, **rest)


@pytest.fixture(scope='module')
def run(gan, weights, tmp_path_factory):
    """Returns the folder of a run that was made of both files."""
    folder = tmp_path_factory.mktemp('run') / 'dcgan'
    make(gan, folder, weights)
    return folder


def test_a_run_folder_holds_the_weights_and_goes_on(gan, run, tmp_path):
    config, build = pretrained.config_of(str(run), '--workdir'), experiment.load('gan')
    assert workdir.compare(run, gan) == []
    step, state, program = pretrained.restore(config, build, run, parallel.place('pmap'))
    tensors, inputs, expected = fixture('pytorch_dcgan-generator.npz')
    for averaged in (False, True):
        variables = state.variables(averaged=averaged)['generator']
        output = generators.networks(config, None).generator.apply(variables, inputs['z'], False)
        np.testing.assert_allclose(output, expected, atol=1e-4)
    record = json.loads((run / runs.PROVENANCE).read_text())
    assert step == 0 and record['record'] == 'pytorch_dcgan' and record['fresh'] == []
    assert [len(file['sha256']) for file in record['files']] == [64, 64]
    assert json.loads((run / 'networks.json').read_text())['generator']['parameters'] > 0
    # The way out, in our names and in the peer's.
    runs.export(run, 'npz', tmp_path / 'own.npz')
    notes = json.loads((tmp_path / 'own.json').read_text())
    assert notes['config']['experiment'] == 'gan' and notes['step'] == 0
    assert notes['tensors']['generator/params/ConvTranspose_0/kernel']['shape'] == [4, 4, 8, 8]
    runs.export(run, 'npz', tmp_path / 'peer.npz', 'pytorch_dcgan', 'discriminator')
    with np.load(tmp_path / 'peer.npz') as found:
        for name, array in fixture('pytorch_dcgan-discriminator.npz')[0].items():
            if not name.endswith('num_batches_tracked'):
                np.testing.assert_array_equal(found[name], array)
    make(gan, tmp_path / 'again', [tmp_path / 'own.npz'], 'npz', published.OWN)
    with pytest.raises(ConfigError, match='holds checkpoint 0'):
        make(gan, run, [tmp_path / 'own.npz'], 'npz', published.OWN)
    loop.fit(gan, build, tmp_path / 'again')  # two steps
    assert (tmp_path / 'again/checkpoints/2').exists()


# Recorded inputs and outputs.


@pytest.fixture(scope='module')
def converted(gan):
    """Returns the program of the tiny DCGAN, its generator by path, and the recorded input and output."""
    program = programs(gan, experiment.load('gan'), parallel.place('pmap'), declared=True)[0]
    tensors, inputs, output = fixture('pytorch_dcgan-generator.npz')
    _, table, found = calls('pytorch_dcgan-generator.npz')
    shapes = {path: leaf.shape for path, leaf in mapping.paths({net: one[0] for net, one in found.items()}).items()}
    return program, mapping.to_ours(tensors, table, shapes, 'it'), inputs['z'], output


def test_a_recorded_output_is_compared(converted, tmp_path):
    program, arrays, z, output = converted
    path = tmp_path / 'recorded.npz'
    np.savez(path, **{'generator/inputs/z': z, 'generator/output': output})
    found = recorded.check_recorded(path, program, arrays)
    assert {*found} == {'generator'} and found['generator'] < 1e-5
    largest = np.abs(output).max()
    for factor, differs in ((0.9, False), (1.2, True)):
        wrong = output.copy()
        wrong.flat[7] += factor * 1e-4 * largest
        np.savez(path, **{'generator/inputs/z': z, 'generator/output': wrong})
        if differs:
            with pytest.raises(ConfigError, match=r'generator/output: the largest relative difference is 1\.2e-04'):
                recorded.check_recorded(path, program, arrays)
        else:
            assert 8e-5 < recorded.check_recorded(path, program, arrays)['generator'] < 1e-4


@pytest.mark.parametrize(
    'change, message',
    [
        ({'discriminator/output': np.zeros(3)}, "='discriminator': choose one of generator"),
        ({'generator/inputs/x': np.zeros(3)}, 'has the inputs x, z; it needs z, of z, train'),
        ({'generator/inputs/z': None}, 'has the inputs none; it needs z'),
        ({'generator/inputs/z': np.zeros((3, 5))}, 'cannot take these inputs'),
        ({'generator/output': None}, 'generator/output is missing'),
        ({'generator/output': np.zeros((3, 4))}, r'has the shape \(3, 4\), and the network returns'),
        ({}, r'no\.npz is no .npz file'),
    ],
)
def test_another_recording_is_refused_in_one_line(converted, tmp_path, change, message):
    program, arrays, z, output = converted
    content = {'generator/inputs/z': z, 'generator/output': output} | change
    np.savez(tmp_path / 'recorded.npz', **{key: value for key, value in content.items() if value is not None})
    with pytest.raises(ConfigError, match=message) as error:
        recorded.check_recorded(tmp_path / ('recorded.npz' if change else 'no.npz'), program, arrays)
    assert '\n' not in str(error.value) and '--check=' in str(error.value) and error.value.exit_code == 2


def test_nothing_is_written_if_a_recorded_output_differs(gan, weights, converted, tmp_path):
    _, _, z, output = converted
    np.savez(tmp_path / 'recorded.npz', **{'generator/inputs/z': z, 'generator/output': 2 * output})
    with pytest.raises(ConfigError, match='generator/output'):
        make(gan, tmp_path / 'run', weights, recorded=tmp_path / 'recorded.npz')
    assert not (tmp_path / 'run').exists()


def changed(tensors, case):
    """Returns the tensors with one fault."""
    tensors = dict(tensors)
    if case == 'missing':
        del tensors['main.3.weight']
    elif case == 'surplus':
        tensors['main.9.weights'] = np.zeros(3)
    elif case == 'shape':
        tensors['main.3.weight'] = np.zeros((8, 5, 4, 4), np.float32)
    elif case == 'axes':
        tensors['main.3.weight'] = np.zeros((8, 5), np.float32)
    elif case == 'other':
        tensors = fixture('zalando_vq_vae-vqvae.npz')[0]
    elif case == 'not finite':
        tensors['main.3.weight'] = np.full_like(tensors['main.3.weight'], np.nan)
    return tensors


@pytest.mark.parametrize(
    'case, message',
    [
        ('missing', r'main\.3\.weight is missing'),
        ('surplus', r'no variable for the tensor main\.9\.weights'),
        ('shape', r'main\.3\.weight has the shape \(8, 5, 4, 4\), and this config needs \(8, 4, 4, 4\)'),
        ('axes', r'main\.3\.weight has the shape \(8, 5\)'),
        ('not finite', 'ConvTranspose_1.*not finite'),
        ('twice', 'filled .* already'),
        ('record', 'choose one of'),
        ('file', 'file.pt is not a torch file, or is damaged'),
        ('other', r'the tensor main\.\d+\.[a-z_]+ is missing'),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_writes_nothing(gan, tmp_path, case, message):
    tensors = changed(fixture('pytorch_dcgan-generator.npz')[0], case)
    path = torch_files.write(tmp_path / 'file.pt', tensors if case == 'axes' else {'ema': tensors})
    if case == 'file':
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ConfigError, match=message) as error:
        paths = [path, path] if case == 'twice' else [path]
        make(gan, tmp_path / 'run', paths, record='dcgan' if case == 'record' else 'pytorch_dcgan')
    assert error.value.exit_code == 2 and '\n' not in str(error.value) and not (tmp_path / 'run').exists()


def test_the_command_names_the_record_of_the_config_and_refuses_others():
    assert published.CONFIGS['dcgan'] == ('pytorch_dcgan',)
    convert.FLAGS.unparse_flags()
    convert.FLAGS(['convert', '--from=npz', f'--config={ROOT}/configs/dcgan.py'])
    assert convert.default_record() == 'pytorch_dcgan'
    convert.FLAGS(['convert', '--from=npz', f'--config={ROOT}/configs/gmm.py'])
    with pytest.raises(ConfigError, match='no record'):
        convert.default_record()
    with pytest.raises(ConfigError, match='which file'):
        convert.run([])


# Formats.


def test_classes_of_callbacks_are_names_that_nothing_can_call(tmp_path):
    path, name = tmp_path / 'last.ckpt', b'pytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n'
    path.write_bytes(b'\x80\x02}X\x09\x00\x00\x00callbacks}c' + name + b'K\x01ss.')
    assert torch_file.read_modules(path) == {'callbacks': {name.decode().strip().replace('\n', '.'): 1}}
    path.write_bytes(b'\x80\x02c' + name + b')R.')  # a call
    with pytest.raises(UserError, match='not callable'):
        torch_file.read_modules(path)


def test_formats(tmp_path):
    tensors = {'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': np.ones((), np.float32)}
    (tmp_path / 'file.msgpack').write_bytes(flax.serialization.msgpack_serialize({'params': {'x': tensors['b']}}))
    assert {*files.flat(files.read('msgpack', tmp_path / 'file.msgpack'))} == {'params.x'}
    for form in ('npz', 'safetensors'):
        if form == 'safetensors':
            pytest.importorskip('safetensors')
        path = tmp_path / f'file.{form}'
        files.write(form, path, tensors, {})
        found = files.read(form, path)
        for name, array in tensors.items():
            np.testing.assert_array_equal(found[name], array)
        assert json.loads(path.with_suffix('.json').read_text())['tensors']['a.weight']['shape'] == [2, 3]


@pytest.mark.parametrize('form', files.READERS)
def test_other_files_are_refused_in_one_line(tmp_path, form):
    if form == 'safetensors':
        pytest.importorskip('safetensors')
    (tmp_path / 'file').write_bytes(b'no\nsuch\nfile')
    for name in ('file', 'none'):
        with pytest.raises(ConfigError, match=name) as error:
            files.read(form, tmp_path / name)
        assert '\n' not in str(error.value)


# Configurations of the peers.

DDPM = {
    'sample_size': 32,
    'block_out_channels': [128, 256, 256, 256],
    'down_block_types': ['DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D', 'DownBlock2D'],
    'up_block_types': ['UpBlock2D', 'UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'],
    'downsample_padding': 0,
    'flip_sin_to_cos': False,
    'freq_shift': 1,
    'norm_eps': 1e-6,
}
DIFFUSERS_VAE = {
    '_class_name': 'AutoencoderKL',
    'in_channels': 3,
    'out_channels': 3,
    'down_block_types': ['DownEncoderBlock2D'] * 4,
    'up_block_types': ['UpDecoderBlock2D'] * 4,
    'block_out_channels': [128, 256, 512, 512],
    'layers_per_block': 2,
    'latent_channels': 4,
    'norm_num_groups': 32,
    'sample_size': 256,
}
EDM = {
    'img_resolution': 32,
    'img_channels': 3,
    'label_dim': 0,
    'model_type': 'SongUNet',
    'augment_dim': 9,
    'channel_mult': [2, 2, 2],
}


def stylegan2(**judge):
    """Returns the constructors' arguments in a pickle of StyleGAN2-ADA for 256x256 images, trained in float32."""
    shared, sizes = dict(channel_base=16384, conv_clamp=None), dict(c_dim=0, img_resolution=256, img_channels=3)
    mapping_kwargs = {'num_layers': 8, 'layer_features': 512}
    generator = dict(z_dim=512, w_dim=512, mapping_kwargs=mapping_kwargs, synthesis_kwargs=shared, **sizes)
    judge = dict(epilogue_kwargs={'mbstd_group_size': 8}, **sizes) | shared | judge
    return {'G_ema': {'init': generator}, 'D': {'init': judge}, 'augment_pipe': None}


PRIOR = {'channel': 256, 'n_res_block': 4, 'n_res_channel': 256, 'n_out_res_block': 0, 'n_cond_res_block': 3}


@pytest.mark.parametrize(
    'name, path, variant, found',
    [
        ('diffusers_ddpm', 'ddpm', 'cifar10', DDPM),
        ('diffusers_vae', 'vae', 'kl_f8', DIFFUSERS_VAE),
        ('edm', 'edm', 'cifar10', EDM),
        ('dit', 'dit', 'xl2', {'model': 'DiT-XL/2', 'image_size': 256, 'num_classes': 1000}),
        ('stylegan2_ada', 'stylegan2', 'ffhq256', stylegan2()),
        ('rosinality_pixelsnail', 'prior_pixelsnail', 'faces', {**PRIOR, 'hier': 'top'}),
        ('rosinality_pixelsnail', 'prior_pixelsnail', 'faces', {**PRIOR, 'hier': 'bottom'}),
    ],
)
def test_the_configuration_of_the_peer_is_read_in_full(name, path, variant, found):
    config, record = module_of(ROOT / f'configs/{path}.py').get_config(variant), published.record(name)
    mapping.check(record.complete(config), record.translate(found), 'it')
    with pytest.raises(ConfigError, match='the key unheard_of=3 .* is unknown'):
        record.translate({**found, 'unheard_of': 3})
    if 'hier' in found:
        changed, key = {**found, 'channel': 128}, 'config.model.*.width'
    elif 'latent_channels' in found:
        with pytest.raises(ConfigError, match='norm_num_groups=16 .* have 32 here'):
            record.translate({**found, 'norm_num_groups': 16})
        changed, key = {**found, 'latent_channels': 16}, 'config.model.latent_size'
    else:
        config.data.resolution *= 2
        changed, key = found, 'config.data.resolution'
    with pytest.raises(ConfigError, match=key):
        mapping.check(record.complete(config), record.translate(changed), 'it')


YAML = """
model:
  base_learning_rate: 4.5e-6
  target: {target}
  params:
    monitor: val/rec_loss
    embed_dim: {size}
    {entries}
    lossconfig:
      target: {loss}
      params: {{disc_start: 50001, disc_weight: 0.5}}
    ddconfig:
      double_z: {double}
      z_channels: {size}
      resolution: 256
      in_channels: 3
      out_ch: 3
      ch: 128
      ch_mult: {multipliers}  # a comment
      num_res_blocks: 2
      attn_resolutions: {attended}
      dropout: 0.0
data: {{target: main.DataModuleFromConfig}}
lightning: {{trainer: {{benchmark: true}}}}
"""
KL_F8 = YAML.format(
    target='ldm.models.autoencoder.AutoencoderKL',
    loss='ldm.modules.losses.LPIPSWithDiscriminator',
    size=4,
    entries='',
    double='true',
    multipliers='[1, 2, 4, 4]',
    attended='[ ]',
)
VQGAN = YAML.format(
    target='taming.models.vqgan.VQModel',
    loss='taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator',
    size=256,
    entries='n_embed: 1024',
    double='false',
    multipliers='[1, 1, 2, 2, 4]',
    attended='[16]',
)


@pytest.mark.parametrize(
    'name, path, variant, text, changes',
    [
        (
            'kl_f8',
            'vae',
            'kl_f8',
            KL_F8,
            {
                'ch: 128': ('ch: 64', r'config\.model\.networks\.width=64'),
                'embed_dim: 4': ('embed_dim: 8', 'z_channels=4'),
                '[ ]': ('[32]', 'attn_resolutions .* only \\[\\]'),
                'dropout': ('unheard_of: 3\n      dropout', 'unheard_of=3'),
                'monitor: val/rec_loss': ('unheard_of: 3', 'unheard_of=3'),
                'base_learning_rate: 4.5e-6': ('unheard_of: 3', 'unheard_of=3'),
                'model:': ('models:', 'the key model .* is missing'),
                'AutoencoderKL': ('VQModel', 'target='),
            },
        ),
        (
            'taming_vqgan',
            'vqgan',
            'f16',
            VQGAN,
            {
                '1024': ('16384', r'config\.model\.quantizer\.entries=16384'),
                '[16]': ('[]', r'config\.model\.networks\.attention=False'),
                'resolution: 256': ('resolution: 512', r'attn_resolutions=\(16,\)'),
                'disc_weight': ('disc_num_layers: 2, disc_weight', r'config\.model\.discriminator\.layers=2'),
                'disc_start': ('use_actnorm: true, disc_start', 'use_actnorm=True'),
                'embed_dim': ('unheard_of: 3\n    embed_dim', 'unheard_of=3'),
            },
        ),
    ],
)
def test_the_yaml_file_of_a_peer_is_read_in_full(tmp_path, name, path, variant, text, changes):
    config, record = module_of(ROOT / f'configs/{path}.py').get_config(variant), published.record(name)

    def read(text):
        file = tmp_path / 'config.yaml'
        file.write_text(text)
        mapping.check(record.complete(config), record.translate(files.configuration(file)), 'it')

    read(text)
    for old, (new, message) in changes.items():
        assert old in text
        with pytest.raises(ConfigError, match=message):
            read(text.replace(old, new, 1))


@pytest.mark.parametrize('text', ['a: !!python/object/apply:os.getcwd []', '- 3', 'a: [', 'a\nb: {'])
def test_other_yaml_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / 'config.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match='--configuration=.*config.yaml') as error:
        files.configuration(path)
    assert '\n' not in str(error.value)


def test_both_networks_of_a_pickle_are_translated():
    record = published.record('stylegan2_ada')
    for changes, message in (
        ({'channel_base': 32768}, 'channel_base=32768'),
        ({'architecture': 'orig'}, "architecture='orig'"),
        ({'epilogue_kwargs': {'mbstd_group_size': None}}, 'mbstd_group_size=None'),
        ({'epilogue_kwargs': {'unheard_of': 3}}, 'unheard_of=3'),
    ):
        with pytest.raises(ConfigError, match=message):
            record.translate(stylegan2(**changes))
    assert record.translate(stylegan2())['model.networks.group'] == 8
    found = stylegan2(conv_clamp=256)
    found['G_ema']['init']['synthesis_kwargs'] = dict(channel_base=16384, conv_clamp=256)
    config = module_of(ROOT / 'configs/stylegan2.py').get_config('ffhq256')
    with pytest.raises(ConfigError, match=r'config\.model\.networks\.clamp=256\.0, here it is 0\.0'):
        mapping.check(record.complete(config), record.translate(found), 'it')


def test_the_default_of_a_network_counts():
    config, record = module_of(ROOT / 'configs/ddpm.py').get_config('cifar10'), published.record('diffusers_ddpm')
    with pytest.raises(ConfigError, match='config.model.network.stride_padding'):
        mapping.check(record.complete(config), record.translate({**DDPM, 'downsample_padding': 1}), 'it')


def test_pickled_trees_hold_arrays_and_plain_values_only(tmp_path):
    path = tmp_path / 'file.pkl'
    path.write_bytes(pickle.dumps({'a': [1, 2.5, 'x', None, np.float64(3)], 'b': np.arange(3)}))
    found = torch_file.read_modules(path)
    assert found['a'] == [1, 2.5, 'x', None, 3.0] and found['b'].tolist() == [0, 1, 2]
    path.write_bytes(pickle.dumps({'a': np.array([{}], dtype=object)}))
    with pytest.raises(Exception, match='no numbers'):
        torch_file.read_modules(path)


def test_the_table_of_kl_f8_names_all_variables_at_full_size():
    config = module_of(ROOT / 'configs/vae.py').get_config('kl_f8')
    record, shared = published.record('kl_f8'), dict(multipliers=(1, 2, 4, 4), blocks=2)
    encoder, decoder = SpatialEncoder(128, 4, **shared), SpatialDecoder(128, 4, (32, 32, 3), scale=None, **shared)
    leaves = mapping.paths(
        {
            'encoder': jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))),
            'decoder': jax.eval_shape(decoder.init, jax.random.key(0), jnp.zeros((1, 64))),
        }
    )
    entries = record.tables(record.complete(config))['autoencoder'].entries
    assert {entry.ours for entry in entries} == {*leaves}
    assert sum(leaf.size for leaf in leaves.values()) == 83_653_863


# Fixture -> shapes of its inputs at the published size, and the published number of parameters.
FULL = {
    'taming_vqgan-vqgan.npz': (
        dict(x=(1, 256, 256, 3), z=(1, 16, 16, 256), entries=(1, 16, 16, 256)),
        72_141_699 + 2_765_633,
    ),
    'rosinality_vq_vae2-vqvae.npz': (
        dict(x=(1, 256, 256, 3), features=(1, 64, 64, 128))
        | dict.fromkeys(('above', 'top_z'), (1, 32, 32, 64))
        | dict.fromkeys(('below', 'z'), (1, 64, 64, 64)),
        1_388_867,
    ),
    'zalando_vq_vae-vqvae.npz': (
        dict(x=(1, 32, 32, 3), z=(1, 8, 8, 64), codes=(1, 8, 8, 64)),
        364_160 + 8256 + 290_307 - 4 * (32 + 128),  # without the biases of the residual blocks
    ),
}


@pytest.mark.parametrize('name', FULL)
def test_the_tables_name_all_variables_at_full_size(name):
    inputs, count = FULL[name]
    config, record = published_config(name), published.record(name.partition('-')[0])
    leaves = {}
    for network, (module, places, _) in modules(name, config).items():
        given = [jnp.zeros(inputs[place]) if place in inputs else place for place in places]
        leaves[network] = jax.eval_shape(lambda m=module, g=given: m.init(jax.random.key(0), *g))
    table = next(iter(record.tables(record.complete(config)).values()))
    leaves = mapping.paths(leaves)
    assert {entry.ours for entry in table.entries} | {*table.constants} == {*leaves}
    assert sum(leaf.size for path, leaf in leaves.items() if path.split('/')[1] == 'params') == count
