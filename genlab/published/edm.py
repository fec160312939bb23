"""NVlabs/edm: network pickles of the architectures DDPM++ and NCSN++ (SongUNet), with their configuration.

A channel of the packed layer of attention is (head, channel, one of query, key and value) there. Blocks are named by
their side.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from genlab.networks.diffusion.unet import UNet
from genlab.published.mapping import (
    CONV,
    CONV_DENSE,
    DENSE,
    SAME,
    Entry,
    Keys,
    Record,
    Table,
    affine,
    norm,
    packed,
    residual,
)

FILTERS = ('.resample_filter',)  # buffers that the configuration determines
ORDER = ('head', 'channel', 'part')


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the table of the network of moving averages."""
    return {'ema': Table((*_unet(config),), FILTERS, sections=(('ema', 'state'),))}


def _unet(config: ConfigDict) -> Iterator[Entry]:
    network, ours = config.model.network, 'denoiser/params'
    heads, levels, top = network.heads, len(network.multipliers), config.data.resolution
    widths = [network.width * multiplier for multiplier in network.multipliers]
    attends = [top >> i in network.attention for i in range(levels)]
    for j in (0, 1):
        yield from affine(f'model.map_layer{j}', f'{ours}/level_{j}', DENSE)
    if network.fourier:
        yield Entry('model.map_noise.freqs', 'denoiser/buffers/waves/frequencies', SAME)
    if network.augmentation:
        yield from affine('model.map_augment', f'{ours}/augmentation', DENSE, bias=False)
    if config.model.classes:
        yield from affine('model.map_label', f'{ours}/labels', DENSE)
    yield from affine(f'model.enc.{top}x{top}_conv', f'{ours}/input', CONV)
    last = network.width
    for i in range(levels):
        side = f'model.enc.{top >> i}x{top >> i}'
        if i:
            yield from _block(f'{side}_down', f'{ours}/down_{i}', True, 0)
            if network.residual_input:
                yield from affine(f'{side}_aux_residual', f'{ours}/image_{i}', CONV)
        for j in range(network.blocks):
            yield from _block(f'{side}_block{j}', f'{ours}/down_{i}_{j}', last != widths[i], heads * attends[i])
            last = widths[i]
    for i in reversed(range(levels)):
        side = f'model.dec.{top >> i}x{top >> i}'
        if i == levels - 1:
            for j in (0, 1):
                yield from _block(f'{side}_in{j}', f'{ours}/middle_{j}', False, heads * (j == 0))
        else:
            yield from _block(f'{side}_up', f'{ours}/up_{i + 1}', True, 0)
        for j in range(network.blocks + 1):
            attend = attends[i] and j == network.blocks
            yield from _block(f'{side}_block{j}', f'{ours}/up_{i}_{j}', True, heads * attend)
    yield from norm(f'model.dec.{top}x{top}_aux_norm', f'{ours}/normalization')
    yield from affine(f'model.dec.{top}x{top}_aux_conv', f'{ours}/output', CONV)


def _block(theirs: str, ours: str, shortcut: bool, heads: int) -> Iterator[Entry]:
    yield from residual(theirs, ours, first=0, embedding='affine', shortcut='skip' if shortcut else '')
    if heads:
        yield from norm(f'{theirs}.norm2', f'{ours}/attention_normalization')
        joined = f'{ours}/attention/query_key_value'
        yield Entry(f'{theirs}.qkv.weight', f'{joined}/kernel', packed(CONV_DENSE, heads, ORDER))
        yield Entry(f'{theirs}.qkv.bias', f'{joined}/bias', packed(SAME, heads, ORDER))
        yield from affine(f'{theirs}.proj', f'{ours}/attention/output', CONV_DENSE)


def translate(found: Mapping[str, Any]) -> dict[str, Any]:
    """Translates the arguments of the constructor of EDMPrecond, which are passed on to SongUNet."""
    keys = Keys(found)
    keys.drop('use_fp16', 'sigma_min', 'sigma_max', 'dropout')
    keys.only(model_type='SongUNet', label_dropout=0, channel_mult_emb=4, decoder_type='standard')
    side, channels, classes = keys.take('img_resolution'), keys.take('img_channels'), keys.take('label_dim', 0)
    fourier, encoder = keys.take('embedding_type', 'positional'), keys.take('encoder_type', 'standard')
    keys.only(channel_mult_noise=2 if fourier == 'fourier' else 1)
    expected = {
        'data.resolution': side,
        'data.channels': channels,
        'model.deviation': float(keys.take('sigma_data', 0.5)),
        'model.classes': classes,
        'model.network.name': 'unet',
        'model.network.width': keys.take('model_channels', 128),
        'model.network.multipliers': keys.take('channel_mult', (1, 2, 2, 2)),
        'model.network.blocks': keys.take('num_blocks', 4),
        'model.network.attention': keys.take('attn_resolutions', (16,)),
        'model.network.attend_last': True,
        'model.network.heads': 1,
        'model.network.resample': 'block',
        'model.network.skip_scale': 0.5**0.5,
        'model.network.augmentation': keys.take('augment_dim', 0),
        'model.network.fourier': {'fourier': True, 'positional': False}.get(fourier, fourier),
        'model.network.residual_input': {'residual': True, 'standard': False}.get(encoder, encoder),
        'model.network.smooth': {(1, 1): False, (1, 3, 3, 1): True}.get(keys.take('resample_filter', (1, 1))),
    }
    keys.done()
    return expected


RECORD = Record('NVlabs/edm (DDPM++, NCSN++)', tables, translate, ('ema', 'init'), {'model.network': UNet})
