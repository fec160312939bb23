"""huggingface/diffusers, UNet2DModel of DDPM: the layout of google/ddpm-cifar10-32.

`config.json` is a file of its own. Files of before diffusers 0.14 name the layers of attention query, key, value and
proj_attn; the table `older` has these names.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from genlab.errors import ConfigError
from genlab.networks.diffusion.unet import UNet
from genlab.published.mapping import CONV, DENSE, Entry, Keys, Record, Table, affine, norm, residual

NEWER, OLDER = ('to_q', 'to_k', 'to_v', 'to_out.0'), ('query', 'key', 'value', 'proj_attn')


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the tables for the two generations of names."""
    return {name: Table((*_unet(config, names),)) for name, names in (('newer', NEWER), ('older', OLDER))}


def _unet(config: ConfigDict, names: tuple[str, ...]) -> Iterator[Entry]:
    network, ours = config.model.network, 'denoiser/params'
    levels, blocks = len(network.multipliers), network.blocks
    widths = [network.width * multiplier for multiplier in network.multipliers]
    attends = [config.data.resolution // network.patch >> i in network.attention for i in range(levels)]
    yield from affine('conv_in', f'{ours}/input', CONV)
    yield from affine('time_embedding.linear_1', f'{ours}/level_0', DENSE)
    yield from affine('time_embedding.linear_2', f'{ours}/level_1', DENSE)
    skips, last = [network.width], network.width
    for i in range(levels):
        for j in range(blocks):
            block = f'{ours}/down_{i}_{j}'
            yield from _block(f'down_blocks.{i}.resnets.{j}', block, last != widths[i])
            if attends[i]:
                yield from attention(f'down_blocks.{i}.attentions.{j}', block, names)
            last = widths[i]
            skips.append(last)
        if i < levels - 1:
            yield from affine(f'down_blocks.{i}.downsamplers.0.conv', f'{ours}/down_{i + 1}', CONV)
            skips.append(last)
    yield from _block('mid_block.resnets.0', f'{ours}/middle_0', False)
    yield from attention('mid_block.attentions.0', f'{ours}/middle_0', names)
    yield from _block('mid_block.resnets.1', f'{ours}/middle_1', False)
    for i in reversed(range(levels)):
        theirs = f'up_blocks.{levels - 1 - i}'
        for j in range(blocks + 1):
            block = f'{ours}/up_{i}_{j}'
            yield from _block(f'{theirs}.resnets.{j}', block, True)  # its input is joined with a skip
            if attends[i]:
                yield from attention(f'{theirs}.attentions.{j}', block, names)
        if i:
            yield from affine(f'{theirs}.upsamplers.0.conv', f'{ours}/up_{i}', CONV)
    yield from norm('conv_norm_out', f'{ours}/normalization')
    yield from affine('conv_out', f'{ours}/output', CONV)


def _block(theirs: str, ours: str, shortcut: bool) -> Iterator[Entry]:
    return residual(theirs, ours, embedding='time_emb_proj', shortcut='conv_shortcut' if shortcut else '')


def attention(
    theirs: str, ours: str, names: tuple[str, ...], normalization: str = 'attention_normalization'
) -> Iterator[Entry]:
    """Yields the tensors of a layer of attention, with `names` of NEWER or OLDER, and of the layer before it."""
    yield from norm(f'{theirs}.group_norm', f'{ours}/{normalization}')
    *query_key_value, output = names
    for part, name in enumerate(query_key_value):
        yield from affine(f'{theirs}.{name}', f'{ours}/attention/query_key_value', DENSE, part=(part, 3))
    yield from affine(f'{theirs}.{output}', f'{ours}/attention/output', DENSE)


def translate(found: Mapping[str, Any]) -> dict[str, Any]:
    """Translates `config.json` of a UNet2DModel."""
    keys = Keys(found)
    keys.drop('_class_name', '_diffusers_version', '_name_or_path', '_use_default_values', 'dropout')
    keys.only(act_fn='silu', center_input_sample=False, mid_block_scale_factor=1, resnet_time_scale_shift='default')
    keys.only(time_embedding_type='positional', attention_head_dim=None, flip_sin_to_cos=False, freq_shift=1)
    keys.only(add_attention=True, class_embed_type=None, num_class_embeds=None, attn_norm_num_groups=None)
    keys.only(num_train_timesteps=None, downsample_type='conv', upsample_type='conv', mid_block_type='UNetMidBlock2D')
    keys.only(time_embedding_dim=None)
    channels, side, widths = keys.take('in_channels', 3), keys.take('sample_size'), keys.take('block_out_channels')
    keys.only(out_channels=channels)
    down, up = keys.take('down_block_types'), keys.take('up_block_types')
    kinds = {'DownBlock2D': False, 'AttnDownBlock2D': True, 'UpBlock2D': False, 'AttnUpBlock2D': True}
    for kind in (*down, *up):
        if kind not in kinds:
            raise ConfigError(f'the block {kind} of its configuration is not supported, only {", ".join(kinds)}')
    attends = [kinds[kind] for kind in down]
    if attends != [kinds[kind] for kind in reversed(up)]:
        raise ConfigError('its configuration has attention at other levels of up_block_types than of down_block_types')
    padding = keys.take('downsample_padding', 1)
    groups, epsilon = keys.take('norm_num_groups', 32), float(keys.take('norm_eps', 1e-5))
    expected = {
        'data.resolution': side,
        'data.channels': channels,
        'model.network.name': 'unet',
        'model.network.width': widths[0],
        'model.network.multipliers': tuple(width // widths[0] for width in widths),
        'model.network.blocks': keys.take('layers_per_block', 2),
        'model.network.attention': tuple(side >> i for i, attend in enumerate(attends) if attend),
        'model.network.heads': 1,
    }
    expected['model.network.epsilon'] = epsilon
    expected['model.network.stride_padding'] = (0, 1) if padding == 0 else (padding, padding)
    expected['model.network.endpoint'] = True
    expected['model.network.resample'] = 'convolution'
    if any(width // 4 < groups or width % groups for width in widths):  # else ours are as many
        expected['model.network.groups'] = groups
    keys.done()
    return expected


RECORD = Record('huggingface/diffusers (DDPM)', tables, translate, modules={'model.network': UNet})
