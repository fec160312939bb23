"""huggingface/diffusers, AutoencoderKL: KL-f8 in the layout of stabilityai/sd-vae-ft-mse, whose codes DiT models.

`config.json` is a file of its own. The table `older` has the names of attention of before diffusers 0.14.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from genlab.errors import ConfigError
from genlab.networks.layers.normalization import group_count
from genlab.published.diffusers_ddpm import NEWER, OLDER, attention
from genlab.published.mapping import CONV, Entry, Keys, Record, Table, affine, norm, residual


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the tables for the two generations of names."""
    networks = config.model.networks
    return {
        name: Table((*_encoder(networks, names), *_decoder(networks, names)))
        for name, names in (('newer', NEWER), ('older', OLDER))
    }


def _encoder(networks: ConfigDict, names: tuple[str, ...]) -> Iterator[Entry]:
    ours, last, levels = 'encoder/params', networks.width, len(networks.multipliers)
    yield from affine('encoder.conv_in', f'{ours}/input', CONV)
    for i, multiplier in enumerate(networks.multipliers):
        width = networks.width * multiplier
        for j in range(networks.blocks):
            yield from _block(f'encoder.down_blocks.{i}.resnets.{j}', f'{ours}/block_{i}_{j}', last != width)
            last = width
        if i < levels - 1:
            yield from affine(f'encoder.down_blocks.{i}.downsamplers.0.conv', f'{ours}/down_{i + 1}', CONV)
    yield from _middle('encoder.mid_block', f'{ours}/middle', names)
    yield from norm('encoder.conv_norm_out', f'{ours}/normalization')
    yield from affine('encoder.conv_out', f'{ours}/output', CONV)
    yield from affine('quant_conv', f'{ours}/moments', CONV)


def _decoder(networks: ConfigDict, names: tuple[str, ...]) -> Iterator[Entry]:
    ours, levels = 'decoder/params', len(networks.multipliers)
    last = networks.width * networks.multipliers[-1]
    yield from affine('post_quant_conv', f'{ours}/codes', CONV)
    yield from affine('decoder.conv_in', f'{ours}/input', CONV)
    yield from _middle('decoder.mid_block', f'{ours}/middle', names)
    for i, multiplier in reversed([*enumerate(networks.multipliers)]):
        width, theirs = networks.width * multiplier, f'decoder.up_blocks.{levels - 1 - i}'
        for j in range(networks.blocks + 1):
            yield from _block(f'{theirs}.resnets.{j}', f'{ours}/block_{i}_{j}', last != width)
            last = width
        if i:
            yield from affine(f'{theirs}.upsamplers.0.conv', f'{ours}/up_{i}', CONV)
    yield from norm('decoder.conv_norm_out', f'{ours}/normalization')
    yield from affine('decoder.conv_out', f'{ours}/output', CONV)


def _block(theirs: str, ours: str, shortcut: bool) -> Iterator[Entry]:
    return residual(theirs, ours, shortcut='conv_shortcut' if shortcut else '')


def _middle(theirs: str, ours: str, names: tuple[str, ...]) -> Iterator[Entry]:
    for j in (0, 1):
        yield from _block(f'{theirs}.resnets.{j}', f'{ours}/block_{j}', False)
    yield from attention(f'{theirs}.attentions.0', ours, names, 'normalization')


def translate(found: Mapping[str, Any]) -> dict[str, Any]:
    """Translates `config.json` of an AutoencoderKL. Its `scaling_factor` scales codes for another network."""
    keys = Keys(found)
    keys.drop('_diffusers_version', '_name_or_path', '_use_default_values', 'scaling_factor', 'sample_size')
    keys.drop('force_upcast')
    keys.only(_class_name='AutoencoderKL', act_fn='silu', shift_factor=None, latents_mean=None, latents_std=None)
    keys.only(use_quant_conv=True, use_post_quant_conv=True, mid_block_add_attention=True)
    channels, widths = keys.take('in_channels', 3), keys.take('block_out_channels', (64,))
    keys.only(out_channels=channels)
    down, up = ('DownEncoderBlock2D',) * len(widths), ('UpDecoderBlock2D',) * len(widths)
    keys.only(down_block_types=down, up_block_types=up)
    groups, ours = keys.take('norm_num_groups', 32), sorted({group_count(width) for width in widths})
    if ours != [groups]:
        raise ConfigError(
            f'the key norm_num_groups={groups} of its configuration is not supported: '
            f'these block_out_channels have {", ".join(map(str, ours))} here'
        )
    translated = {
        'data.channels': channels,
        'model.latent_size': keys.take('latent_channels', 4),
        'model.networks.name': 'spatial',
        'model.networks.width': widths[0],
        'model.networks.multipliers': tuple(width // widths[0] for width in widths),
        'model.networks.blocks': keys.take('layers_per_block', 1),
    }
    keys.done()
    return translated


RECORD = Record('huggingface/diffusers (KL-f8)', tables, translate)
