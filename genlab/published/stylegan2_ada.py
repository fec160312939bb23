"""NVlabs/stylegan2-ada-pytorch: network pickles with `G_ema` and `D`, without labels, with their configuration.

A pickle fills all three networks: mapping and generator from the moving averages, and the discriminator. The constant
noise of each layer is a buffer there and here.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from genlab.errors import ConfigError
from genlab.networks.adversarial.stylegan2 import Synthesis
from genlab.networks.layers.resampling import doublings
from genlab.published.mapping import CONV, DENSE, SAME, Entry, Keys, Layout, Record, Table, affine, permuted, reshaped

NETWORKS = ('G_ema', 'D')  # of a pickle
FILTER = (1, 3, 3, 1)
FILTERS = ('.resample_filter',)  # buffers that the configuration determines
CONSTANT = permuted(1, 2, 0)  # [channels, h, w]
NUMBER = Layout(lambda array, shape: array.reshape(shape), lambda array, shape: array.reshape(()))
NOISE = Layout(lambda array, shape: array[..., None], lambda array, shape: array[..., 0])  # [h, w]


def _flattened() -> Layout:
    """Returns the layout of the dense layer behind maps of 4x4, which the peer flattens channel by channel."""

    def read(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return maps.read(array.reshape(len(array), -1, 4, 4), shape)

    maps = reshaped(CONV, lambda ours: (4, 4, ours[0] // 16, ours[1]))
    return Layout(read, lambda array, shape: maps.write(array, shape).reshape(shape[1], shape[0]))


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the tables of the generator with its mapping, and of the discriminator."""
    levels = doublings(config.data.resolution)
    return {
        'generator': Table((*_mapping(config), *_synthesis(levels)), FILTERS, sections=(('G_ema', 'state'), ())),
        'discriminator': Table((*_discriminator(levels),), FILTERS, sections=(('D', 'state'), ())),
    }


def _mapping(config: ConfigDict) -> Iterator[Entry]:
    yield Entry('mapping.w_avg', 'mapping/batch_stats/mean', SAME)
    for i in range(config.model.networks.layers):
        yield from affine(f'mapping.fc{i}', f'mapping/params/dense_{i}', DENSE)


def _synthesis(levels: int) -> Iterator[Entry]:
    ours = 'generator/params'
    yield Entry('synthesis.b4.const', f'{ours}/constant', CONSTANT)
    for i in range(levels + 1):
        block = f'synthesis.b{4 * 2**i}'
        layers = {'conv1': f'convolution_{i}'} | ({'conv0': f'double_{i}'} if i else {})
        for theirs, name in layers.items():
            yield from _modulated(f'{block}.{theirs}', f'{ours}/{name}', f'{ours}/{name}_bias')
            yield Entry(f'{block}.{theirs}.noise_strength', f'{ours}/{name}_noise/strength', NUMBER)
            yield Entry(f'{block}.{theirs}.noise_const', f'generator/buffers/{name}_noise/noise', NOISE)
        yield from _modulated(f'{block}.torgb', f'{ours}/image_{i}', f'{ours}/image_bias_{i}')


def _modulated(theirs: str, ours: str, bias: str) -> Iterator[Entry]:
    yield Entry(f'{theirs}.weight', f'{ours}/kernel', CONV)
    yield Entry(f'{theirs}.bias', bias, SAME)
    yield from affine(f'{theirs}.affine', f'{ours}/style', DENSE)


def _discriminator(levels: int) -> Iterator[Entry]:
    ours = 'discriminator/params'
    yield from affine(f'b{4 * 2**levels}.fromrgb', f'{ours}/image', CONV)
    for i in range(1, levels + 1):
        block = f'b{4 * 2**i}'
        yield from affine(f'{block}.conv0', f'{ours}/convolution_{i}', CONV)
        yield from affine(f'{block}.conv1', f'{ours}/halve_{i}', CONV)
        yield from affine(f'{block}.skip', f'{ours}/shortcut_{i}', CONV, bias=False)
    yield from affine('b4.conv', f'{ours}/convolution_0', CONV)
    yield from affine('b4.fc', f'{ours}/dense', _flattened())
    yield from affine('b4.out', f'{ours}/logit', DENSE)


def translate(found: Mapping[str, Any]) -> dict[str, Any]:
    """Translates the arguments of the constructors of both networks of a pickle; tensors alone have none."""
    given = {name: found[name]['init'] for name in NETWORKS if isinstance(found.get(name), Mapping)}
    if 'G_ema' not in given:
        return {}
    keys = Keys(found)
    keys.drop(*NETWORKS, 'G', 'augment_pipe', 'training_set_kwargs')
    keys.done()
    expected = _generator(given['G_ema'])
    if 'D' in given:
        expected['model.networks.group'] = _group(given['D'], expected)
    return expected


def _generator(found: Mapping[str, Any]) -> dict[str, Any]:
    keys = Keys(found)
    keys.only(c_dim=0)
    mapping, synthesis = (Keys(keys.take(f'{name}_kwargs', {})) for name in ('mapping', 'synthesis'))
    width = keys.take('w_dim')
    mapping.drop('embed_features', 'w_avg_beta')  # of labels, and of training
    mapping.only(activation='lrelu', lr_multiplier=0.01)
    if mapping.take('layer_features') not in (None, width):
        raise ConfigError(f'the key layer_features of its configuration is not supported, only {width}')
    synthesis.drop('num_fp16_res', 'fp16_channels_last')
    synthesis.only(architecture='skip', resample_filter=FILTER, use_noise=True, activation='lrelu', kernel_size=3)
    expected = {
        'data.resolution': keys.take('img_resolution'),
        'data.channels': keys.take('img_channels'),
        'model.latent_size': keys.take('z_dim'),
        'model.classes': 0,
        'model.networks.name': 'stylegan2',
        'model.networks.width': width,
        'model.networks.layers': mapping.take('num_layers', 8),
        'model.networks.base': synthesis.take('channel_base', 32768),
        'model.networks.most': synthesis.take('channel_max', 512),
        'model.networks.clamp': float(synthesis.take('conv_clamp') or 0.0),
    }
    for part in (keys, mapping, synthesis):
        part.done()
    return expected


def _group(found: Mapping[str, Any], expected: Mapping[str, Any]) -> int:
    """Checks the arguments of the discriminator against the generator's. Returns the group of its deviation."""
    keys = Keys({'channel_base': 32768, 'channel_max': 512, 'conv_clamp': None, **found})
    keys.rest['conv_clamp'] = float(keys.rest['conv_clamp'] or 0.0)
    keys.drop('num_fp16_res', 'mapping_kwargs', 'cmap_dim')  # the last two belong to labels
    keys.only(c_dim=0, architecture='resnet', conv_clamp=expected['model.networks.clamp'])
    keys.only(img_resolution=expected['data.resolution'], img_channels=expected['data.channels'])
    keys.only(channel_base=expected['model.networks.base'], channel_max=expected['model.networks.most'])
    block, epilogue = (Keys(keys.take(f'{name}_kwargs', {})) for name in ('block', 'epilogue'))
    block.drop('freeze_layers', 'fp16_channels_last')
    block.only(activation='lrelu', resample_filter=FILTER)
    epilogue.only(mbstd_num_channels=1, activation='lrelu')
    group = epilogue.take('mbstd_group_size', 4)
    for part in (keys, block, epilogue):
        part.done()
    if group is None:
        raise ConfigError('the key mbstd_group_size=None of its configuration is not supported, only a number')
    return int(group)


RECORD = Record('NVlabs/stylegan2-ada-pytorch', tables, translate, (), {'model.networks': Synthesis})
